//! What can be changed: the declaration of a kernel parameter.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use crate::{Machine, NetnsCookie, Value, governor::Glob, sysctl};

/// The safe range of each number of a tunable, or the words that it may have.
#[derive(Clone)]
pub enum Bound {
    /// Derived from the machine as it is now.
    Derived(fn(&Machine) -> Vec<(i64, i64)>),
    /// Always the same, as a plugin declares it.
    Fixed(Vec<(i64, i64)>),
    /// No numbers: one of these words. The kernel or the device may offer fewer.
    Words(&'static [&'static str]),
    /// No numbers: a set of processors. The kernel leaves out those that are isolated.
    Cpus,
}

impl Bound {
    /// The ranges on this machine, lowest and highest.
    #[must_use]
    pub fn ranges(&self, machine: &Machine) -> Vec<(i64, i64)> {
        match self {
            Bound::Derived(derive) => derive(machine),
            Bound::Fixed(ranges) => ranges.clone(),
            Bound::Words(_) | Bound::Cpus => Vec::new(),
        }
    }

    /// The words, where it has no numbers.
    #[must_use]
    pub fn words(&self) -> Option<&'static [&'static str]> {
        match self {
            Bound::Words(words) => Some(words),
            Bound::Derived(_) | Bound::Fixed(_) | Bound::Cpus => None,
        }
    }
}

/// Whether each network namespace has its own value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One value for the host, or for each device of it.
    Global,
    /// One value per network namespace.
    Netns,
}

/// A kernel parameter that a tuner may ask to change. One tuner owns it.
#[derive(Clone)]
pub struct Tunable {
    /// The sysctl's dotted name: "net.ipv4.tcp_rmem". Or a file below /sys; where each device has one, with a star for
    /// the device's name: "/sys/block/*/queue/read_ahead_kb". Or of interrupts "/proc/irq/*/smp_affinity_list".
    pub name: Cow<'static, str>,
    /// One value, or one a namespace.
    pub scope: Scope,
    /// Unit of the numbers: "bytes", "pages", "boolean".
    pub unit: Cow<'static, str>,
    /// What it does, in one sentence.
    pub about: Cow<'static, str>,
    /// The range that a proposal is moved into. It never lowers a value that an admin set higher:
    /// the governor refuses instead.
    pub bound: Bound,
    /// What a value may cost in memory.
    pub cost: Cost,
}

impl Tunable {
    /// Whether it is one parameter for each device.
    #[must_use]
    pub fn is_family(&self) -> bool {
        is_family(&self.name)
    }

    /// Whether a knob of this name is this tunable, or one of its devices'.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        covers(&self.name, name)
    }

    /// Whether a pattern of the operator's means it, or may mean the parameter of one of its devices.
    #[must_use]
    pub fn is_meant_by(&self, glob: &Glob) -> bool {
        if glob.matches(&self.name) {
            return true;
        }
        let star = self.name.split('/').position(|part| part == "*");
        star.and_then(|at| glob.as_str().split('/').nth(at))
            .is_some_and(|device| glob.matches(&self.name.replacen('*', device, 1)))
    }

    /// The names of its parameters on this host now: its own, or one for each device that has it.
    #[must_use]
    pub fn instances(&self) -> Vec<String> {
        let Some((folder, rest)) = self.name.split_once('*').filter(|_| self.is_family()) else {
            return vec![self.name.to_string()];
        };
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| format!("{folder}{}{rest}", entry.file_name().to_string_lossy()))
            .filter(|name| sysctl::path(name).exists())
            .collect();
        names.sort();
        names
    }
}

/// Whether a tunable of this name is one parameter for each device.
fn is_family(name: &str) -> bool {
    sysctl::is_file(name) && name.contains('*')
}

/// Whether a tunable of the first name takes in the second: the same, or that of a device. No device is named by a
/// star, so a family takes in another only where they are the same.
pub(crate) fn covers(tunable: &str, name: &str) -> bool {
    if !is_family(tunable) {
        return tunable == name;
    }
    let (mut ours, mut theirs) = (tunable.split('/'), name.split('/'));
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return true,
            (Some(ours), Some(theirs)) if ours == theirs || (ours == "*" && !theirs.is_empty()) => {
            }
            _ => return false,
        }
    }
}

/// What a value costs at worst, for the budget that all tuners share.
///
/// Of a limit that many holders have each, such as a socket's buffer, it is the cost of one: how many there can be is
/// bound elsewhere (`net.ipv4.tcp_mem`), and that has a cost of its own.
#[derive(Clone, Copy, Default)]
pub enum Cost {
    /// The last number in bytes where the unit is bytes or pages, else nothing.
    #[default]
    ByUnit,
    /// Nothing.
    Nothing,
    /// Bytes, derived from the value.
    Derived(fn(&Value) -> u64),
}

impl Cost {
    /// Bytes.
    #[must_use]
    pub fn bytes(self, tunable: &Tunable, value: &Value, page_size: u64) -> u64 {
        let last = u64::try_from(value.last()).unwrap_or(0);
        match (self, tunable.unit.as_ref()) {
            (Cost::Derived(derive), _) => derive(value),
            (Cost::ByUnit, "bytes") => last,
            (Cost::ByUnit, "pages") => last.saturating_mul(page_size),
            _ => 0,
        }
    }
}

impl fmt::Debug for Tunable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tunable {
            name,
            scope,
            unit,
            about: _,
            bound: _,
            cost: _,
        } = self;
        f.debug_struct("Tunable")
            .field("name", name)
            .field("scope", scope)
            .field("unit", unit)
            .finish_non_exhaustive()
    }
}

/// A tunable in one place: what is read, written, held and restored.
///
/// A parameter of a device has the device in its name, for the name is a file's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Knob {
    /// The tunable's name, with the device's in place of a star.
    pub tunable: String,
    /// The namespace; for a global tunable the host's own.
    pub netns: NetnsCookie,
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !sysctl::is_of_netns(&self.tunable) {
            return f.write_str(&self.tunable);
        }
        write!(f, "{} in {}", self.tunable, self.netns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(name: &'static str) -> Tunable {
        Tunable {
            name: name.into(),
            scope: Scope::Global,
            unit: "KiB".into(),
            about: "".into(),
            bound: Bound::Fixed(vec![(0, 1)]),
            cost: Cost::Nothing,
        }
    }

    #[test]
    fn a_family_takes_in_its_devices() {
        let tunable = family("/sys/block/*/queue/scheduler");
        for (name, wanted) in [
            ("/sys/block/vda/queue/scheduler", true),
            ("/sys/block/cciss!c0d0/queue/scheduler", true),
            ("/sys/block/*/queue/scheduler", true),
            ("/sys/block/vda/queue/nr_requests", false),
            ("/sys/block/a/b/queue/scheduler", false),
            ("/sys/block//queue/scheduler", false),
            ("/sys/block/vda/queue", false),
        ] {
            assert_eq!(tunable.covers(name), wanted, "{name}");
        }
        assert!(family("net.core.somaxconn").covers("net.core.somaxconn"));
        assert!(!family("net.core.*").covers("net.core.somaxconn"));
    }

    #[test]
    fn patterns_mean_families_and_single_devices() {
        let tunable = family("/sys/block/*/queue/scheduler");
        for (glob, wanted) in [
            ("*", true),
            ("/sys/block/*", true),
            ("/sys/block/vda/*", true),
            ("/sys/block/nvme*/queue/scheduler", true),
            ("/sys/block/vda/queue/scheduler", true),
            ("/sys/block/vda/queue/nr_requests", false),
            ("net.*", false),
        ] {
            assert_eq!(
                tunable.is_meant_by(&glob.parse().unwrap()),
                wanted,
                "{glob}"
            );
        }
    }

    #[test]
    fn finds_the_devices_of_this_host() {
        let tunable = family("/sys/block/*/queue/scheduler");
        for name in tunable.instances() {
            assert!(
                tunable.covers(&name) && sysctl::path(&name).exists(),
                "{name}"
            );
        }
        assert!(family("/sys/block/*/queue/no_such").instances().is_empty());
        assert_eq!(
            family("net.core.somaxconn").instances(),
            ["net.core.somaxconn"]
        );
    }
}
