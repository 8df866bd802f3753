//! Programs with many mappings.

use std::{
    num::NonZero,
    ptr::NonNull,
    time::{Duration, Instant},
};

use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap},
    unistd::{SysconfVar, sysconf},
};

use super::THROUGHPUT;
use crate::{
    Error, Result,
    network::{HostValues, Kind, Scenario, Stage, Values, rest_of_second},
};

const TUNER: &str = "vm-maps";

fn page() -> usize {
    sysconf(SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(4096)
}

/// Memory of so many pages; it goes on drop.
struct Pages {
    at: NonNull<libc::c_void>,
    bytes: usize,
}

impl Pages {
    fn new(pages: usize) -> Result<Pages> {
        let bytes = pages * page();
        let length = NonZero::new(bytes).ok_or_else(|| Error::other("no memory", "of no pages"))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new memory, at an address of the kernel's choice.
        let at = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }
            .map_err(Error::doing("mmap(2)"))?;
        Ok(Pages { at, bytes })
    }

    /// Makes a page a guard, which parts the mapping it lies in; `false` where that may not be parted any further.
    fn guard(&self, page: usize, bytes: usize) -> bool {
        // SAFETY: one page within our own memory, which nobody reads.
        unsafe {
            let at = self.at.byte_add(page * bytes);
            mprotect(at, bytes, ProtFlags::PROT_NONE).is_ok()
        }
    }

    /// Writes a byte to each page.
    fn touch(&self) {
        for at in (0..self.bytes).step_by(page()) {
            // SAFETY: within our own memory, which may be written.
            unsafe { self.at.cast::<u8>().add(at).write_volatile(1) };
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our own memory, all of it, and nobody has a reference into it.
        let _ = unsafe { munmap(self.at, self.bytes) };
    }
}

/// A program that guards each of 50,000 stacks by a page: 100,000 mappings, of 65,530 that it may have.
pub(super) struct Guarded;

impl Guarded {
    const STACKS: usize = 50_000;
}

impl Scenario for Guarded {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "50,000 guarded stacks"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ("stacks that could be guarded", "%")
    }
    fn by_hand(&self) -> Values {
        &[("vm.max_map_count", "262144")]
    }
    fn tuned(&self) -> (&'static str, Values) {
        THROUGHPUT
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        host.set("vm.max_map_count", "65530")?;
        Ok(Box::new(Stacks { _host: host }))
    }
}

struct Stacks {
    _host: HostValues,
}

impl Stage for Stacks {
    fn turn(&mut self) -> Result<f64> {
        let (start, bytes) = (Instant::now(), page());
        let memory = Pages::new(Guarded::STACKS * 2)?;
        let guarded = (0..Guarded::STACKS)
            .filter(|stack| memory.guard(stack * 2, bytes))
            .count();
        drop(memory);
        rest_of_second(start);
        Ok(guarded as f64 * 100.0 / Guarded::STACKS as f64)
    }
}

/// Memory that is mapped, written and given back, well within what there may be.
pub(super) struct NothingWrong;

impl Scenario for NothingWrong {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn kind(&self) -> Kind {
        Kind::NothingWrong
    }
    fn name(&self) -> &'static str {
        "memory mapped and given back"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ("buffers of 64 pages", "/s")
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Buffers))
    }
}

struct Buffers;

impl Stage for Buffers {
    fn turn(&mut self) -> Result<f64> {
        let (start, mut rounds) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(1) {
            for _ in 0..100 {
                Pages::new(64)?.touch();
                rounds += 1;
            }
        }
        Ok(f64::from(rounds) / start.elapsed().as_secs_f64())
    }
}
