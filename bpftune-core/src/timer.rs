//! A timer that sleeps until something is due, and for ever where nothing is.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use crate::{Error, Result};

/// It sleeps: see [`Timer::set`].
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    /// One that is never due.
    ///
    /// # Errors
    /// Where the kernel has no room for it.
    pub fn new() -> Result<Timer> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)
            .map(Timer)
            .map_err(Error::system("timerfd_create"))
    }

    /// Readable when it is due.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Takes note that it was due; `false` where it was not, or was set anew meanwhile.
    pub fn take(&self) -> bool {
        self.0.wait().is_ok()
    }

    /// Due at the earliest of these, in a moment where that is past; never where there is none.
    pub fn set(&self, due: impl IntoIterator<Item = Instant>) {
        let set = match due.into_iter().min() {
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                let left = TimeSpec::from_duration(left.max(Duration::from_millis(1)));
                self.0
                    .set(Expiration::OneShot(left), TimerSetTimeFlags::empty())
            }
            None => self.0.unset(),
        };
        if let Err(errno) = set {
            tracing::warn!("timerfd_settime: {errno}");
        }
    }
}
