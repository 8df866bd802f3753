//! The start of a process, as a future.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{Child, process::Process};
use crate::ExecPlan;

/// Starts a process; done when its program runs. Made by [`Command::spawn_async`] and
/// [`ExecPlan::spawn_async`].
///
/// Nothing happens before the first poll, which makes the process in the polling thread. Dropped
/// later, before it is done, it leaves the process on its way, unless
/// [`kill_on_drop`](Self::kill_on_drop) says otherwise; the process is waited for in any case.
///
/// [`Command::spawn_async`]: crate::Command::spawn_async
#[must_use = "a future does nothing unless it is awaited"]
pub struct Spawn {
    state: State,
    kill_on_drop: bool,
}

enum State {
    Plan(io::Result<ExecPlan>),
    Starting(Arc<Process>),
    Done,
}

impl Spawn {
    pub(super) fn new(plan: io::Result<ExecPlan>) -> Self {
        Self {
            state: State::Plan(plan),
            kill_on_drop: false,
        }
    }

    /// Whether the process is killed where this future, or the [`Child`] that it gives, is dropped
    /// before its end. Not so, unless it is set.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use uring_process::Command;
    /// let child = Command::new("sleep").arg("60").spawn_async().kill_on_drop(true).await?;
    /// drop(child); // and sleep with it
    /// # Ok(())
    /// # }
    /// ```
    pub fn kill_on_drop(mut self, kill: bool) -> Self {
        self.kill_on_drop = kill;
        self
    }

    pub(super) fn set_kill_on_drop(&mut self, kill: bool) {
        self.kill_on_drop = kill;
    }

    /// Makes the process now, unless it has been made.
    pub(crate) fn begin(&mut self) {
        if let State::Plan(plan) = &self.state {
            self.state = match plan {
                Ok(plan) => match Process::start(plan) {
                    Ok(process) => State::Starting(process),
                    Err(error) => State::Plan(Err(error)),
                },
                Err(_) => return,
            };
        }
    }
}

impl Future for Spawn {
    type Output = io::Result<Child>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.begin();
        if let State::Starting(process) = &self.state {
            let pipes = std::task::ready!(process.poll_running(cx));
            let process = Arc::clone(process);
            self.state = State::Done;
            let child = pipes.map_err(io::Error::from);
            return Poll::Ready(
                child.and_then(|pipes| Child::new(process, pipes, self.kill_on_drop)),
            );
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Plan(Err(error)) => Poll::Ready(Err(error)),
            _ => panic!("polled after it was done"),
        }
    }
}

impl Drop for Spawn {
    fn drop(&mut self) {
        if let State::Starting(process) = &self.state {
            if self.kill_on_drop {
                let _ = process.kill();
            }
            process.abandon();
        }
    }
}

impl std::fmt::Debug for Spawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = f.debug_struct("Spawn");
        if let State::Starting(process) = &self.state {
            all.field("pid", &process.pid());
        }
        all.field("kill_on_drop", &self.kill_on_drop)
            .finish_non_exhaustive()
    }
}
