use io_uring::squeue::Entry;

use super::OpCode;
use crate::{
    RawSqe,
    process::{Attributes, OpFlags, Request},
};

/// Creates a process that runs a program: [`io_uring_process`](crate::process), `execveat(2)` and
/// more in one entry. The completion's result is the PID or a negative errno.
///
/// # Lifetime of the pointers
/// All of them, and all they point at, must stay valid and unchanged until the completion.
///
/// # Kernel
/// In no released one; [`discovery`](crate::discovery) tells.
///
/// # Example
/// ```no_run
/// use std::ptr::null;
/// use uring_sys_ext::{discovery::{self, Candidates}, opcode, process::Attributes};
///
/// let supported = discovery::get(&Candidates::default())?;
/// let Some(number) = supported.process else {
///     return Ok(()); // use posix_spawn
/// };
/// let argv = [c"true".as_ptr(), null()];
/// let envp = [null()];
/// let mut attributes = Attributes::new().uid(1000).setsid();
/// let entry = opcode::Process::new(number, libc::AT_FDCWD, c"/bin/true".as_ptr())
///     .argv(argv.as_ptr())
///     .envp(envp.as_ptr())
///     .attributes(&raw mut attributes)
///     .build()
///     .user_data(1);
///
/// let mut ring = io_uring::IoUring::new(8)?;
/// // SAFETY: all that the entry points at lives until the completion has been taken below.
/// unsafe { ring.submission().push(&entry)? };
/// ring.submit_and_wait(1)?;
/// let result = ring.completion().next().unwrap().result();
/// if result < 0 {
///     eprintln!("errno {}, at {:?}", -result, attributes.failed_stage());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Process {
    request: Request,
}

impl Process {
    /// A process that runs `path`, relative to `dirfd`, with no arguments, no environment and no
    /// attributes.
    #[must_use]
    pub fn new(number: OpCode, dirfd: i32, path: *const libc::c_char) -> Self {
        let path = path as u64;
        Self {
            request: Request {
                opcode: number.get(),
                dirfd,
                path,
                ..Request::default()
            },
        }
    }

    /// Arguments: an array that a null pointer ends. Null means none.
    #[must_use]
    pub fn argv(mut self, argv: *const *const libc::c_char) -> Self {
        self.request.argv = argv as u64;
        self
    }

    /// Environment: an array that a null pointer ends. Null means none.
    #[must_use]
    pub fn envp(mut self, envp: *const *const libc::c_char) -> Self {
        self.request.envp = envp as u64;
        self
    }

    /// `AT_EMPTY_PATH`, `AT_SYMLINK_NOFOLLOW`.
    #[must_use]
    pub fn exec_flags(mut self, flags: u32) -> Self {
        self.request.exec_flags = flags;
        self
    }

    /// Everything else about the process. The kernel also writes to the structure, until the
    /// completion.
    #[must_use]
    pub fn attributes(self, attributes: *mut Attributes) -> Self {
        self.attributes_sized(attributes.cast(), size_of::<Attributes>() as u32)
    }

    /// Attributes of another version: `size` bytes, at least [`Attributes::SIZE_VER0`].
    #[must_use]
    pub fn attributes_sized(mut self, attributes: *mut u8, size: u32) -> Self {
        self.request.attributes = attributes as u64;
        self.request.attributes_size = size;
        self
    }

    /// Flags of the operation itself.
    #[must_use]
    pub fn op_flags(mut self, flags: OpFlags) -> Self {
        self.request.op_flags = flags.bits();
        self
    }

    /// The entry, for the queue; `Entry128::from` makes one of 128 bytes of it.
    #[must_use]
    pub fn build(self) -> Entry {
        RawSqe::from(self.request).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use io_uring::squeue::Flags;

    #[test]
    fn every_byte_is_where_the_abi_says() {
        // SAFETY: never submitted.
        let number = unsafe { OpCode::assume(0xee) };
        let at = |n: usize| std::ptr::without_provenance::<u8>(n);
        let entry = Process::new(number, -100, at(0x1112_1314_1516_1718).cast())
            .argv(at(0x2122_2324_2526_2728).cast())
            .envp(at(0x3132_3334_3536_3738).cast())
            .exec_flags(0x1000)
            .attributes_sized(at(0x4142_4344_4546_4748).cast_mut(), 96)
            .op_flags(OpFlags::PROBE)
            .build()
            .flags(Flags::IO_LINK)
            .personality(0x0506)
            .user_data(0x5152_5354_5556_5758);
        let mut expected = Vec::new();
        expected.extend([0xee, Flags::IO_LINK.bits()]);
        expected.extend(0x8000u16.to_ne_bytes());
        expected.extend((-100i32).to_ne_bytes());
        expected.extend(0x2122_2324_2526_2728u64.to_ne_bytes());
        expected.extend(0x1112_1314_1516_1718u64.to_ne_bytes());
        expected.extend(96u32.to_ne_bytes());
        expected.extend(0x1000u32.to_ne_bytes());
        expected.extend(0x5152_5354_5556_5758u64.to_ne_bytes());
        expected.extend([0, 0]);
        expected.extend(0x0506u16.to_ne_bytes());
        expected.extend([0; 4]);
        expected.extend(0x3132_3334_3536_3738u64.to_ne_bytes());
        expected.extend(0x4142_4344_4546_4748u64.to_ne_bytes());
        // SAFETY: 64 initialised bytes.
        let bytes: [u8; 64] = unsafe { std::mem::transmute(RawSqe::from(entry)) };
        assert_eq!(bytes.as_slice(), expected);
    }
}
