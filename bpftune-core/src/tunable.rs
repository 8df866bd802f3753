//! What can be changed: the declaration of a kernel parameter.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use crate::{Machine, NetnsCookie, Value};

/// The safe range of each number of a tunable.
#[derive(Clone)]
pub enum Bound {
    /// Derived from the machine as it is now.
    Derived(fn(&Machine) -> Vec<(i64, i64)>),
    /// Always the same, as a plugin declares it.
    Fixed(Vec<(i64, i64)>),
}

impl Bound {
    /// The ranges on this machine, lowest and highest.
    #[must_use]
    pub fn ranges(&self, machine: &Machine) -> Vec<(i64, i64)> {
        match self {
            Bound::Derived(derive) => derive(machine),
            Bound::Fixed(ranges) => ranges.clone(),
        }
    }
}

/// Whether each network namespace has its own value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One value for the host.
    Global,
    /// One value per network namespace.
    Netns,
}

/// A kernel parameter that a tuner may ask to change. One tuner owns it.
#[derive(Clone)]
pub struct Tunable {
    /// The sysctl's dotted name: "net.ipv4.tcp_rmem".
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
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Knob {
    /// The tunable's dotted name.
    pub tunable: String,
    /// The namespace; for a global tunable the host's own.
    pub netns: NetnsCookie,
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.tunable, self.netns)
    }
}
