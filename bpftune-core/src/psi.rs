//! Pressure triggers: descriptors that are ready (`EPOLLPRI`) when tasks stall. They cost nothing while none do.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    time::Duration,
};

/// Ready when some task, or all (`full`), stalled for `stall` out of `window`. `path` is a file of /proc/pressure.
///
/// Windows that are multiples of two seconds need no `CAP_SYS_RESOURCE` (Documentation/accounting/psi.rst). The kernel
/// tells of a stall once, to whoever polls first: the descriptor must be in the epoll set that is waited on, not in
/// a set within it: see [`Source::pressure`](crate::Source::pressure).
///
/// # Errors
/// Numbers that the kernel refuses, or a kernel without PSI (Linux 5.2); before 6.4 without `CAP_SYS_RESOURCE`, too.
pub fn trigger(path: &Path, full: bool, stall: Duration, window: Duration) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let kind = if full { "full" } else { "some" };
    let text = format!("{kind} {} {}\0", stall.as_micros(), window.as_micros());
    file.write_all(text.as_bytes())?;
    Ok(file)
}
