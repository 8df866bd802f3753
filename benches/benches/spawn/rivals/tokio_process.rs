//! tokio::process, on both of tokio's runtimes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{process::Command, runtime::Runtime};

use super::{Rival, What};

pub(crate) struct Tokio {
    runtime: Runtime,
    name: &'static str,
    what: What,
    command: Command,
}

impl Tokio {
    pub(crate) fn current_thread(what: &What) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        Self::new(runtime, "tokio, current thread", what)
    }

    pub(crate) fn multi_thread(what: &What) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        Self::new(runtime, "tokio, multi thread", what)
    }

    fn new(
        mut runtime: tokio::runtime::Builder,
        name: &'static str,
        what: &What,
    ) -> io::Result<Self> {
        Ok(Self {
            runtime: runtime.enable_all().build()?,
            name,
            what: what.clone(),
            command: Command::new(&what.program),
        })
    }
}

impl Rival for Tokio {
    fn name(&self) -> String {
        self.name.into()
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        let Self {
            runtime, command, ..
        } = self;
        runtime.block_on(async {
            let begin = Instant::now();
            let mut child = command.spawn()?;
            let blocked = begin.elapsed();
            child.wait().await?;
            Ok(blocked)
        })
    }

    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration> {
        let begun = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        self.runtime.block_on(async {
            let tasks: Vec<_> = (0..in_flight.min(count))
                .map(|_| {
                    let (begun, mut command) =
                        (Arc::clone(&begun), Command::new(&self.what.program));
                    tokio::spawn(async move {
                        while begun.fetch_add(1, Ordering::Relaxed) < count {
                            command.spawn()?.wait().await?;
                        }
                        Ok::<(), io::Error>(())
                    })
                })
                .collect();
            for task in tasks {
                task.await.map_err(io::Error::other)??;
            }
            Ok::<(), io::Error>(())
        })?;
        Ok(begin.elapsed())
    }
}
