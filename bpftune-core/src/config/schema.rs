//! Every key there is.
//!
//! The documentation of a key is its doc comment here, and nowhere else; `bpftune config --default`
//! prints it, and `default` is what holds where no file says anything.

use std::{path::PathBuf, time::Duration};

use super::{
    Amount,
    kinds::{Aim, Unclear},
    learner::Learner,
    section::section,
};
use crate::governor::{ExitPolicy, Glob, Mode, Window, Zone};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const DAY: u64 = 86_400;

fn paths(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

fn globs(patterns: &str) -> Vec<Glob> {
    let words = patterns.split_whitespace();
    words.map(|word| word.parse().expect("a pattern")).collect()
}

/// Who may reach this host, what it forwards and answers, and what one process sees of another's memory.
const GUARDED: &str = "*forward* *.rp_filter *.accept_* *.send_redirects *.secure_redirects *.log_martians \
    *.route_localnet *.arp_* *.bpf_* *.tcp_syncookies *.ping_group_range *.ip_unprivileged_port_start \
    *.ip_nonlocal_bind *.ip_local_* *.disable_ipv6 *.stable_secret vm.mmap_* vm.unprivileged_userfaultfd vm.memfd_* \
    vm.panic* vm.oom_* vm.drop_caches vm.compact_memory vm.legacy_va_layout vm.hugetlb_shm_group vm.nr_*";

section! {
    /// The daemon as a whole.
    pub struct Daemon {
        /// What happens to changed values when the daemon stops: "restore" puts every original back, "keep" leaves
        /// them (`bpftune revert` restores them later), "restore-if-worse" keeps those whose trial said better and
        /// restores the others.
        exit: ExitPolicy = ExitPolicy::Restore;
        /// Paths of the only network namespaces to touch; global tunables are then left alone. Empty: all of them.
        /// Takes effect at the next start.
        netns: Vec<PathBuf> = Vec::new();
    }
}

section! {
    /// What may change, how far and how often, for every tuner and tunable that has no word of its own.
    pub struct Governor {
        /// "observe" counts signals only, "advise" records what it would change and writes nothing, "auto" writes.
        mode: Mode = Mode::Auto;
        /// Whether tunables with one value for the whole host may change.
        global: bool = true;
        /// Tunables that may change. The more specific of the patterns in `allow` and `deny` that fit a name decides
        /// (a full name before a pattern, more letters before fewer); of two alike, `deny`.
        allow: Vec<Glob> = vec!["*".parse().expect("a pattern")];
        /// Tunables that stay as they are.
        deny: Vec<Glob> = Vec::new();
        /// Places where changes may be made: "host", or the path of a network namespace such as "/run/netns/web".
        allow_places: Vec<Glob> = vec!["*".parse().expect("a pattern")];
        /// Places where everything stays as it is; decided as `deny` is.
        deny_places: Vec<Glob> = Vec::new();
        /// Rest of a value between two changes in one direction.
        cool_down: Duration = ms(40), ms(0) => s(DAY);
        /// Rest of a value before it may go the other way.
        hysteresis: Duration = s(60), ms(0) => s(DAY);
        /// Most changes of one tunable in one place within an hour.
        changes_per_hour: u64 = 60, 0 => 3600;
        /// Most changes of all tunables in all places within an hour.
        changes_per_hour_total: u64 = 3600, 0 => 100_000;
        /// Most changes of direction of one tunable in one place within an hour, those included that take a harmful
        /// change back. Giving memory back is not counted.
        reversals_per_hour: u64 = 2, 0 => 3600;
        /// Rest of a value after a change of it did harm.
        rest_after_harm: Duration = s(600), ms(0) => s(7 * DAY);
        /// Share of the present value that one change may add or take at most; unset, as far as the tuner says.
        max_step: Option<f64> = None, 0.001 => 8.0;
        /// Memory that all raises together may cost at worst, above what the original values cost.
        memory_budget: Amount = Amount::Ram { parts: 25, of: 100 };
    }
}

section! {
    /// One tuner by its name: [tuner.tcp-buffer]. What is unset is as in [governor].
    pub struct Tuner {
        /// Whether it runs. Takes effect at the next start.
        enabled: bool = true;
        /// As in [governor].
        mode: Option<Mode> = None;
        /// As in [governor].
        cool_down: Option<Duration> = None, ms(0) => s(DAY);
        /// As in [governor].
        hysteresis: Option<Duration> = None, ms(0) => s(DAY);
        /// As in [governor].
        changes_per_hour: Option<u64> = None, 0 => 3600;
        /// As in [governor].
        reversals_per_hour: Option<u64> = None, 0 => 3600;
        /// As in [governor].
        rest_after_harm: Option<Duration> = None, ms(0) => s(7 * DAY);
        /// How it finds the next value: the name of a learner, or a table with its name and parameters; see
        /// docs/learners.md. Unset, what the tuner thinks best.
        learner: Option<Learner> = None;
        /// What it is to serve where that is a choice (blk-queue): "latency", its own unless said here, or "throughput".
        aim: Option<Aim> = None;
    }
}

section! {
    /// One tunable by its name, or several by a pattern: [tunable."net.ipv4.tcp_rmem"]. The quotes are needed. What is
    /// unset is as in the next less specific section: a pattern with fewer letters, the tuner, [governor].
    pub struct Tunable {
        /// As in [governor].
        mode: Option<Mode> = None;
        /// The lowest value that may be written; of a row of numbers, the last one's. Never below what the tunable
        /// itself declares safe.
        min: Option<Amount> = None;
        /// The highest value that may be written; of a row of numbers, the last one's. Never above what the tunable
        /// itself declares safe on this machine.
        max: Option<Amount> = None;
        /// As in [governor].
        cool_down: Option<Duration> = None, ms(0) => s(DAY);
        /// As in [governor].
        hysteresis: Option<Duration> = None, ms(0) => s(DAY);
        /// As in [governor].
        changes_per_hour: Option<u64> = None, 0 => 3600;
        /// As in [governor].
        reversals_per_hour: Option<u64> = None, 0 => 3600;
        /// As in [governor].
        rest_after_harm: Option<Duration> = None, ms(0) => s(7 * DAY);
    }
}

section! {
    /// When values may change. Giving memory back under pressure and taking harm back is always allowed.
    pub struct Maintenance {
        /// Days and hours of each week: "mon-fri 22:00-06:00", "sat,sun", "02:00-04:00". Hours that end before they
        /// begin go on into the next day. Empty: always.
        windows: Vec<Window> = Vec::new();
        /// Whose hours: "local" or "utc".
        zone: Zone = Zone::Local;
    }
}

section! {
    /// The first hosts of a fleet.
    pub struct Canary {
        /// Share of hosts that may go as far as `mode` says, in percent. Which ones is decided by a hash of the host's
        /// id, so hosts that are in stay in as the share grows.
        percent: u64 = 100, 0 => 100;
        /// How far the other hosts go.
        others: Mode = Mode::Advise;
        /// The file with the host's id.
        host_id: PathBuf = PathBuf::from("/etc/machine-id");
    }
}

section! {
    /// How changes are tried.
    pub struct Trial {
        /// What happens to a change whose trial says neither better nor worse: "keep" or "revert".
        unclear: Unclear = Unclear::Keep;
    }
}

section! {
    /// What takes back all recent changes at once when the host does badly.
    pub struct Watchdog {
        /// Whether it watches.
        enabled: bool = true;
        /// Changes as old as this are taken back.
        window: Duration = s(300), s(10) => s(DAY);
        /// Share of time in which all tasks waited for memory (PSI full, over 10 s) that is too much, in percent.
        memory_full: f64 = 10.0, 0.1 => 100.0;
        /// The same for disks.
        io_full: f64 = 50.0, 0.1 => 100.0;
        /// Share of TCP segments sent again that is too much, in percent.
        retransmits: f64 = 10.0, 0.1 => 100.0;
        /// Packets dropped by network devices in a second that are too many.
        drops: u64 = 1000, 1 => 1_000_000_000;
        /// Whether a process ended for want of memory (OOM kill) is a reason.
        oom_kills: bool = true;
        /// Rest of the tuners afterwards; doubled each time it happens again.
        rest: Duration = s(600), s(1) => s(DAY);
        /// The longest rest.
        longest_rest: Duration = s(6 * 3600), s(1) => s(30 * DAY);
    }
}

section! {
    /// How much of the past is kept. What restoring needs is kept in any case. Takes effect at the next start.
    pub struct Journal {
        /// Decisions older than so many days go.
        keep_days: u64 = 90, 1 => 3650;
        /// So many of the newest decisions stay at most.
        keep_decisions: u64 = 100_000, 100 => 10_000_000;
    }
}

section! {
    /// Who may talk to the daemon, beside root. Takes effect at the next start.
    pub struct Control {
        /// Members of this group may look.
        read_group: String = "bpftune".into();
        /// Members of this group may look and change.
        write_group: String = "bpftune-admin".into();
    }
}

section! {
    /// Tuners that are loaded at run time: see docs/plugins.md. Where something here changes, all plugins are loaded anew.
    pub struct Plugins {
        /// Whether any are loaded.
        enabled: bool = true;
        /// Where they are; of two with one name the one in the later directory is taken. A directory, every directory on
        /// the way to it and every plugin must belong to root and not be writable by others.
        directories: Vec<PathBuf> = paths(&["/usr/lib/bpftune/plugins.d", "/etc/bpftune/plugins.d"]);
        /// Tunables that plugins may declare; `deny` makes exceptions. [governor] holds for plugins as for any tuner.
        allow: Vec<Glob> = globs("net.core.* net.ipv4.* net.ipv6.* net.netfilter.* vm.*");
        /// Tunables that no plugin may declare, whatever `allow` says: by default what decides who reaches this host or
        /// its memory.
        deny: Vec<Glob> = globs(GUARDED);
        /// Memory of one plugin: address space of each of its processes, and what they use together where the daemon's
        /// control group can have groups of its own with a memory controller.
        memory: Amount = Amount::Bytes(512 << 20);
        /// Processes and threads of one plugin at a time.
        processes: u64 = 16, 1 => 4096;
        /// Open files of each of its processes.
        files: u64 = 64, 8 => 65_536;
        /// Processor time of each of its processes; then it is ended and started anew.
        cpu_time: Duration = s(3600), s(1) => s(3650 * DAY);
    }
}
