//! Why memory was refused.

use std::fmt;

use bpftune_core::trial::{Counter, Meter};

/// `vm.overcommit_memory` that counts what was promised, and holds to a limit (proc_sys_vm(5)).
const STRICT: u64 = 2;

/// What the host promises and has, when a call ended with `ENOMEM`. Sizes in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Host {
    pub(super) overcommit: u64,
    pub(super) committed: f64,
    pub(super) commit_limit: f64,
    pub(super) huge_total: f64,
    /// Neither in use nor promised.
    pub(super) huge_left: f64,
}

impl Host {
    /// Of /proc/meminfo. `None` where it does not tell.
    pub(super) fn read(overcommit: u64, meter: &mut dyn Meter) -> Option<Host> {
        let mut size = |name: &'static str| meter.read(&Counter::MemInfo(name.into()));
        let huge_total = size("HugePages_Total").unwrap_or(0.0);
        let huge_free = size("HugePages_Free").unwrap_or(0.0);
        Some(Host {
            overcommit,
            committed: size("Committed_AS")?,
            commit_limit: size("CommitLimit")?,
            huge_total,
            huge_left: huge_free - size("HugePages_Rsvd").unwrap_or(0.0),
        })
    }
}

/// The cause of an `ENOMEM`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cause {
    /// The process has all the mappings that it may have.
    Mappings,
    /// Nearly all that may be promised is promised.
    Promised { committed: f64, limit: f64 },
    /// Every huge page is in use or promised.
    HugePages { total: f64 },
    /// An `RLIMIT_AS`, an address that is taken, a request beyond all bounds: the program's own affair.
    Other,
}

impl Cause {
    pub(super) fn of(maps: u64, limit: u64, host: &Host) -> Cause {
        if maps >= limit {
            return Cause::Mappings;
        }
        if host.overcommit == STRICT && host.committed >= host.commit_limit * 0.95 {
            return Cause::Promised {
                committed: host.committed,
                limit: host.commit_limit,
            };
        }
        if host.huge_total > 0.0 && host.huge_left < 1.0 {
            return Cause::HugePages {
                total: host.huge_total,
            };
        }
        Cause::Other
    }

    /// For telling each cause once in a while.
    pub(super) fn word(self) -> &'static str {
        match self {
            Cause::Mappings => "mappings",
            Cause::Promised { .. } => "promised",
            Cause::HugePages { .. } => "huge pages",
            Cause::Other => "other",
        }
    }
}

/// What to tell an operator.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Mappings => f.write_str("it has all the mappings that vm.max_map_count allows"),
            Cause::Promised { committed, limit } => write!(
                f,
                "{:.0} of {:.0} MiB that may be promised are, by vm.overcommit_memory=2: more swap, a higher \
                 vm.overcommit_ratio, or programs that ask for less",
                committed / 1024.0,
                limit / 1024.0
            ),
            Cause::HugePages { total } => write!(
                f,
                "all {total:.0} huge pages are in use or promised: where it asked for those, vm.nr_hugepages is too low"
            ),
            Cause::Other => f.write_str("no limit of the host is why"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT_HOST: Host = Host {
        overcommit: 2,
        committed: 990.0,
        commit_limit: 1000.0,
        huge_total: 0.0,
        huge_left: 0.0,
    };

    #[test]
    fn causes_are_told_apart() {
        let of = |maps, host: Host| Cause::of(maps, 65530, &host).word();
        assert_eq!(of(65530, Host::default()), "mappings");
        assert_eq!(of(65530, STRICT_HOST), "mappings");
        assert_eq!(of(100, STRICT_HOST), "promised");
        let heuristic = Host {
            overcommit: 0,
            ..STRICT_HOST
        };
        assert_eq!(of(100, heuristic), "other", "the sum binds nobody");
        let room = Host {
            committed: 500.0,
            ..STRICT_HOST
        };
        assert_eq!(of(100, room), "other");
        let huge = Host {
            huge_total: 64.0,
            ..Host::default()
        };
        assert_eq!(of(100, huge), "huge pages");
        let left = Host {
            huge_left: 3.0,
            ..huge
        };
        assert_eq!(of(100, left), "other");
    }

    #[test]
    fn each_has_a_way_out() {
        let promised = Cause::of(1, 2, &STRICT_HOST).to_string();
        assert!(promised.contains("overcommit_ratio"), "{promised}");
    }

    #[test]
    fn this_host_tells() {
        let host = Host::read(0, &mut bpftune_core::trial::ProcMeter::default()).unwrap();
        assert!(host.commit_limit > 0.0);
    }
}
