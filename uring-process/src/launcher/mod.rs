//! A tiny static program, made in memory for each plan, that does system calls and then execs.
//!
//! A child that shares its parent's memory (`CLONE_VM`, clone(2)) must not change its user or group
//! ids: the kernel then takes the "dumpable" mark (`PR_SET_DUMPABLE`, prctl(2)) from that memory, so
//! from the parent, for good. Such a child first execs this program, which has memory of its own, and
//! changes ids there.
//!
//! The program is an ELF file (elf(5)) in a sealed memory file: an interpreter in a few hundred bytes of
//! machine code, and its script with all strings as read-only data at fixed addresses. It is started
//! by `execveat(fd, "", argv, envp, AT_EMPTY_PATH)`; it ignores that `argv` and `envp`, but give it a
//! zeroth argument: Linux 5.18 and later warn in the kernel log of an empty `argv`.
//!
//! As this is one exec more than usual:
//!
//! * Descriptors with the close-on-exec mark are gone when the script runs, so are paths by way of
//!   them (`/proc/self/fd/N`). The report descriptor must come without the mark.
//! * A change of ids in the script clears the parent-death signal: set it in the script, after them.
//! * The caller should be root, as exec takes the capabilities of others; [`available`] looks at that.
//!
//! Kernel floors: Linux 3.19 (execveat(2)); memfd_create(2) came with 3.17, `MFD_EXEC` with 6.3.

mod arch;
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests;

use std::ffi::{CStr, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::plan::{Arg, Call, sock_fprog};

/// What the machine code and the builder agree on. Addresses and sizes are in bytes.
mod layout {
    /// Alignment of segments: the largest page size of the architectures.
    pub(super) const PAGE: usize = 0x1_0000;
    /// Address of the segment of headers and code.
    pub(super) const CODE: usize = 0x40_0000;
    /// Address of the segment of data. Only one 16-bit half is not 0, for `mov` of aarch64.
    pub(super) const DATA: usize = 0x50_0000;
    /// Where the data is in the file; between code and data is a hole, which takes no memory.
    pub(super) const DATA_OFFSET: usize = PAGE;
    /// Sizes of the ELF header and of one program header, the number of those, and all of them
    /// together, up to a multiple of 16: the code begins there.
    pub(super) const EHDR: usize = 64;
    pub(super) const PHDR: usize = 56;
    pub(super) const PHDRS: usize = 3;
    pub(super) const HEADERS: usize = (EHDR + PHDRS * PHDR).next_multiple_of(16);

    /// The data begins with: report descriptor (u32), stage of execve (u32), and pointers to argv,
    /// to envp and to the candidates. The calls follow, and right after them the candidates.
    pub(super) const REPORT_FD: usize = 0;
    pub(super) const EXEC_STAGE: usize = 4;
    pub(super) const ARGV: usize = 8;
    pub(super) const ENVP: usize = 16;
    pub(super) const CANDIDATES: usize = 24;
    pub(super) const CALLS: usize = 32;
    /// A call is its number and six arguments, of 8 bytes each, then its stage and the errno that is
    /// no failure, of 4.
    pub(super) const CALL: usize = 64;
    /// Alignment of what arguments point to.
    pub(super) const ALIGN: usize = 16;
    /// Upper limit of the data: far above what execve(2) takes, far below where stacks are.
    pub(super) const MAX_DATA: usize = 1 << 30;

    #[allow(dead_code, reason = "each architecture has only its own")]
    pub(super) const EM_X86_64: u16 = 62;
    #[allow(dead_code, reason = "each architecture has only its own")]
    pub(super) const EM_AARCH64: u16 = 183;
}

/// What a launcher does.
pub(crate) struct Script<'a, S> {
    /// System calls, in the order of execution; a result of -4095 to -1 ends the script, but for
    /// the one errno that the call may ignore. Data that arguments point to is read-only, aligned
    /// to 16: a call that wants to write there fails with EFAULT.
    pub(crate) calls: &'a [Call],
    /// Paths to try in order, each by `execve(path, argv, envp)`, by the rules of execvp(3): EACCES is
    /// remembered and the search goes on, as it does after ENOENT, ENOTDIR, ESTALE, ENODEV and
    /// ETIMEDOUT; any other error ends it. At its end the error is EACCES if that was seen, else the
    /// last one; ENOENT if there are no candidates.
    pub(crate) candidates: &'a [S],
    /// Arguments of the program, with the zeroth.
    pub(crate) argv: &'a [S],
    /// Environment of the program.
    pub(crate) envp: &'a [S],
    /// The stage to report when no candidate could be started.
    pub(crate) exec_stage: u32,
    /// The descriptor that a failure is written to, as two u32 in the byte order of the machine: stage
    /// and errno. The launcher then exits with 127. Before all else it sets `FD_CLOEXEC` on it, so a
    /// reader sees the end of the pipe, and no byte, when the program has been started.
    pub(crate) report_fd: c_int,
}

/// A launcher with its script, ready to be started any number of times, also at once.
pub(crate) struct Image {
    fd: OwnedFd,
}

impl Image {
    /// Makes the launcher for a script: a memory file, close-on-exec and sealed.
    ///
    /// # Errors
    ///
    /// `Unsupported` on architectures other than x86_64 and aarch64 (64 bit, little-endian),
    /// `InvalidInput` for a call with more than 6 arguments or more than 1 GiB of data, and what
    /// memfd_create(2), pwrite(2) and fcntl(2) give: EACCES where the sysctl `vm.memfd_noexec` is 2.
    pub(crate) fn build<S: AsRef<CStr>>(script: &Script<'_, S>) -> io::Result<Image> {
        let Some((machine, code)) = arch::program() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        Image::of_program(machine, code, script)
    }

    fn of_program<S: AsRef<CStr>>(
        machine: u16,
        code: &[u8],
        script: &Script<'_, S>,
    ) -> io::Result<Image> {
        let data = data(script)?;
        let file = File::from(memory_file()?);
        file.write_all_at(&headers(machine, code.len(), data.len()), 0)?;
        file.write_all_at(code, layout::HEADERS as u64)?;
        file.write_all_at(&data, layout::DATA_OFFSET as u64)?;
        let seals =
            libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
        // SAFETY: F_ADD_SEALS takes an int and touches no memory of ours.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Image { fd: file.into() })
    }

    /// The file to start by `execveat(fd, "", argv, envp, AT_EMPTY_PATH)`.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An empty memory file that may be executed.
fn memory_file() -> io::Result<OwnedFd> {
    const MFD_EXEC: libc::c_uint = 0x10; // Linux 6.3; the libc crate has it for some C libraries only
    let create = |flags| {
        // SAFETY: the name is a C string; memfd_create(2) makes a new descriptor and nothing else.
        match unsafe { libc::memfd_create(c"launcher".as_ptr(), flags) } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: the descriptor is new, so nobody else owns it.
            fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    match create(flags | MFD_EXEC) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(flags),
        result => result,
    }
}

/// The ELF header and the program headers: code (read, execute), data (read), stack (read, write).
fn headers(machine: u16, code: usize, data: usize) -> Vec<u8> {
    use layout::{CODE, DATA, DATA_OFFSET, EHDR, HEADERS, PAGE, PHDR, PHDRS};
    let mut out = b"\x7fELF\x02\x01\x01".to_vec(); // 64 bit, little-endian, version 1
    out.resize(16, 0);
    let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
    put(&2u16.to_le_bytes()); // ET_EXEC
    put(&machine.to_le_bytes());
    put(&1u32.to_le_bytes()); // version
    for word in [CODE + HEADERS, EHDR, 0] {
        put(&(word as u64).to_le_bytes()); // entry, place of program headers, of section headers
    }
    put(&0u32.to_le_bytes()); // flags
    for half in [EHDR, PHDR, PHDRS, 0, 0, 0] {
        put(&(half as u16).to_le_bytes()); // sizes and numbers; there are no sections
    }
    let load = libc::PT_LOAD;
    for (kind, flags, offset, address, size, align) in [
        (load, libc::PF_R | libc::PF_X, 0, CODE, HEADERS + code, PAGE),
        (load, libc::PF_R, DATA_OFFSET, DATA, data, PAGE),
        (libc::PT_GNU_STACK, libc::PF_R | libc::PF_W, 0, 0, 0, 16),
    ] {
        put(&kind.to_le_bytes());
        put(&flags.to_le_bytes());
        for word in [offset, address, address, size, size, align] {
            put(&(word as u64).to_le_bytes());
        }
    }
    out
}

/// The data segment: the tables, then what they point to.
fn data<S: AsRef<CStr>>(script: &Script<'_, S>) -> io::Result<Vec<u8>> {
    let candidates = layout::CALLS + script.calls.len() * layout::CALL;
    let argv = candidates + (script.candidates.len() + 1) * 8;
    let envp = argv + (script.argv.len() + 1) * 8;
    let end = envp + (script.envp.len() + 1) * 8;
    let mut out = vec![0; end.next_multiple_of(layout::ALIGN)];

    out[layout::REPORT_FD..][..4].copy_from_slice(&script.report_fd.to_le_bytes());
    out[layout::EXEC_STAGE..][..4].copy_from_slice(&script.exec_stage.to_le_bytes());
    for (at, table) in [
        (layout::ARGV, argv),
        (layout::ENVP, envp),
        (layout::CANDIDATES, candidates),
    ] {
        put(&mut out, at, layout::DATA + table);
    }
    for (call, at) in script
        .calls
        .iter()
        .zip((layout::CALLS..).step_by(layout::CALL))
    {
        if call.args.len() > 6 {
            let text = format!("system call {} with more than 6 arguments", call.number);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        put(&mut out, at, call.number as usize);
        for (arg, place) in call.args.iter().zip((at + 8..).step_by(8)) {
            let value = match arg {
                Arg::Value(value) => *value,
                Arg::Data(bytes) => append_aligned(&mut out, bytes),
                Arg::Filter(bytes) => {
                    let address = append_aligned(&mut out, bytes);
                    append_aligned(&mut out, &sock_fprog(bytes.len() / 8, address))
                }
            };
            put(&mut out, place, value);
        }
        out[at + 56..][..4].copy_from_slice(&call.stage.to_le_bytes());
        out[at + 60..][..4].copy_from_slice(&call.ignore.to_le_bytes());
    }
    for (table, strings) in [
        (candidates, script.candidates),
        (argv, script.argv),
        (envp, script.envp),
    ] {
        for (string, place) in strings.iter().zip((table..).step_by(8)) {
            let address = append(&mut out, string.as_ref().to_bytes_with_nul());
            put(&mut out, place, address);
        }
    }
    if out.len() > layout::MAX_DATA {
        let text = format!(
            "a launcher with {} bytes of data, more than 1 GiB",
            out.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(out)
}

/// Sets one word of 8 bytes.
fn put(out: &mut [u8], at: usize, value: usize) {
    out[at..][..8].copy_from_slice(&(value as u64).to_le_bytes());
}

/// Adds bytes; their address in the launcher.
fn append(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    let address = layout::DATA + out.len();
    out.extend_from_slice(bytes);
    address
}

fn append_aligned(out: &mut Vec<u8>, bytes: &[u8]) -> usize {
    out.resize(out.len().next_multiple_of(layout::ALIGN), 0);
    append(out, bytes)
}

/// Whether launchers can be used: memory files may be executed (the sysctl `vm.memfd_noexec` and
/// security modules can forbid it), and the effective user is root and gets its capabilities by exec
/// (no `SECBIT_NOROOT`, capabilities(7)).
///
/// The first call that needs to know really starts one and waits for its end; the answer is
/// kept, unless the trial failed for want of memory, descriptors or processes. The user is looked at in
/// each call.
pub(crate) fn available() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    const SECBIT_NOROOT: c_int = 1;
    // SAFETY: geteuid(2) always succeeds and touches no memory.
    let user = unsafe { libc::geteuid() };
    // SAFETY: PR_GET_SECUREBITS takes no argument and touches no memory.
    let bits = unsafe { libc::prctl(libc::PR_GET_SECUREBITS) };
    if user != 0 || (bits > 0 && bits & SECBIT_NOROOT != 0) {
        return false;
    }
    if let Some(answer) = ANSWER.get() {
        return *answer;
    }
    let passing = [libc::ENOMEM, libc::EAGAIN, libc::EMFILE, libc::ENFILE];
    match trial() {
        Ok(answer) => *ANSWER.get_or_init(|| answer),
        Err(error)
            if error
                .raw_os_error()
                .is_some_and(|code| passing.contains(&code)) =>
        {
            false
        }
        Err(_) => *ANSWER.get_or_init(|| false),
    }
}

/// Whether a launcher that does nothing but exit with 0 does so.
fn trial() -> io::Result<bool> {
    let exit = Call {
        stage: 0,
        number: libc::SYS_exit_group,
        args: vec![Arg::Value(0)],
        ignore: 0,
    };
    let image = Image::build::<&CStr>(&Script {
        calls: &[exit],
        candidates: &[],
        argv: &[],
        envp: &[],
        exec_stage: 0,
        report_fd: -1,
    })?;
    runs(image)
}

/// Starts a launcher in a child that shares our memory, and waits for it: whether it exited with 0.
fn runs(image: Image) -> io::Result<bool> {
    struct Trial {
        image: Image,
        failed: AtomicBool,
    }

    /// Runs in the child, in our memory: one system call.
    extern "C" fn child(trial: *mut c_void) -> c_int {
        // SAFETY: the parent, which is stopped until we exec or exit, passes a pointer to its trial.
        let trial = unsafe { &*trial.cast::<Trial>() };
        let argv = [c"launcher".as_ptr(), std::ptr::null()];
        // SAFETY: path and both arrays are C strings and end in null; on success nothing returns.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                trial.image.fd.as_raw_fd(),
                c"".as_ptr(),
                argv.as_ptr(),
                argv[1..].as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
        trial.failed.store(true, Ordering::Relaxed);
        126
    }

    // Like posix_spawn(3), no fork(2): that may take long, or fail, in a program with much memory.
    // No handler may run in the child, which shares our memory: all signals are blocked meanwhile.
    let trial = Trial {
        image,
        failed: AtomicBool::new(false),
    };
    let mut stack = vec![0u128; 2048];
    // SAFETY: all zeroes is a value of sigset_t.
    let (mut all, mut before) = unsafe { std::mem::zeroed::<(libc::sigset_t, libc::sigset_t)>() };
    // SAFETY: both sets are ours. The stack grows down from its end, which is aligned to 16, and 32 KiB
    // are enough for one system call; it and the trial outlive the child's use of them, as CLONE_VFORK
    // stops us until the child has left our memory.
    let (pid, error) = unsafe {
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let pid = libc::clone(
            child,
            stack.as_mut_ptr_range().end.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw const trial).cast_mut().cast(),
        );
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        (pid, error)
    };
    if pid < 0 {
        return Err(error);
    }
    let mut status = 0;
    // SAFETY: the status is ours; waitpid(2) touches no other memory.
    while unsafe { libc::waitpid(pid, &mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // SIGCHLD is ignored, or another thread waits for any child: the status is lost, what is
            // left is that execveat(2) did not fail.
            Some(libc::ECHILD) => return Ok(!trial.failed.into_inner()),
            _ => return Err(error),
        }
    }
    Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
}
