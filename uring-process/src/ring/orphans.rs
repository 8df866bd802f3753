//! Children that nobody follows any more: waited for when they are over.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::sys::pidfd;

static ORPHANS: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
/// So that a start looks at one flag only where there are none.
static ANY: AtomicBool = AtomicBool::new(false);

pub(crate) fn adopt(pidfd: OwnedFd) {
    ORPHANS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(pidfd);
    ANY.store(true, Ordering::Release);
}

/// Waits for those that are over; does not block.
pub(crate) fn reap() {
    if !ANY.load(Ordering::Acquire) {
        return;
    }
    let mut orphans = ORPHANS.lock().unwrap_or_else(PoisonError::into_inner);
    orphans.retain(|pidfd| matches!(pidfd::try_wait(pidfd.as_fd()), Ok(None)));
    ANY.store(!orphans.is_empty(), Ordering::Release);
}
