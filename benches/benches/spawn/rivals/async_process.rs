//! async-process. Its futures run on any executor: tokio's here, on one thread.

use std::{
    io,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ::async_process::Command;
use tokio::runtime::Runtime;

use super::{Rival, What};

pub(crate) struct AsyncProcess {
    runtime: Runtime,
    what: What,
    command: Command,
}

fn command(what: &What) -> Command {
    let mut command = Command::new(&what.program);
    command
        .stdin(Stdio::inherit())
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit());
    command
}

impl AsyncProcess {
    pub(crate) fn new(what: &What) -> io::Result<Self> {
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            what: what.clone(),
            command: command(what),
        })
    }
}

impl Rival for AsyncProcess {
    fn name(&self) -> String {
        "async-process".into()
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        let Self {
            runtime, command, ..
        } = self;
        runtime.block_on(async {
            let begin = Instant::now();
            let mut child = command.spawn()?;
            let blocked = begin.elapsed();
            child.status().await?;
            Ok(blocked)
        })
    }

    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration> {
        let begun = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        self.runtime.block_on(async {
            let tasks: Vec<_> = (0..in_flight.min(count))
                .map(|_| {
                    let (begun, mut command) = (Arc::clone(&begun), command(&self.what));
                    tokio::spawn(async move {
                        while begun.fetch_add(1, Ordering::Relaxed) < count {
                            command.spawn()?.status().await?;
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
