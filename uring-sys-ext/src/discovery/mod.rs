//! Which process operations this kernel has, and under which numbers: proved, not believed.
//!
//! A number says nothing: the RFC's `CLONE` and a stock kernel's `RECV_ZC` have the same one, and
//! the kernel's own lists of operations cannot tell them apart. So each candidate is asked things
//! that only the operation in question answers so.
//!
//! # The process operation
//! Entries with [`OpFlags::PROBE`](crate::process::OpFlags::PROBE), directory -1, the empty path:
//!
//! 1. with 4096 bytes of attributes, the last one not zero: `E2BIG`, and the size that the kernel
//!    knows stands in [`known_size`](crate::process::Attributes::known_size), the stage
//!    `Attributes` in `stage`, nothing else changed;
//! 2. with unknown attribute flags: `EINVAL`, stage `Attributes`;
//! 3. with good attributes: `ENOENT`, stage `Path`.
//!
//! # The RFC's pair
//! `EXEC` alone: `EINVAL`. `CLONE` alone: `EINVAL`. A chain of `CLONE` and a no-op: 0 and 0. A
//! chain of `CLONE` and an `EXEC` of the empty path: 0 and `ENOENT`. The processes that this makes
//! on a kernel of the RFC are over at once and are reaped here; on any other none is made.
//!
//! # Why it is harmless, whatever a number means
//! * The entries go to a ring of their own, from a thread of its own whose descriptor table holds
//!   that ring only. They name descriptor 0 or -1, which is not open: nothing can be closed,
//!   truncated, read or written. A descriptor that an operation makes is made there and ends with
//!   the thread.
//! * The path is empty, and `AT_EMPTY_PATH` is not given: nothing can be made, renamed or removed.
//! * Pointers lead to private memory that stays as long as an operation could use it, and of the
//!   address ranges that an entry could be read to mean none starts at a page.
//! * `PROBE` makes the operations of mainline refuse the entry before they look at the rest.
//! * The thread takes no signals, so no handler of the program runs without its descriptors.
//! * Each question has a time limit; what has not answered by then is cancelled with its ring, and
//!   is "not supported".
//!
//! # Cost
//! A thread, a ring and two pages of memory for some tens of system calls. This is the one part of
//! the crate that allocates.

mod bench;
mod private;
mod prove;

use std::sync::Mutex;

use crate::{Error, opcode::OpCode};

/// Numbers to try.
///
/// The default tries those under which the known proposals exist: 58 and 59, which the RFC has in
/// its tree, and for the process operation every number from 58, the first that was free in Linux
/// 6.12, to 79.
///
/// ```
/// use uring_sys_ext::discovery::Candidates;
/// let mine = Candidates { process: &[63], ..Candidates::default() };
/// assert_eq!(mine.clone_exec, [(58, 59)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidates<'a> {
    /// Numbers that may be the process operation, tried in this order.
    pub process: &'a [u8],
    /// Pairs of numbers that may be the RFC's `CLONE` and `EXEC`, tried in this order.
    pub clone_exec: &'a [(u8, u8)],
}

impl Default for Candidates<'_> {
    fn default() -> Self {
        const PROCESS: &[u8] = &[
            58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79,
        ];
        Self {
            process: PROCESS,
            clone_exec: &[(58, 59)],
        }
    }
}

/// What the kernel has proved to have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Supported {
    /// The process operation, for [`opcode::Process`](crate::opcode::Process).
    pub process: Option<OpCode>,
    /// Size in bytes of the attributes that the process operation knows; 0 without it.
    pub attributes_size: u32,
    /// The RFC's pair, for [`opcode::Clone`](crate::opcode::Clone) and
    /// [`opcode::Exec`](crate::opcode::Exec).
    pub clone_exec: Option<(OpCode, OpCode)>,
}

/// Tries the candidates now and takes the first of each kind that proves itself.
///
/// Blocks for the time of a thread and some tens of system calls, and a second more for each
/// candidate that never answers. May be called from any thread, and from many at once. [`get`] does
/// it once and keeps the result.
///
/// # Errors
/// [`Error::Refused`] where io_uring is forbidden or absent, [`Error::Discovery`] where the thread
/// or the ring could not be made, or the kernel (older than 5.11) cannot wait with a time limit.
///
/// # Kernel
/// Linux 5.11.
///
/// ```
/// use uring_sys_ext::discovery::{self, Candidates};
///
/// match discovery::probe(&Candidates::default()) {
///     Ok(supported) => println!("{supported:?}"), // stock kernels: nothing
///     Err(error) => println!("no io_uring: {error}"),
/// }
/// ```
pub fn probe(candidates: &Candidates<'_>) -> Result<Supported, Error> {
    private::run(|place| bench::try_all(candidates, place))
}

/// As [`probe`], once per process and set of candidates: later calls return the first result.
///
/// Threads that call it at the same time for the first time may each probe. An error is not kept;
/// the next call tries again.
///
/// # Errors
/// As [`probe`].
///
/// ```
/// use uring_sys_ext::discovery::{self, Candidates};
///
/// if let (Ok(first), Ok(second)) =
///     (discovery::get(&Candidates::default()), discovery::get(&Candidates::default()))
/// {
///     assert_eq!(first, second);
/// }
/// ```
pub fn get(candidates: &Candidates<'_>) -> Result<Supported, Error> {
    /// Candidates and their result; a handful at most in any program.
    struct Known(Vec<u8>, Vec<(u8, u8)>, Supported);
    static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());

    // Nothing panics with the lock held, so a poisoned one is as good.
    let known = || {
        KNOWN
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    };
    let is_same = |k: &&Known| k.0 == candidates.process && k.1 == candidates.clone_exec;
    if let Some(found) = known().iter().find(is_same) {
        return Ok(found.2);
    }
    let found = probe(candidates)?;
    let mut known = known();
    if let Some(first) = known.iter().find(is_same) {
        return Ok(first.2);
    }
    known.push(Known(
        candidates.process.to_vec(),
        candidates.clone_exec.to_vec(),
        found,
    ));
    Ok(found)
}

#[cfg(test)]
mod tests;
