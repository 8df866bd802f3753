//! Where a thread runs.

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{Error, Result};

/// Has the calling thread, and those that it starts from then on, run on this processor only.
///
/// # Errors
/// Where there is no such processor, or this process may not use it.
pub fn stay_on(cpu: usize) -> Result<()> {
    let mut one = CpuSet::new();
    one.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &one))
        .map_err(Error::doing(format!("cannot run on processor {cpu}")))
}

/// Does it in a thread that stays on this processor.
///
/// # Errors
/// As [`stay_on`], and its own.
///
/// # Panics
/// Where it does.
pub fn on_processor<T: Send>(cpu: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let thread = || stay_on(cpu).and_then(|()| work());
    std::thread::scope(|scope| scope.spawn(thread).join().expect("it does not panic"))
}
