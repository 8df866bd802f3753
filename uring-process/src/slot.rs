//! Memory that a child borrows until it has let go of it: its stack, its job, its plan.
//!
//! A slot is used again only when the kernel has cleared [`Job::held`]: until then a child may run
//! on its stack. Whatever the caller does with handles, a slot that is dropped too early waits in
//! [`POOL`] for that moment, and keeps alive what its child reads. The same for a [`Request`] of the
//! kernel's own operation, whose word the kernel writes when it is done.

use std::{
    io,
    os::fd::OwnedFd,
    ptr::{NonNull, null, null_mut},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    child::{Job, Move},
    plan::ExecPlan,
    ring::orphans,
    start::Request,
};

/// Bytes of stack of a child, beside its guard page. It uses about one page of it.
const STACK: usize = 32 * 1024;
/// Bytes below the stack that nobody may touch; no smaller than a page anywhere.
const GUARD: usize = 64 * 1024;

/// A mapping, guard first.
struct Stack(NonNull<u8>);

impl Stack {
    fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, wherever the kernel likes; then access to its upper part only.
        unsafe {
            let at = libc::mmap(null_mut(), GUARD + STACK, libc::PROT_NONE, flags, -1, 0);
            if at == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let stack = Self(NonNull::new_unchecked(at.cast()));
            if libc::mprotect(at.add(GUARD), STACK, libc::PROT_READ | libc::PROT_WRITE) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(stack)
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the whole of our mapping; no child runs on it, see `Slot`.
        unsafe { libc::munmap(self.0.as_ptr().cast(), GUARD + STACK) };
    }
}

struct Inner {
    stack: Option<Stack>,
    /// From `Box::into_raw`: no reference is held while a child may write to it.
    job: NonNull<Job>,
    request: Option<Request>,
    /// The child's map; kept for its capacity.
    map: Vec<Move>,
    /// The child's ends of pipes: in a shared table they must stay open.
    ends: Vec<OwnedFd>,
    plan: Option<ExecPlan>,
    /// What the word is while the present child has the memory.
    generation: u32,
    /// How many waits for the word were handed out for that child.
    waits: u32,
}

// SAFETY: what the pointers lead to is owned by the slot alone, or read by its child only.
unsafe impl Send for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw`, dropped once; the pool drops only what no child uses.
        drop(unsafe { Box::from_raw(self.job.as_ptr()) });
    }
}

impl Inner {
    fn new() -> Self {
        Self {
            stack: None,
            job: NonNull::from(Box::leak(Box::new(Job::idle()))),
            request: None,
            map: Vec::new(),
            ends: Vec::new(),
            plan: None,
            generation: 0,
            waits: 0,
        }
    }

    fn is_held(&self) -> bool {
        // SAFETY: the job lives as long as this; the word is atomic.
        let by_child = unsafe { (*self.job.as_ptr()).held.load(Ordering::Acquire) != 0 };
        by_child || self.request.as_ref().is_some_and(Request::is_open)
    }

    /// The child has let go of it.
    fn clear(&mut self) {
        if std::mem::take(&mut self.waits) > 1 {
            // The kernel wakes one of them. Another would take the wake-up of a later child.
            // SAFETY: the job lives as long as this.
            wake_all(unsafe { &(*self.job.as_ptr()).held });
        }
        // Of a program that runs and that nobody got to know.
        if let Some(pidfd) = self.request.as_mut().and_then(Request::take_pidfd) {
            orphans::adopt(pidfd);
        }
        self.ends.clear();
        self.map.clear();
        self.plan = None;
    }
}

/// One child's memory.
pub(crate) struct Slot(Option<Inner>);

#[derive(Default)]
struct Pool {
    free: Vec<Inner>,
    /// Dropped while a child still had it.
    held: Vec<Inner>,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: Vec::new(),
    held: Vec::new(),
});
/// Values of `held`: each use of a slot has another one, so a wait for an earlier use never waits.
static USES: AtomicU32 = AtomicU32::new(1);

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Moves what children have let go of to the free ones; closes their descriptors.
    fn sweep(&mut self) {
        let mut at = 0;
        while at < self.held.len() {
            if self.held[at].is_held() {
                at += 1;
            } else {
                let mut inner = self.held.swap_remove(at);
                inner.clear();
                self.free.push(inner);
            }
        }
    }
}

impl Slot {
    /// A slot with a stack, for a child that shares our memory.
    pub(crate) fn acquire() -> io::Result<Self> {
        let mut slot = Self::without_stack();
        let inner = slot.inner_mut();
        if inner.stack.is_none() {
            inner.stack = Some(Stack::new()?);
        }
        Ok(slot)
    }

    /// A slot for a child that the kernel makes.
    pub(crate) fn without_stack() -> Self {
        let mut pool = pool();
        pool.sweep();
        let found = pool.free.pop();
        drop(pool);
        Self(Some(found.unwrap_or_else(Inner::new)))
    }

    /// The memory of a request of the kernel's operation.
    pub(crate) fn request(&mut self) -> &mut Request {
        self.inner_mut().request.get_or_insert_with(Request::new)
    }

    /// Keeps what a request points at, and the descriptors that it names.
    pub(crate) fn keep(&mut self, plan: ExecPlan, ends: &mut Vec<OwnedFd>) {
        let inner = self.inner_mut();
        inner.plan = Some(plan);
        inner.ends.append(ends);
    }

    fn inner(&self) -> &Inner {
        match &self.0 {
            Some(inner) => inner,
            None => unreachable!("a slot is empty only while it is dropped"),
        }
    }

    fn inner_mut(&mut self) -> &mut Inner {
        match &mut self.0 {
            Some(inner) => inner,
            None => unreachable!("a slot is empty only while it is dropped"),
        }
    }

    /// Lowest address and size in bytes of the stack.
    pub(crate) fn stack(&self) -> (*mut u8, usize) {
        let base = self
            .inner()
            .stack
            .as_ref()
            .map_or(null_mut(), |stack| stack.0.as_ptr());
        (base.wrapping_add(GUARD), STACK)
    }

    pub(crate) fn job(&self) -> *mut Job {
        self.inner().job.as_ptr()
    }

    /// The word that becomes 0 when the child has let go of the memory, and what it is until then.
    pub(crate) fn word(&self) -> (&AtomicU32, u32) {
        // SAFETY: lives as long as the slot; atomic, so the kernel may write to it.
        (unsafe { &(*self.job()).held }, self.inner().generation)
    }

    /// Somebody else than the calling thread is going to wait for the word.
    pub(crate) fn note_wait(&mut self) {
        let waits = &mut self.inner_mut().waits;
        *waits = waits.saturating_add(1);
    }

    pub(crate) fn is_held(&self) -> bool {
        self.inner().is_held()
    }

    /// Prepares for a child of this plan: the map is a copy of `map`, the word is not 0.
    ///
    /// Undone by [`Slot::disarm`] where no child came to be.
    pub(crate) fn arm(&mut self, plan: ExecPlan, map: &[Move], ends: &mut Vec<OwnedFd>) {
        let inner = self.inner_mut();
        inner.plan = Some(plan);
        inner.map.clear();
        inner.map.extend_from_slice(map);
        inner.ends.append(ends);
        inner.generation = match USES.fetch_add(1, Ordering::Relaxed) {
            // That means free.
            0 => USES.fetch_add(1, Ordering::Relaxed),
            generation => generation,
        };
        let (map, len) = (inner.map.as_mut_ptr(), inner.map.len());
        // SAFETY: no child has the job yet.
        unsafe {
            let job = inner.job.as_ptr();
            (*job).map = map;
            (*job).map_len = len;
            (*job).errno.store(0, Ordering::Relaxed);
            (*job).held.store(inner.generation, Ordering::Release);
        }
    }

    /// Closes the child's ends of pipes: it has copies of its own.
    pub(crate) fn close_ends(&mut self) {
        self.inner_mut().ends.clear();
    }

    /// Gives back what [`Slot::arm`] took, where no child came to be.
    pub(crate) fn take_ends(&mut self, ends: &mut Vec<OwnedFd>) {
        ends.append(&mut self.inner_mut().ends);
    }

    /// There is no child after all.
    pub(crate) fn disarm(&mut self) {
        self.word().0.store(0, Ordering::Release);
    }

    /// What the child left behind: its failure, if it had one. Of use once the word is 0.
    pub(crate) fn failure(&self) -> Option<(u32, i32)> {
        let job = self.job();
        // SAFETY: both are atomics.
        unsafe {
            match (*job).errno.load(Ordering::Acquire) {
                0 => None,
                errno => Some(((*job).stage.load(Ordering::Relaxed), errno as i32)),
            }
        }
    }
}

/// Wakes whoever waits for the word.
fn wake_all(word: &AtomicU32) {
    // SAFETY: reads and writes no memory.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(mut inner) = self.0.take() else {
            return;
        };
        if inner.is_held() {
            if inner
                .request
                .as_ref()
                .is_some_and(|r| r.is_open() && r.defuse())
            {
                // In a queue that may never be submitted: the words stay, nothing else is needed.
                inner.clear();
                std::mem::forget(inner);
            } else {
                pool().held.push(inner);
            }
        } else {
            inner.clear();
            pool().free.push(inner);
        }
    }
}

impl Job {
    /// A job that no child has.
    pub(crate) fn idle() -> Self {
        Self {
            held: AtomicU32::new(0),
            errno: AtomicU32::new(0),
            stage: AtomicU32::new(0),
            unshare_from: None,
            reset_handlers: false,
            cgroup_procs: None,
            map: null_mut(),
            map_len: 0,
            gaps: null(),
            gaps_len: 0,
            no_close_range: None,
            calls: null(),
            calls_len: 0,
            mask: 0,
            hook: None,
            late_calls: null(),
            late_calls_len: 0,
            launcher: None,
            candidates: null(),
            candidates_len: 0,
            argv: null(),
            envp: null(),
            report: None,
        }
    }
}
