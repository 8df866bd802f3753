//! From two looks at the sums that the scheduler keeps of each task: who waited for how long.

use std::{collections::HashMap, time::Duration};

use bpftune_core::bpf::Fields;

use super::sessions::Sessions;

/// Whoever works longer each time that it wakes up computes: it waits for its turn, and nobody for it.
const MOMENT: Duration = Duration::from_millis(10);
/// A person notices so much in a few wake-ups in a row.
const LONG: Duration = Duration::from_millis(4);
/// And this in a single one.
const VERY_LONG: Duration = Duration::from_millis(50);
/// A task that wakes up more often than once in this counts as if it did not: it has not more to say than others.
const OFTEN: Duration = Duration::from_millis(10);

/// `struct task` of the BPF program: sums since the task's beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) session: u64,
    /// By the monotonic clock.
    pub(super) began: Duration,
    pub(super) ran: Duration,
    /// Ready, and without a processor.
    pub(super) waited: Duration,
    /// How often it went to sleep.
    pub(super) slept: u64,
    pub(super) pid: u32,
    /// In a control group of its own.
    pub(super) grouped: bool,
    pub(super) name: [u8; 16],
}

impl Task {
    pub(super) const SIZE: usize = 64;

    pub(super) fn parse(bytes: &[u8]) -> Option<Task> {
        let bytes = Fields(bytes);
        let time = |at| bytes.u64(at).map(Duration::from_nanos);
        Some(Task {
            session: bytes.u64(0)?,
            began: time(8)?,
            ran: time(16)?,
            waited: time(24)?,
            slept: bytes.u64(32)?,
            pid: bytes.u32(40)?,
            grouped: bytes.u32(44)? != 0,
            name: bytes.bytes(48)?,
        })
    }
}

/// Waits of all that work for a moment each time that they wake up. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    /// How often they woke up.
    pub(super) woken: f64,
    /// Seconds.
    pub(super) waited: f64,
    /// How often they waited for longer than anybody bears.
    pub(super) very_long: f64,
}

/// What is known of a task.
#[derive(Clone, Copy, Debug)]
struct Seen {
    ran: Duration,
    /// As it was when its last full pieces of work were counted, and when that was.
    base: Task,
    at: Duration,
}

/// The longest wait of a time, and whose.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Longest {
    pub(super) wait: Duration,
    pub(super) name: [u8; 16],
}

/// What has been seen so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    seen: HashMap<(u32, Duration), Seen>,
    last: Option<Duration>,
    pub(super) totals: Totals,
    /// Since they were taken last.
    pub(super) sessions: Sessions,
    pub(super) longest: Longest,
}

impl Tally {
    /// Takes in all tasks as they are at a time of the monotonic clock. Of those that are seen for the first time only
    /// what began since the last look counts.
    pub(super) fn look(&mut self, at: Duration, tasks: impl Iterator<Item = Task>) {
        let mut before = std::mem::take(&mut self.seen);
        for task in tasks {
            let key = (task.pid, task.began);
            let known = before.remove(&key).or_else(|| self.new_born(&task));
            let Some(mut seen) = known else {
                let (ran, base) = (task.ran, task);
                self.seen.insert(key, Seen { ran, base, at });
                continue;
            };
            let time = task.ran.saturating_sub(seen.ran);
            let from = self.last.map_or(at, |last| last.max(task.began));
            self.sessions.used(&task, (from, at), time);
            seen.ran = task.ran;
            if task.slept > seen.base.slept {
                self.count(&task, &seen, at);
                (seen.base, seen.at) = (task, at);
            }
            self.seen.insert(key, seen);
        }
        if let Some(last) = self.last.replace(at) {
            self.sessions.over += at.saturating_sub(last);
        }
    }

    /// Nothing is known any more; the totals stay.
    pub(super) fn forget(&mut self) {
        let totals = self.totals;
        *self = Tally {
            totals,
            ..Tally::default()
        };
    }

    fn new_born(&self, task: &Task) -> Option<Seen> {
        let base = Task {
            ran: Duration::ZERO,
            waited: Duration::ZERO,
            slept: 0,
            ..*task
        };
        (self.last? < task.began).then_some(Seen {
            ran: base.ran,
            base,
            at: task.began,
        })
    }

    /// It woke up, worked and slept again.
    fn count(&mut self, task: &Task, seen: &Seen, at: Duration) {
        let times = (task.slept - seen.base.slept) as f64;
        let each = |now: Duration, then: Duration| now.saturating_sub(then).div_f64(times);
        if each(task.ran, seen.base.ran) > MOMENT {
            return;
        }
        let wait = each(task.waited, seen.base.waited);
        let most = 1.0 + at.saturating_sub(seen.at).div_duration_f64(OFTEN);
        let weight = times.min(most);
        self.totals.woken += weight;
        self.totals.waited += wait.as_secs_f64() * weight;
        if wait >= VERY_LONG {
            self.totals.very_long += weight;
        }
        let long = if wait >= LONG { weight } else { 0.0 };
        self.sessions.woke(task, weight, long, wait);
        if wait > self.longest.wait {
            let name = task.name;
            self.longest = Longest { wait, name };
        }
    }
}

#[cfg(test)]
mod tests;
