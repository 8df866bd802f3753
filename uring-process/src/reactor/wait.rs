//! What a future holds while it waits.

use std::{
    io,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{Interest, Key, Listener, Reactor, lock};

/// One thing to wait for at a time, for one task. Cancelled where it is dropped.
#[derive(Default)]
pub(crate) struct Wait {
    flag: Arc<Flag>,
    armed: Option<(&'static Reactor, Key)>,
}

#[derive(Default)]
struct Flag(Mutex<State>);

#[derive(Default)]
struct State {
    fired: bool,
    waker: Option<Waker>,
}

impl Listener for Flag {
    fn fired(self: Arc<Self>, _: usize) {
        let mut state = lock(&self.0);
        state.fired = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Wait {
    /// Waits for this from now on; nothing else is waited for.
    ///
    /// # Errors
    /// The reactor could not be started.
    pub(crate) fn arm(&mut self, interest: Interest) -> io::Result<()> {
        debug_assert!(self.armed.is_none(), "one wait at a time");
        let reactor = Reactor::get()?;
        lock(&self.flag.0).fired = false;
        let listener = Arc::clone(&self.flag) as Arc<dyn Listener>;
        self.armed = Some((reactor, reactor.arm(interest, listener, 0)));
        Ok(())
    }

    /// Ready where nothing is waited for. Else the task is woken when it has happened.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.armed.is_none() {
            return Poll::Ready(());
        }
        let mut state = lock(&self.flag.0);
        if state.fired {
            drop(state);
            self.armed = None;
            return Poll::Ready(());
        }
        let old = match &state.waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => state.waker.replace(cx.waker().clone()),
        };
        drop(state);
        // It may be the last handle of a task, whose end is anybody's code: not under the lock.
        drop(old);
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some((reactor, key)) = self.armed.take()
            && reactor.is_ours()
        {
            reactor.cancel(key);
            let waker = lock(&self.flag.0).waker.take();
            drop(waker);
        }
    }
}

/// A point in time.
pub(crate) struct Timer(Wait);

impl Timer {
    /// # Errors
    /// The reactor could not be started.
    pub(crate) fn after(time: Duration) -> io::Result<Self> {
        let mut wait = Wait::default();
        // What no clock can hold never comes.
        if let Some(when) = Instant::now().checked_add(time) {
            wait.arm(Interest::Until(when))?;
            return Ok(Self(wait));
        }
        wait.arm(Interest::Until(
            Instant::now() + Duration::from_secs(u64::from(u32::MAX)),
        ))?;
        Ok(Self(wait))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx)
    }
}
