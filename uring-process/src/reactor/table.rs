//! What the reactor's thread knows: who waits for what.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Backend, Interest, Key, Listener, Op, SharedFd, WAKE};

/// Where the kernel could not be asked to wait, for want of memory, it is looked again after this
/// time.
const LATER: Duration = Duration::from_millis(10);

struct Entry {
    /// Keeps the descriptor open.
    _interest: Interest,
    /// `None`: cancelled, and the kernel still has it.
    listener: Option<(Arc<dyn Listener>, usize)>,
    /// It is waited for by the clock.
    until: Option<Instant>,
}

pub(super) type Told = Vec<(Arc<dyn Listener>, usize)>;

pub(super) struct Table {
    backend: Box<dyn Backend>,
    entries: HashMap<u64, Entry>,
    clock: BTreeSet<(Instant, u64)>,
    fired: Vec<(Key, bool)>,
    wake_failed: bool,
}

impl Table {
    pub(super) fn new(backend: Box<dyn Backend>) -> Self {
        Self {
            backend,
            entries: HashMap::new(),
            clock: BTreeSet::new(),
            fired: Vec::new(),
            wake_failed: false,
        }
    }

    /// Waits for wake-ups; the descriptor lives as long as the thread.
    pub(super) fn arm_wake(&mut self, wake: SharedFd) {
        self.wake_failed = self.backend.arm(WAKE, &Interest::Readable(wake)).is_err();
    }

    pub(super) fn apply(&mut self, op: Op) {
        match op {
            Op::Arm(key, interest, listener, what) => {
                let until = match &interest {
                    Interest::Until(when) => Some(*when),
                    _ => match self.backend.arm(key, &interest) {
                        Ok(()) => None,
                        Err(_) => Some(Instant::now() + LATER),
                    },
                };
                if let Some(when) = until {
                    self.clock.insert((when, key.0));
                }
                let entry = Entry {
                    _interest: interest,
                    listener: Some((listener, what)),
                    until,
                };
                self.entries.insert(key.0, entry);
            }
            Op::Cancel(key) => {
                let Some(entry) = self.entries.get_mut(&key.0) else {
                    return;
                };
                let over = match entry.until {
                    Some(when) => self.clock.remove(&(when, key.0)),
                    None => self.backend.cancel(key),
                };
                entry.listener = None;
                if over {
                    self.entries.remove(&key.0);
                }
            }
        }
    }

    /// Sleeps, if it may, until there is somebody to tell or a wake-up has come; returns whether
    /// that is so.
    pub(super) fn wait(&mut self, may_sleep: bool, tell: &mut Told) -> bool {
        let now = Instant::now();
        let timeout = match self.clock.first() {
            _ if !may_sleep => Some(Duration::ZERO),
            Some((when, _)) => Some(when.saturating_duration_since(now)),
            None if self.wake_failed => Some(LATER),
            None => None,
        };
        self.backend.wait(timeout, &mut self.fired);
        let mut woken = self.wake_failed;
        for (key, good) in self.fired.drain(..) {
            if key == WAKE {
                woken = true;
                continue;
            }
            let Some(entry) = self.entries.get_mut(&key.0) else {
                continue;
            };
            if good || entry.listener.is_none() {
                let entry = self.entries.remove(&key.0);
                tell.extend(entry.and_then(|entry| entry.listener));
            } else {
                let when = Instant::now() + LATER;
                entry.until = Some(when);
                self.clock.insert((when, key.0));
            }
        }
        if !self.clock.is_empty() {
            let now = Instant::now();
            while let Some((when, key)) = self.clock.first().copied()
                && when <= now
            {
                self.clock.pop_first();
                let entry = self.entries.remove(&key);
                tell.extend(entry.and_then(|entry| entry.listener));
            }
        }
        woken
    }
}
