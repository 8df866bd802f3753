//! What a trial watches, as tuners declare it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::stats::{Direction, Metric, Role, Scale};

/// A resource whose shortage the kernel measures (PSI, Linux 4.20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Processors. The kernel keeps no "full" of the host as a whole: it is always 0.
    Cpu,
    /// Memory.
    Memory,
    /// Disks.
    Io,
}

impl Resource {
    /// "cpu", "memory", "io": its file in /proc/pressure.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Resource::Cpu => "cpu",
            Resource::Memory => "memory",
            Resource::Io => "io",
        }
    }
}

/// A number that somebody counts, read at the ends of each window.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counter {
    /// Of /proc/net/snmp or /proc/net/netstat in the namespace: "Tcp", "OutSegs".
    Net {
        /// The line.
        group: Cow<'static, str>,
        /// The column.
        name: Cow<'static, str>,
    },
    /// Of /proc/net/sockstat in the namespace: "TCP", "tw". A level, not a count of events.
    Sockets {
        /// The line.
        group: Cow<'static, str>,
        /// The word before the number.
        name: Cow<'static, str>,
    },
    /// Packets that the namespace's devices dropped, both ways (/proc/net/dev).
    DeviceDrops,
    /// Seconds in which some or all tasks of the host waited for a resource (/proc/pressure).
    Stall {
        /// For what.
        resource: Resource,
        /// All tasks, not some.
        full: bool,
    },
    /// Seconds that the host's processors worked (/proc/stat).
    CpuBusy,
    /// Packets that the host's processors took in, once more for each virtual device on their way (/proc/net/softnet_stat).
    SoftnetHandled,
    /// Packets that the host dropped because a processor's backlog was full (/proc/net/softnet_stat).
    SoftnetDrops,
    /// How often a processor left packets for later because its budget was used up (/proc/net/softnet_stat).
    SoftnetSqueezes,
    /// A counter of /proc/vmstat: "oom_kill".
    VmStat(Cow<'static, str>),
    /// A size of /proc/meminfo, mostly in KiB: "MemAvailable".
    MemInfo(Cow<'static, str>),
    /// A figure of the tuner's own source, by name: see [`Source::figure`](crate::Source::figure).
    Own(Cow<'static, str>),
}

impl Counter {
    /// A word of /proc/net/sockstat.
    #[must_use]
    pub const fn sockets(group: &'static str, name: &'static str) -> Counter {
        Counter::Sockets {
            group: Cow::Borrowed(group),
            name: Cow::Borrowed(name),
        }
    }

    /// A column of /proc/net/snmp or /proc/net/netstat.
    #[must_use]
    pub const fn net(group: &'static str, name: &'static str) -> Counter {
        Counter::Net {
            group: Cow::Borrowed(group),
            name: Cow::Borrowed(name),
        }
    }
}

/// How a window's number is made of counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// What they grew by together, each second.
    PerSecond(Vec<Counter>),
    /// What one grew by as a share of what the other grew by.
    Share {
        /// The part.
        part: Counter,
        /// The whole.
        whole: Counter,
    },
    /// What it reads at the window's end.
    Level(Counter),
}

impl Measure {
    /// The counters it needs.
    pub fn counters(&self) -> impl Iterator<Item = &Counter> {
        let (many, one): (&[Counter], [Option<&Counter>; 2]) = match self {
            Measure::PerSecond(counters) => (counters, [None, None]),
            Measure::Share { part, whole } => (&[], [Some(part), Some(whole)]),
            Measure::Level(counter) => (&[], [Some(counter), None]),
        };
        many.iter().chain(one.into_iter().flatten())
    }
}

/// What a harm in a metric is worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harm {
    /// It condemns the change.
    Counts,
    /// It proves nothing: what is measured follows a load that may have ended.
    ProvesNothing,
    /// Up to this level it is the price of a goal that has at least doubled.
    PriceUpTo(f64),
}

/// A metric that a trial watches, where it comes from, and what is made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// Name, direction, scale, role and margin.
    pub metric: Metric,
    /// Where it comes from.
    pub measure: Measure,
    /// The least that must have been counted with the change, or nothing is said: the sum of a rate, the whole of a
    /// share, the number of levels.
    pub least: f64,
    /// Harm is believed only where the level with the change is so many times that without (for higher-is-better:
    /// the other way round). 1.0: always.
    pub worse_by: f64,
    /// What harm is worth.
    pub harm: Harm,
    /// Printed as the value times this.
    pub factor: f64,
    /// In this unit.
    pub unit: Cow<'static, str>,
}

impl Guard {
    /// What arrives in and leaves a namespace. Less of it proves nothing: a transfer may have ended.
    #[must_use]
    pub fn goodput() -> Guard {
        Guard {
            metric: Metric {
                name: "goodput".into(),
                better: Direction::Higher,
                scale: Scale::Relative,
                role: Role::Goal,
                margin: 0.05,
            },
            measure: Measure::PerSecond(vec![
                Counter::net("IpExt", "InOctets"),
                Counter::net("IpExt", "OutOctets"),
            ]),
            least: 1.0,
            worse_by: 1.0,
            harm: Harm::ProvesNothing,
            factor: 8e-6,
            unit: "Mbit/s".into(),
        }
    }

    /// Share of TCP segments sent again. A hundredth is nothing; up to a tenth is the price of twice the goodput, for a
    /// connection that is let go meets the path's real limit.
    #[must_use]
    pub fn retransmits() -> Guard {
        Guard {
            metric: Metric {
                name: "segments sent again".into(),
                better: Direction::Lower,
                scale: Scale::Absolute,
                role: Role::Guard,
                margin: 0.01,
            },
            measure: Measure::Share {
                part: Counter::net("Tcp", "RetransSegs"),
                whole: Counter::net("Tcp", "OutSegs"),
            },
            least: 200.0,
            worse_by: 2.0,
            harm: Harm::PriceUpTo(0.1),
            factor: 100.0,
            unit: "%".into(),
        }
    }

    /// What the change is for, by what is counted in the namespace each second. Harm in it proves nothing, for a load may
    /// have ended or begun.
    #[must_use]
    pub fn goal(
        name: &'static str,
        better: Direction,
        counters: Vec<Counter>,
        margin: f64,
    ) -> Guard {
        let mut guard = Guard::lower(name, Measure::PerSecond(counters), margin, 1.0, "/s");
        guard.metric.better = better;
        guard.metric.role = Role::Goal;
        guard.harm = Harm::ProvesNothing;
        guard
    }

    /// Packets that the namespace's devices drop in a second.
    #[must_use]
    pub fn drops(margin: f64) -> Guard {
        Guard::lower(
            "drops",
            Measure::PerSecond(vec![Counter::DeviceDrops]),
            margin,
            1.0,
            "/s",
        )
    }

    /// Share of time in which all tasks (of processors: some task) of the host waited for a resource.
    #[must_use]
    pub fn stall(resource: Resource, margin: f64) -> Guard {
        let full = resource != Resource::Cpu;
        let name = match resource {
            Resource::Cpu => "waiting for a processor",
            Resource::Memory => "waiting for memory",
            Resource::Io => "waiting for a disk",
        };
        let measure = Measure::PerSecond(vec![Counter::Stall { resource, full }]);
        Guard::lower(name, measure, margin, 100.0, "% of time")
    }

    /// Processors of the host that work.
    #[must_use]
    pub fn cpu(margin: f64) -> Guard {
        Guard::lower(
            "busy processors",
            Measure::PerSecond(vec![Counter::CpuBusy]),
            margin,
            1.0,
            "",
        )
    }

    /// A level that the tuner's own source delivers and that should not rise, such as "rtt" or "latency"; the margin is
    /// a share of it.
    #[must_use]
    pub fn own_level(name: &'static str, margin: f64, factor: f64, unit: &'static str) -> Guard {
        let mut guard = Guard::lower(
            name,
            Measure::Level(Counter::Own(name.into())),
            margin,
            factor,
            unit,
        );
        guard.metric.scale = Scale::Relative;
        guard
    }

    fn lower(
        name: &'static str,
        measure: Measure,
        margin: f64,
        factor: f64,
        unit: &'static str,
    ) -> Guard {
        Guard {
            metric: Metric {
                name: name.into(),
                better: Direction::Lower,
                scale: Scale::Absolute,
                role: Role::Guard,
                margin,
            },
            measure,
            least: 0.0,
            worse_by: 1.0,
            harm: Harm::Counts,
            factor,
            unit: unit.into(),
        }
    }

    /// A value as people read it.
    #[must_use]
    pub fn show(&self, value: f64) -> String {
        let value = value * self.factor;
        let digits = if value.abs() < 10.0 { 2 } else { 1 };
        let space = if self.unit.is_empty() || self.unit.starts_with('/') {
            ""
        } else {
            " "
        };
        format!("{value:.digits$}{space}{}", self.unit)
    }
}
