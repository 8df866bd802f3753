//! What the kernel's own operation reads and writes of our memory.
//!
//! The kernel's last access is to write [`Attributes::stage`]. So that word, and no completion,
//! says whether it still uses the memory: completions can be lost with their ring, and forged.

use std::{
    mem::offset_of,
    os::fd::{FromRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering, fence},
};

use uring_sys_ext::process::{Attributes, FdMapping};

/// `stage` until the kernel is done with the memory.
const OPEN: u32 = u32::MAX;

/// What both sides have at the same time: never referred to as a whole while a request is out.
struct Shared {
    attributes: Attributes,
    pidfd: i32,
}

/// The memory of one request at a time.
pub(crate) struct Request {
    /// From `Box::leak`.
    shared: NonNull<Shared>,
    /// Read by the kernel until the request is over.
    map: Vec<FdMapping>,
}

// SAFETY: the pointer is to memory that is the request's own; of what the kernel has meanwhile only
// atomics are used.
unsafe impl Send for Request {}

/// How far a request is, by the memory alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The kernel has it, or may still take it.
    Open {
        /// It has begun to read.
        begun: bool,
    },
    /// The program runs.
    Runs,
    /// It failed at this stage of the operation.
    Failed(u32),
}

impl Request {
    pub(crate) fn new() -> Self {
        let shared = Shared {
            attributes: Attributes::new(),
            pidfd: -1,
        };
        Self {
            shared: NonNull::from(Box::leak(Box::new(shared))),
            map: Vec::new(),
        }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `at` is the offset of an aligned field of that size in memory that lives as long
        // as this; while it is shared with the kernel it is used by atomics only.
        unsafe { AtomicU32::from_ptr(self.shared.as_ptr().byte_add(at).cast()) }
    }

    fn stage(&self) -> &AtomicU32 {
        self.word(offset_of!(Shared, attributes) + offset_of!(Attributes, stage))
    }

    fn known_size(&self) -> &AtomicU32 {
        self.word(offset_of!(Shared, attributes) + offset_of!(Attributes, known_size))
    }

    fn flags(&self) -> &AtomicU64 {
        let at = offset_of!(Shared, attributes) + offset_of!(Attributes, flags);
        // SAFETY: as in `word`.
        unsafe { AtomicU64::from_ptr(self.shared.as_ptr().byte_add(at).cast()) }
    }

    fn pidfd(&self) -> &AtomicI32 {
        // SAFETY: as in `word`.
        unsafe { AtomicI32::from_ptr(&raw mut (*self.shared.as_ptr()).pidfd) }
    }

    /// The map to be filled in, empty. Only while no request is out.
    pub(crate) fn map(&mut self) -> &mut Vec<FdMapping> {
        debug_assert!(!self.is_open());
        self.map.clear();
        &mut self.map
    }

    /// Makes it ready for the kernel: these attributes, the map, and a pidfd. Returns what the entry
    /// is to point at.
    pub(crate) fn arm(&mut self, attributes: Attributes, only_mapped: bool) -> *mut Attributes {
        debug_assert!(!self.is_open());
        let shared = self.shared.as_ptr();
        // SAFETY: no request is out, so the memory is ours alone.
        unsafe {
            let mut attributes = attributes.pidfd(&raw mut (*shared).pidfd);
            if only_mapped || !self.map.is_empty() {
                attributes = attributes.fd_map(self.map.as_ptr(), self.map.len() as u32);
            }
            if only_mapped {
                attributes = attributes.fd_map_only();
            }
            attributes.known_size = 0;
            attributes.stage = OPEN;
            shared.write(Shared {
                attributes,
                pidfd: -1,
            });
            &raw mut (*shared).attributes
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.stage().load(Ordering::Acquire) {
            OPEN => State::Open {
                begun: self.known_size().load(Ordering::Relaxed) != 0,
            },
            0 => State::Runs,
            stage => State::Failed(stage),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state(), State::Open { .. })
    }

    /// The pidfd of a program that runs, once.
    pub(crate) fn take_pidfd(&mut self) -> Option<OwnedFd> {
        if self.state() != State::Runs {
            return None;
        }
        let fd = self.pidfd().swap(-1, Ordering::Relaxed);
        // SAFETY: the kernel has put it into our table for this request, and takes it back only
        // from one that fails; nobody else knows of it, and here it is forgotten.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Nobody waits for it. Makes a request that the kernel has not begun with one that fails when it does, before
    /// anything but the attributes is read. Returns whether that came in time: then all the rest can go.
    pub(crate) fn defuse(&self) -> bool {
        self.flags().store(u64::MAX, Ordering::Relaxed);
        // The kernel writes its size first and reads the flags then, with a barrier between.
        fence(Ordering::SeqCst);
        self.state() == State::Open { begun: false }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        debug_assert!(!self.is_open());
        // SAFETY: from `Box::leak`, dropped once; whoever has an open one forgets it instead.
        drop(unsafe { Box::from_raw(self.shared.as_ptr()) });
    }
}
