//! Which executor works here.

use std::{
    io,
    sync::{
        OnceLock,
        atomic::{AtomicU8, Ordering},
    },
};

use uring_sys_ext::{
    discovery::{self, Candidates},
    opcode::OpCode,
};

use crate::sys::raw::HAS_CLONE;

/// A way to make a process, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Executor {
    Clone3 = 0,
    Clone = 1,
    Fork = 2,
}

/// What `URING_PROCESS_FORCE` asks for: words, separated by commas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forced {
    /// `kernel`: the kernel's operation, for all that it can express.
    pub(crate) kernel: bool,
    /// `clone3`, `clone` or `fork`: this executor and no better one.
    pub(crate) executor: Option<Executor>,
    /// `vfork`: the caller is stopped until the exec (`CLONE_VFORK`), to measure what that costs.
    pub(crate) vfork: bool,
    /// `pipe`: no futex on rings, as before Linux 6.7.
    pub(crate) pipe: bool,
    /// `epoll`: no io_uring for futures.
    pub(crate) epoll: bool,
}

impl Forced {
    fn parse(text: &str) -> Self {
        let mut forced = Self::default();
        for word in text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            match word {
                "kernel" => forced.kernel = true,
                "clone3" => forced.executor = Some(Executor::Clone3),
                "clone" => forced.executor = Some(Executor::Clone),
                "fork" => forced.executor = Some(Executor::Fork),
                "vfork" => forced.vfork = true,
                "pipe" => forced.pipe = true,
                "epoll" => forced.epoll = true,
                other => eprintln!(
                    "URING_PROCESS_FORCE: {other:?} is none of kernel, clone3, clone, fork, vfork, pipe, epoll; ignored"
                ),
            }
        }
        forced
    }
}

/// Read once.
pub(crate) fn forced() -> Forced {
    static FORCED: OnceLock<Forced> = OnceLock::new();
    *FORCED.get_or_init(|| Forced::parse(&std::env::var("URING_PROCESS_FORCE").unwrap_or_default()))
}

/// The number of the kernel's operation, where processes are to be made by it.
///
/// The first call that comes so far asks the kernel; a kernel older than the numbers in question is not asked, nor one
/// that may end this process for the asking, by a filter of system calls.
///
/// # Errors
/// `URING_PROCESS_FORCE` asks for it, and the kernel has proved to have none.
pub(crate) fn operation() -> io::Result<Option<OpCode>> {
    static FOUND: OnceLock<Option<OpCode>> = OnceLock::new();
    let forced = forced();
    if forced.executor.is_some() || forced.vfork || forced.pipe {
        return Ok(None);
    }
    if let Some(Some(number)) = FOUND.get() {
        return Ok(Some(*number));
    }
    if forced.kernel {
        return match discovery::get(&Candidates::default()) {
            Ok(found) if found.process.is_none() => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "URING_PROCESS_FORCE asks for the kernel's own operation, and this kernel has none; \
                 leave the word kernel out",
            )),
            // A sandbox that has no io_uring: as ever, the next takes over.
            found => Ok(*FOUND.get_or_init(|| found.ok().and_then(|found| found.process))),
        };
    }
    Ok(*FOUND.get_or_init(|| {
        let may_ask = is_new_enough() && !has_filter();
        let found = may_ask.then(|| discovery::get(&Candidates::default()).ok());
        found.flatten().and_then(|found| found.process)
    }))
}

/// Linux 6.12, the first in which a number that discovery tries was free.
fn is_new_enough() -> bool {
    // SAFETY: all zeroes is a value of it.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: writes the structure.
    unsafe { libc::uname(&raw mut name) };
    let release = name.release.map(|c| c as u8);
    let text = String::from_utf8_lossy(&release);
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 12)
}

/// A seccomp filter is in force for this thread.
fn has_filter() -> bool {
    // SAFETY: integers only. In the strict mode it would end this thread, but so would all that comes before.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) > 0 }
}

/// The best that is not known to be refused.
static BEST: AtomicU8 = AtomicU8::new(Executor::Clone3 as u8);

pub(crate) fn current() -> Executor {
    let best = match BEST.load(Ordering::Relaxed) {
        _ if !HAS_CLONE => Executor::Fork,
        0 => Executor::Clone3,
        1 => Executor::Clone,
        _ => Executor::Fork,
    };
    forced().executor.map_or(best, |forced| forced.max(best))
}

/// This executor works where a better one did not: begin here from now on.
pub(crate) fn keep(executor: Executor) {
    BEST.fetch_max(executor as u8, Ordering::Relaxed);
}

/// close_range(2) with both flags that are needed (Linux 5.11).
pub(crate) fn has_close_range() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let flags = libc::CLOSE_RANGE_CLOEXEC;
        // SAFETY: no descriptor has that number.
        unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, flags) == 0 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_reads_its_words() {
        assert_eq!(Forced::parse(""), Forced::default());
        let forced = Forced::parse("clone, pipe,epoll,nonsense");
        assert_eq!(forced.executor, Some(Executor::Clone));
        assert!(forced.pipe && forced.epoll && !forced.vfork);
        assert_eq!(Forced::parse("fork").executor, Some(Executor::Fork));
        assert!(!forced.kernel && Forced::parse("kernel").kernel);
    }

    #[test]
    fn a_worse_executor_wins() {
        assert!(Executor::Fork > Executor::Clone && Executor::Clone > Executor::Clone3);
    }
}
