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

/// Room for 64 Ki descriptors, where that is allowed.
pub(crate) fn raise_limit() {
    let want = libc::rlimit {
        rlim_cur: 65536,
        rlim_max: 65536,
    };
    // SAFETY: the structure is valid; a refusal shows later, when a descriptor cannot be opened.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const want) };
}
