//! From signals to proposals: no I/O, no clock.

use std::{collections::HashMap, time::Duration};

use bpftune_core::{
    Bound, Cost, Knob, Proposal, Scope, Signal, Tunable, Tuner, Value, View,
    stats::{Direction, Role, Scale},
    trial::{Counter, Guard, Harm, Measure, Outcome, Plan, Record, Resource},
};

/// Programs that were woken wait for long.
pub(super) const WAITS: &str = "woken-waits";
/// Figures of the source: wake-ups for a moment's work, ms that they waited, and how many of them for more than anybody
/// bears.
pub(super) const WOKEN: &str = "woken";
pub(super) const WAITED: &str = "waited";
pub(super) const VERY_LONG: &str = "very-long";

pub(super) const AUTOGROUP: &str = "kernel.sched_autogroup_enabled";
/// Since Linux 6.6 of this name; EEVDF's length of a turn.
pub(super) const BASE_SLICE: &str = "/sys/kernel/debug/sched/base_slice_ns";
/// With shorter turns a processor spends more than one part in a thousand on switching.
const SHORTEST_NS: i64 = 1_000_000;

/// Long waits of such a share are worth a change: half as much again as what the source tells.
const OFTEN: f64 = 0.15;
/// Of fewer wake-ups nothing is made.
const LEAST: f64 = 8.0;

/// The tuner. It remembers what did not help.
#[derive(Clone, Debug, Default)]
pub struct CpuSched {
    /// The value that a trial did not find better.
    useless: HashMap<Knob, Value>,
}

impl CpuSched {
    fn wish(&self, signal: &Signal, view: &dyn View) -> Option<Proposal> {
        let figure = |name| signal.figure(name);
        let of = |woken, long| Some((figure(woken)?, figure(long)?));
        let modest = of("modest_woken", "modest_long")?;
        let others = of("other_woken", "other_long")?;
        let (mean, longest) = (figure("mean")?, figure("longest")?);
        let often = |(woken, long): (f64, f64)| woken >= LEAST && long >= OFTEN * woken;
        let knob = |tunable: &str| Knob {
            tunable: tunable.into(),
            netns: view.host_netns(),
        };
        let waits = |(woken, long): (f64, f64), whose: &str| {
            format!(
                "of {woken:.0} wake-ups for a moment's work{whose} {long:.0} waited 4 ms and more for a processor; of all, \
                 {mean:.1} ms on average, the longest {longest:.0} ms, by {}",
                signal.subject
            )
        };
        let autogroup = knob(AUTOGROUP);
        if often(modest) {
            if view.value(&autogroup)?.last() != 0 || self.useless.contains_key(&autogroup) {
                return None;
            }
            let reason = waits(modest, " in sessions that get less than their share");
            return Some(Proposal::gain(autogroup, 1, reason));
        }
        if !often(others) {
            return None;
        }
        let slice = knob(BASE_SLICE);
        let now = view.value(&slice)?.last();
        let target = Value::from((now / 2).max(SHORTEST_NS).min(now));
        if target.last() == now || self.useless.get(&slice) == Some(&target) {
            return None;
        }
        let reason = format!(
            "{}; turns are {:.1} ms",
            waits(others, ""),
            now as f64 / 1e6
        );
        Some(Proposal::gain(slice, target, reason))
    }
}

impl Tuner for CpuSched {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "gives programs that were woken a processor sooner, beside many others that compute"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let tunable =
            |name: &'static str, unit: &'static str, about: &'static str, bound| Tunable {
                name: name.into(),
                scope: Scope::Global,
                unit: unit.into(),
                about: about.into(),
                bound: Bound::Derived(bound),
                cost: Cost::Nothing,
            };
        vec![
            tunable(
                AUTOGROUP,
                "boolean",
                "sessions share processors, not their tasks (sched(7))",
                |_| vec![(0, 1)],
            ),
            tunable(
                BASE_SLICE,
                "ns",
                "how long a task's turn on a processor is where others wait",
                |_| vec![(SHORTEST_NS, 100_000_000)],
            ),
        ]
    }

    /// What is measured are waits of all programs that were woken: who computes without a pause has none.
    fn trial(&self, _: &str) -> Plan {
        let own = |name: &'static str| Counter::Own(name.into());
        let share = |name, part, role, harm, factor, unit: &'static str, margin| {
            let mut guard = Guard::goal(name, Direction::Lower, Vec::new(), margin);
            guard.measure = Measure::Share {
                part,
                whole: own(WOKEN),
            };
            guard.metric.role = role;
            guard.least = 30.0;
            guard.harm = harm;
            (guard.factor, guard.unit) = (factor, unit.into());
            guard
        };
        let mut wait = share(
            "wait for a processor",
            own(WAITED),
            Role::Goal,
            Harm::Counts,
            1.0,
            "ms",
            0.1,
        );
        wait.metric.scale = Scale::Relative;
        let plan = Plan {
            guards: vec![
                wait,
                share(
                    "waits over 50 ms",
                    own(VERY_LONG),
                    Role::Guard,
                    Harm::Counts,
                    100.0,
                    "%",
                    0.01,
                ),
                Guard::stall(Resource::Io, 0.1),
                Guard::stall(Resource::Memory, 0.02),
            ],
            only_better: true,
            ..Plan::default()
        };
        // To and fro, for it begins while the host is short of processors: what ends by itself would look like a gain.
        // Tasks that run keep the group that they have; those that are started get another.
        plan.interleaved(Duration::from_secs(3), 8, Duration::from_secs(2))
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let heard = Some(signal).filter(|signal| signal.scenario == WAITS);
        heard
            .and_then(|signal| self.wish(signal, view))
            .into_iter()
            .collect()
    }

    fn tried(&mut self, knob: &Knob, record: &Record) {
        match record.value_with.parse() {
            Ok(value) if record.outcome != Outcome::Better => {
                self.useless.insert(knob.clone(), value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
