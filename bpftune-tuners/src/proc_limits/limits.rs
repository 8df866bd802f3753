//! The limits, each with the machine's bound on it.

use bpftune_core::{Bound, Cost, Machine, Scope, Tunable, Value};

pub(super) const TASKS: &str = "tasks-near-limit";
pub(super) const FILES: &str = "files-short";
pub(super) const WATCHES: &str = "inotify-watches-short";
pub(super) const INSTANCES: &str = "inotify-instances-short";
pub(super) const AIO: &str = "aio-short";
pub(super) const KEYS: &str = "keys-short";
pub(super) const USERNS: &str = "user-namespaces-short";

pub(super) const PID_MAX: &str = "kernel.pid_max";
pub(super) const THREADS_MAX: &str = "kernel.threads-max";
pub(super) const FILE_MAX: &str = "fs.file-max";
pub(super) const MAX_WATCHES: &str = "fs.inotify.max_user_watches";
pub(super) const MAX_INSTANCES: &str = "fs.inotify.max_user_instances";
pub(super) const AIO_MAX: &str = "fs.aio-max-nr";
pub(super) const MAX_KEYS: &str = "kernel.keys.maxkeys";
pub(super) const MAX_KEY_BYTES: &str = "kernel.keys.maxbytes";
pub(super) const MAX_USERNS: &str = "user.max_user_namespaces";

/// A limit that the tuner may raise.
pub(super) struct Limit {
    pub(super) tunable: &'static str,
    /// The signal's name.
    pub(super) scenario: &'static str,
    unit: &'static str,
    pub(super) about: &'static str,
    /// What one more costs the kernel at least, bytes.
    each: u64,
    /// That share of memory for all of them, and never more than so many.
    share: u64,
    most: i64,
    /// What every Linux may have at least.
    least: i64,
}

/// A thread costs its kernel stack (16 KiB), `task_struct` and page tables.
const TASK: u64 = 32 << 10;

/// The largest number of a process that 64-bit Linux gives (include/linux/threads.h).
const PID_MAX_LIMIT: i64 = 4 << 20;

const fn limit(
    tunable: &'static str,
    scenario: &'static str,
    unit: &'static str,
    about: &'static str,
) -> Limit {
    Limit {
        tunable,
        scenario,
        unit,
        about,
        each: 0,
        share: 1,
        most: i64::MAX,
        least: 1,
    }
}

/// All of them.
pub(super) const LIMITS: [Limit; 9] = [
    Limit {
        each: TASK,
        share: 4,
        most: PID_MAX_LIMIT,
        least: 32768,
        ..limit(PID_MAX, TASKS, "numbers", "process and thread numbers")
    },
    Limit {
        each: TASK,
        share: 4,
        most: PID_MAX_LIMIT,
        least: 4096,
        ..limit(THREADS_MAX, TASKS, "tasks", "threads of the host")
    },
    // The kernel's own default (files_maxfiles_init): a tenth of memory at 1 KiB each.
    Limit {
        each: 1 << 10,
        share: 10,
        least: 8192,
        ..limit(FILE_MAX, FILES, "files", "open files of the host")
    },
    // A mark and the inode that it pins; the kernel's default is a hundredth of memory.
    Limit {
        each: 1280,
        share: 32,
        most: 4 << 20,
        least: 8192,
        ..limit(MAX_WATCHES, WATCHES, "watches", "inotify watches of a user")
    },
    // An instance may queue 16384 events (max_queued_events), mostly few.
    Limit {
        each: 64 << 10,
        share: 64,
        most: 8192,
        least: 128,
        ..limit(
            MAX_INSTANCES,
            INSTANCES,
            "instances",
            "inotify instances of a user",
        )
    },
    // An event is 32 bytes of a ring that stays in memory, a request under way some hundred.
    Limit {
        each: 256,
        share: 64,
        most: 8 << 20,
        least: 65536,
        ..limit(
            AIO_MAX,
            AIO,
            "requests",
            "asynchronous requests of all processes (io_setup)",
        )
    },
    Limit {
        each: 512,
        share: 4096,
        most: 10_000,
        least: 200,
        ..limit(MAX_KEYS, KEYS, "keys", "keys of a user that is not root")
    },
    Limit {
        each: 1,
        share: 4096,
        most: 1_000_000,
        least: 20_000,
        ..limit(
            MAX_KEY_BYTES,
            KEYS,
            "bytes",
            "bytes in keys of a user that is not root",
        )
    },
    // The kernel's own default: half of its default of threads.
    Limit {
        each: 2 * 8 * (16 << 10),
        most: PID_MAX_LIMIT,
        least: 1,
        ..limit(
            MAX_USERNS,
            USERNS,
            "namespaces",
            "user namespaces of a user",
        )
    },
];

type Range = fn(&Machine) -> Vec<(i64, i64)>;

impl Limit {
    #[cfg(test)]
    pub(super) fn of(tunable: &str) -> Option<&'static Limit> {
        LIMITS.iter().find(|limit| limit.tunable == tunable)
    }

    /// The lowest and the highest value on a machine.
    pub(super) fn range(&self, machine: &Machine) -> (i64, i64) {
        let room = machine.memory_total / self.share / self.each;
        let most = i64::try_from(room).unwrap_or(i64::MAX).min(self.most);
        (1, most.max(self.least))
    }

    pub(super) fn tunable(&self) -> Tunable {
        let (bound, cost) = self.functions();
        Tunable {
            name: self.tunable.into(),
            scope: Scope::Global,
            unit: self.unit.into(),
            about: self.about.into(),
            bound: Bound::Derived(bound),
            cost: Cost::Derived(cost),
        }
    }

    /// Function pointers have no room for a `self`.
    fn functions(&self) -> (Range, fn(&Value) -> u64) {
        macro_rules! at {
            ($($index:literal)*) => {
                match LIMITS.iter().position(|limit| limit.tunable == self.tunable) {
                    $(Some($index) => (
                        |machine| vec![LIMITS[$index].range(machine)],
                        |value| LIMITS[$index].cost(value),
                    ),)*
                    _ => unreachable!("a limit is one of LIMITS"),
                }
            };
        }
        at!(0 1 2 3 4 5 6 7 8)
    }

    /// A quarter of what all places together would take: limits of a user or a host are seldom full, and never all.
    fn cost(&self, value: &Value) -> u64 {
        u64::try_from(value.last())
            .unwrap_or(0)
            .saturating_mul(self.each)
            / 4
    }
}
