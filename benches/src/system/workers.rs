//! Workers that make a load until they go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{Error, Result};

/// Some threads, which look at `over` now and then. Dropping this ends them.
#[derive(Default)]
pub(super) struct Workers {
    over: Arc<AtomicBool>,
    running: Vec<JoinHandle<Result<()>>>,
}

impl Workers {
    /// Set once they are to end.
    pub(super) fn over(&self) -> Arc<AtomicBool> {
        self.over.clone()
    }

    pub(super) fn add(&mut self, thread: JoinHandle<Result<()>>) {
        self.running.push(thread);
    }

    /// By how much a count of theirs grows in the second to come. None of them may have ended.
    pub(super) fn per_second(&mut self, count: &AtomicU64) -> Result<f64> {
        if let Some(ended) = self.running.iter().position(JoinHandle::is_finished) {
            let ended = self.running.remove(ended).join();
            ended.expect("the thread does not panic")?;
            return Err(Error::other("the load ended", "nobody told it to"));
        }
        let (start, before) = (Instant::now(), count.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_secs(1));
        let grown = count.load(Ordering::Relaxed) - before;
        Ok(grown as f64 / start.elapsed().as_secs_f64())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}
