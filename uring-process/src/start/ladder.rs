//! Which executor works here.

use std::sync::{
    OnceLock,
    atomic::{AtomicU8, Ordering},
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
                "clone3" => forced.executor = Some(Executor::Clone3),
                "clone" => forced.executor = Some(Executor::Clone),
                "fork" => forced.executor = Some(Executor::Fork),
                "vfork" => forced.vfork = true,
                "pipe" => forced.pipe = true,
                "epoll" => forced.epoll = true,
                other => eprintln!(
                    "URING_PROCESS_FORCE: {other:?} is none of clone3, clone, fork, vfork, pipe, epoll; ignored"
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
    }

    #[test]
    fn a_worse_executor_wins() {
        assert!(Executor::Fork > Executor::Clone && Executor::Clone > Executor::Clone3);
    }
}
