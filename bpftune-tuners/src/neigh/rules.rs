//! From signals to proposals: no I/O, no clock.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Machine, Proposal, Scope, Signal, Tunable, Tuner, Value, View, give_back,
    halfway,
    trial::{Guard, Plan, Resource, Windows},
};

pub(super) const FILLING: &str = "neighbours-filling";
pub(super) const REFUSED: &str = "neighbour-refused";
pub(super) const DRAINED: &str = "neighbours-drained";

const LIMITS: [&str; 2] = [
    "net.ipv4.neigh.default.gc_thresh3",
    "net.ipv6.neigh.default.gc_thresh3",
];
/// Beyond this many entries the kernel sweeps the table as soon as the last sweep is five seconds old, and then takes
/// entries that are in use too.
const SWEEPS: [&str; 2] = [
    "net.ipv4.neigh.default.gc_thresh2",
    "net.ipv6.neigh.default.gc_thresh2",
];

/// What an entry costs the kernel with its queued packet, at most in practice.
const ENTRY_BYTES: u64 = 1024;
/// Past this the kernel walks too far in one go (neigh_forced_gc, neigh_hash_grow).
const MOST: i64 = 1 << 20;
/// What the kernel starts with, and what the smallest machine can afford.
const LEAST: i64 = 1024;
/// Entries that a burst cannot make before a signal of it has led to a change: some ten milliseconds at a million a
/// second. The BPF program speaks when half of it is left, and has the same number.
pub(super) const RESERVE: i64 = 16384;
/// One in so many entries must get an address, or it is a scan that fills the table.
const SCAN_SHARE: f64 = 4.0;

/// The tuner. It remembers nothing: all it needs is in the signal and the view.
#[derive(Clone, Debug, Default)]
pub struct Neigh;

/// A 256th of memory.
fn most_entries(machine: &Machine) -> i64 {
    let entries = machine.memory_total / 256 / ENTRY_BYTES;
    i64::try_from(entries).unwrap_or(MOST).clamp(LEAST, MOST)
}

fn entries_cost(value: &Value) -> u64 {
    let entries = u64::try_from(value.last()).unwrap_or(0);
    entries.saturating_mul(ENTRY_BYTES)
}

impl Tuner for Neigh {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "gives the neighbour tables room before bursts of neighbours fill them"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let tunable = |name: &'static str, about: &'static str, bound, cost| Tunable {
            name: name.into(),
            scope: Scope::Global,
            unit: "entries".into(),
            about: about.into(),
            bound: Bound::Derived(bound),
            cost,
        };
        let limit = |name| {
            let bound: fn(&Machine) -> Vec<(i64, i64)> =
                |machine| vec![(128, most_entries(machine))];
            let about = "most neighbours of all namespaces together";
            tunable(name, about, bound, Cost::Derived(entries_cost))
        };
        let sweep = |name| {
            let bound: fn(&Machine) -> Vec<(i64, i64)> =
                |machine| vec![(64, most_entries(machine) / 2)];
            let about = "neighbours from which on entries are swept out every five seconds";
            // What they cost is counted with the limit.
            tunable(name, about, bound, Cost::Nothing)
        };
        LIMITS
            .map(limit)
            .into_iter()
            .chain(SWEEPS.map(sweep))
            .collect()
    }

    /// Waiting for a second signal would be too late.
    fn acts_at_once(&self) -> bool {
        true
    }

    /// For the same reason without windows before; what is watched is whether the host can afford it.
    fn trial(&self, _: &str) -> Plan {
        Plan {
            guards: vec![Guard::stall(Resource::Memory, 0.02)],
            baseline: Windows {
                count: 0,
                length: Duration::from_millis(10),
            },
            ..Plan::default()
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let Some(table) = Table::of(signal) else {
            return Vec::new();
        };
        match signal.scenario.as_ref() {
            FILLING | REFUSED => table.grow(signal, view),
            DRAINED => table.shrink(view),
            _ => Vec::new(),
        }
    }

    /// Halfway back to the reserve of a burst; that is at most a 256th of memory, and an empty table costs nothing.
    fn on_memory_pressure(&mut self, view: &dyn View) -> Vec<Proposal> {
        let is_limit = |knob: &Knob| LIMITS.contains(&knob.tunable.as_str());
        let is_sweep = |knob: &Knob| SWEEPS.contains(&knob.tunable.as_str());
        give_back(
            view,
            |knob| is_limit(knob) || is_sweep(knob),
            |knob, original, now| {
                let reserve = if is_limit(knob) { RESERVE } else { RESERVE / 2 };
                halfway(original.max(reserve), now)
            },
        )
    }
}

/// The figures of a signal.
struct Table {
    /// 0 for IPv4, 1 for IPv6.
    family: usize,
    entries: i64,
    /// What the network of the new entry may hold.
    hosts: i64,
    made: f64,
    resolved: f64,
}

impl Table {
    fn of(signal: &Signal) -> Option<Table> {
        Some(Table {
            family: usize::from(signal.figure("family")? == 6.0),
            entries: signal.figure("entries")? as i64,
            hosts: signal.figure("hosts")? as i64,
            made: signal.figure("made")?,
            resolved: signal.figure("resolved")?,
        })
    }

    fn name(&self) -> &'static str {
        ["IPv4", "IPv6"][self.family]
    }

    fn knob(&self, names: [&str; 2], view: &dyn View) -> Knob {
        Knob {
            tunable: names[self.family].into(),
            netns: view.host_netns(),
        }
    }

    fn grow(&self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let limit = self.knob(LIMITS, view);
        let Some(now) = view.value(&limit).map(|value| value.last()) else {
            return Vec::new();
        };
        // Room enough: a signal from before the last change.
        if now - self.entries >= self.hosts.min(RESERVE / 2) {
            return Vec::new();
        }
        if now >= RESERVE && self.resolved * SCAN_SHARE < self.made {
            return Vec::new();
        }
        // As many again as there are; a network smaller than that cannot bring more than its hosts.
        let more = self.entries.max(self.hosts.min(RESERVE));
        let target = (self.entries + more).min(most_entries(view.machine()));
        // At the bound.
        if target <= now {
            return Vec::new();
        }
        let network = if self.hosts < i64::from(u32::MAX) {
            format!("whose network has room for {}", self.hosts)
        } else {
            "whose network has no end".into()
        };
        let state = if signal.scenario == REFUSED {
            "is full and refused a neighbour"
        } else {
            "may be filled by one burst"
        };
        let reason = format!(
            "the {} neighbour table holds {} of {now} entries and {state}; the last was on {}, {network}",
            self.name(),
            self.entries,
            signal.subject
        );
        let mut proposals = vec![Proposal::gain(limit, target, reason)];
        // The kernel's own ratio.
        let sweep = self.knob(SWEEPS, view);
        if view
            .value(&sweep)
            .is_some_and(|value| value.last() < target / 2)
        {
            let reason = format!(
                "the {} neighbour table may hold {target} entries now, and sweeping from fewer than half of them on \
                 would take out what is in use",
                self.name()
            );
            proposals.push(Proposal::gain(sweep, target / 2, reason));
        }
        proposals
    }

    /// Back to what a burst may need, or to where it started.
    fn shrink(&self, view: &dyn View) -> Vec<Proposal> {
        let changed = view.changed();
        let back = |names, wanted: i64| {
            let knob = self.knob(names, view);
            let (_, original) = changed.iter().find(|(known, _)| *known == knob)?;
            let target = original.last().max(wanted);
            let now = view.value(&knob)?.last();
            let reason = format!(
                "the {} neighbour table holds {} entries again; room for a burst stays",
                self.name(),
                self.entries
            );
            (target < now).then(|| Proposal::gain(knob, target, reason))
        };
        let wanted = self.entries + RESERVE;
        [back(SWEEPS, wanted / 2), back(LIMITS, wanted)]
            .into_iter()
            .flatten()
            .collect()
    }
}

#[cfg(test)]
mod tests;
