//! Memory that makes this process large, and descriptors that make its table long.

use std::{
    fs::File,
    io,
    ptr::{NonNull, null_mut},
};

/// Anonymous memory, each page of 4 KiB touched. Transparent huge pages are refused for it: they
/// would make page tables, and so fork(2), 500 times smaller than a fragmented heap's.
pub(crate) struct Ballast(NonNull<u8>, usize);

impl Ballast {
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let len = len.max(4096);
        // SAFETY: a new mapping, wherever the kernel likes.
        let at = unsafe { libc::mmap(null_mut(), len, access, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let this = Self(
            NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            len,
        );
        // SAFETY: the mapping is ours and `len` bytes long.
        unsafe {
            libc::madvise(at, len, libc::MADV_NOHUGEPAGE);
            for page in (0..len).step_by(4096) {
                this.0.as_ptr().add(page).write_volatile(1);
            }
        }
        Ok(this)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // SAFETY: the whole of our mapping.
        unsafe { libc::munmap(self.0.as_ptr().cast(), self.1) };
    }
}

/// Open descriptors, close-on-exec.
pub(crate) fn descriptors(count: usize) -> io::Result<Vec<File>> {
    (0..count).map(|_| File::open("/dev/null")).collect()
}

/// Room for as many descriptors as this user may have, up to 64 Ki.
pub(crate) fn raise_limit() {
    const WANT: libc::rlim_t = 65536;
    let limit = |soft, hard| libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the structures are valid for the time of the calls. A refusal is no harm: see `limit`.
    unsafe {
        if libc::setrlimit(libc::RLIMIT_NOFILE, &limit(WANT, WANT)) != 0 {
            let mut now = limit(0, 0);
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now);
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit(now.rlim_max, now.rlim_max));
        }
    }
}

/// So many descriptors, or as many as fit with some to spare.
pub(crate) fn limit(want: usize) -> usize {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: writable for the time of the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now) };
    want.min((now.rlim_cur as usize).saturating_sub(500))
}
