//! From signals to proposals: no I/O, no clock.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Machine, Proposal, Scope, Signal, Tunable, Tuner, Value, View,
    trial::{Guard, Plan, Resource, Windows},
};

pub(super) const NEAR: &str = "maps-near-limit";
pub(super) const MAX_MAPS: &str = "vm.max_map_count";

/// What a mapping takes of the kernel's memory: `vm_area_struct` and its place in the tree.
const EACH: u64 = 256;
/// What every Linux may have; the kernel's own is half as much.
const LEAST: i64 = 1 << 17;
/// As many as 64-bit Linux takes.
const MOST: i64 = i32::MAX as i64;

/// The tuner. It remembers nothing.
#[derive(Clone, Debug, Default)]
pub struct VmMaps;

/// All mappings of one process may take a 64th of memory, and a 16th of what is left of it now: a program that loses track
/// of its mappings gets no further.
fn most(machine: &Machine) -> i64 {
    let room = (machine.memory_total / 64).min(machine.memory_available / 16);
    i64::try_from(room / EACH)
        .unwrap_or(MOST)
        .clamp(LEAST, MOST)
}

fn cost(value: &Value) -> u64 {
    u64::try_from(value.last())
        .unwrap_or(0)
        .saturating_mul(EACH)
}

impl Tuner for VmMaps {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "raises how many mappings a process may have before programs run into it"
    }

    fn tunables(&self) -> Vec<Tunable> {
        vec![Tunable {
            name: MAX_MAPS.into(),
            scope: Scope::Global,
            unit: "mappings".into(),
            about: "mappings of a process".into(),
            bound: Bound::Derived(|machine| vec![(1, most(machine))]),
            cost: Cost::Derived(cost),
        }]
    }

    /// Half of what there may be is no chance.
    fn acts_at_once(&self) -> bool {
        true
    }

    /// Who fills a limit does not wait for windows before.
    fn trial(&self, _: &str) -> Plan {
        Plan {
            guards: vec![Guard::stall(Resource::Memory, 0.02)],
            baseline: Windows {
                count: 3,
                length: Duration::from_millis(2),
            },
            ..Plan::default()
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        if signal.scenario != NEAR {
            return Vec::new();
        }
        raise(signal, view).into_iter().collect()
    }
}

/// Twice what may be. Nothing falls again: what is mapped stays, and more would be refused.
fn raise(signal: &Signal, view: &dyn View) -> Option<Proposal> {
    let (maps, limit) = (signal.figure("maps")?, signal.figure("limit")?);
    let knob = Knob {
        tunable: MAX_MAPS.into(),
        netns: view.host_netns(),
    };
    let now = view.value(&knob)?.last();
    // Another limit by now, or a process that has room.
    if now < 1 || now as f64 != limit || maps * 2.0 < limit {
        return None;
    }
    let target = (u64::try_from(now).ok()? * 2).next_power_of_two();
    let target = i64::try_from(target).unwrap_or(MOST);
    let reason = format!(
        "{} has {maps:.0} of {limit:.0} mappings that a process may have",
        signal.subject
    );
    Some(Proposal::gain(knob, target.min(MOST), reason))
}

#[cfg(test)]
mod tests;
