//! Builders of queue entries, in the style of [`io_uring::opcode`].
//!
//! One thing differs: `new` takes the operation's number as an [`OpCode`]. Of none of these
//! operations the number is settled, and numbers of one kernel mean something else in another
//! (58 is `CLONE` in the RFC's tree and `RECV_ZC` in Linux 6.15), so a number is data that comes
//! from [`discovery`](crate::discovery), never a constant.

mod clone_exec;
mod process;

pub use clone_exec::{Clone, Exec};
pub use process::Process;

/// The number of an operation in the running kernel.
///
/// ```
/// use uring_sys_ext::opcode::OpCode;
/// // SAFETY: the entries built here are only looked at, never submitted.
/// let number = unsafe { OpCode::assume(200) };
/// assert_eq!(number.get(), 200);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpCode(u8);

impl OpCode {
    /// Takes a number on trust.
    ///
    /// # Safety
    /// In the running kernel the number must be that of the operation for which it is used.
    /// Otherwise the kernel reads pointers of one operation as those of another one, which may
    /// write through them, or close and truncate files.
    #[must_use]
    pub const unsafe fn assume(number: u8) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}
