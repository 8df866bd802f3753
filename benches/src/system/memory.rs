//! Memory of this process, and memory of the host that is free in single pages only.

use std::{
    fs::File,
    num::NonZero,
    os::{fd::AsRawFd, unix::fs::FileExt},
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bpftune_core::{
    Machine,
    trial::{Counter, Meter, ProcMeter},
};
use nix::{
    sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect, munmap},
    unistd::{SysconfVar, sysconf},
};

use crate::{Error, Result};

/// Bytes of a page.
pub(super) fn page() -> usize {
    sysconf(SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(4096)
}

/// Memory of so many pages; it goes on drop.
pub(super) struct Pages {
    at: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: memory that nobody else knows of may be used and given back by any thread.
unsafe impl Send for Pages {}

impl Pages {
    pub(super) fn new(pages: usize) -> Result<Pages> {
        let bytes = pages * page();
        let length = NonZero::new(bytes).ok_or_else(|| Error::other("no memory", "of no pages"))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new memory, at an address of the kernel's choice.
        let at = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }
            .map_err(Error::doing("mmap(2)"))?;
        Ok(Pages { at, bytes })
    }

    /// Makes a page a guard, which parts the mapping it lies in; `false` where that may not be parted any further.
    pub(super) fn guard(&self, page: usize, bytes: usize) -> bool {
        // SAFETY: one page within our own memory, which nobody reads.
        unsafe {
            let at = self.at.byte_add(page * bytes);
            mprotect(at, bytes, ProtFlags::PROT_NONE).is_ok()
        }
    }

    /// Writes a byte to each page.
    pub(super) fn touch(&self) {
        for at in (0..self.bytes).step_by(page()) {
            self.write(at);
        }
    }

    /// Writes a byte to so many places here and there.
    fn scatter(&self, times: usize) {
        for _ in 0..times {
            self.write(fastrand::usize(..self.bytes));
        }
    }

    fn write(&self, at: usize) {
        assert!(at < self.bytes);
        // SAFETY: within our own memory, which may be written.
        unsafe { self.at.cast::<u8>().add(at).write_volatile(1) };
    }

    /// madvise(2) for some of it, by bytes.
    fn advise(&self, from: usize, bytes: usize, advice: MmapAdvise) -> Result<()> {
        assert!(from + bytes <= self.bytes);
        // SAFETY: within our own memory, to which nobody has a reference.
        unsafe { madvise(self.at.byte_add(from), bytes, advice) }
            .map_err(Error::doing("madvise(2)"))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our own memory, all of it, and nobody has a reference into it.
        let _ = unsafe { munmap(self.at, self.bytes) };
    }
}

/// Writes here and there into all of these, so many times each.
pub(super) fn scatter(all: &[Pages], times: usize) {
    all.iter().for_each(|pages| pages.scatter(times));
}

/// More than half of the host's memory in small pages of which each other one is given back: what is free there, no two
/// pages of it are neighbours.
pub(super) struct InPieces {
    _held: Pages,
}

impl InPieces {
    pub(super) fn new() -> Result<InPieces> {
        let available = Machine::now()
            .map_err(|error| Error::other("cannot ask for memory", error))?
            .memory_available;
        let page = page();
        let pages = usize::try_from(available / 10 * 6).unwrap_or(0) / page;
        let memory = Pages::new(pages)?;
        memory.advise(0, pages * page, MmapAdvise::MADV_NOHUGEPAGE)?;
        memory.touch();
        for other in (0..pages).step_by(2) {
            memory.advise(other * page, page, MmapAdvise::MADV_DONTNEED)?;
        }
        Ok(InPieces { _held: memory })
    }
}

/// Bytes a second that a [`Reader`] reads.
const RATE: f64 = 300e6;
/// Less than this share of memory is free where it is full of files.
const FULL: f64 = 0.02;
/// So long it takes at most.
const FILLED: Duration = Duration::from_secs(40);

/// Reads pages of a file larger than memory, here and there, until it is dropped: what is free becomes the file's. It has
/// holes only, so no disk has to read anything.
pub(super) struct Reader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Returns when memory is full.
    pub(super) fn start() -> Result<Reader> {
        let machine =
            Machine::now().map_err(|error| Error::other("cannot ask for memory", error))?;
        let file =
            tempfile::tempfile_in("/var/tmp").map_err(Error::doing("no file in /var/tmp"))?;
        let bytes = machine.memory_total * 5 / 2;
        file.set_len(bytes)
            .map_err(Error::doing("no large file with holes in /var/tmp"))?;
        // SAFETY: posix_fadvise(2) takes numbers only.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
        let start = Instant::now();
        while free() > FULL * machine.memory_total as f64 && start.elapsed() < FILLED {
            read(&file, bytes, 4096)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (start, mut sum) = (Instant::now(), 0.0);
            while !stopped.load(Ordering::Relaxed) {
                let Ok(read) = read(&file, bytes, 256) else {
                    break;
                };
                sum += read;
                let due = Duration::from_secs_f64(sum / RATE);
                std::thread::sleep(due.saturating_sub(start.elapsed()));
            }
        });
        Ok(Reader {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Bytes that are free.
fn free() -> f64 {
    let free = ProcMeter::default().read(&Counter::MemInfo("MemFree".into()));
    free.unwrap_or(0.0) * 1024.0
}

/// Some pages of a file; their bytes.
fn read(file: &File, bytes: u64, pages: usize) -> Result<f64> {
    let mut page = [0; 4096];
    for _ in 0..pages {
        let at = fastrand::u64(..bytes / 4096) * 4096;
        file.read_exact_at(&mut page, at)
            .map_err(Error::doing("cannot read a page"))?;
    }
    Ok(pages as f64 * 4096.0)
}
