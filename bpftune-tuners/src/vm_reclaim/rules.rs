//! From signals to proposals: no I/O, no clock but the view's.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Machine, Proposal, Scope, Signal, Tunable, Tuner, Value, View, give_back,
    governor::Decision,
    halfway,
    stats::Direction,
    trial::{Counter, Guard, Measure, Plan, Record, Resource, Windows},
};
use nix::unistd::{SysconfVar, sysconf};

use crate::tries::Tries;

pub(super) const STALLS: &str = "reclaim-stalls";

/// Figures of the source: see [`bpftune_core::Source::figure`].
pub(super) const STALLED: &str = "stalled";
pub(super) const ALLOCATED: &str = "allocated";

const FACTOR: &str = "vm.watermark_scale_factor";

/// The factor is in parts of so many of memory: so much lies between minimum and low watermark, and between low and high.
const PARTS: u64 = 10_000;
/// The highest: at the high watermark 3 % of memory are free, beside the minimum.
pub const MOST: i64 = 150;
/// In one step up at most.
const STEP: i64 = 4;
/// Tasks that wait at a time, on average.
pub const MATTERS: f64 = 0.002;
/// A signal must be about so many seconds.
const LASTS: f64 = 4.0;
/// Where less than one of so many parts of memory could be had, memory itself is short.
const SHORT_PARTS: u64 = 8;

/// The tuner. It remembers when a trial showed no gain.
#[derive(Clone, Debug, Default)]
pub struct VmReclaim {
    tries: Tries,
}

/// What is kept back at the high watermark, bytes.
fn kept_back(factor: &Value) -> u64 {
    let constant = |name| {
        let number = sysconf(name).ok().flatten();
        number
            .and_then(|number| u64::try_from(number).ok())
            .unwrap_or(0)
    };
    let memory = constant(SysconfVar::_PHYS_PAGES) * constant(SysconfVar::PAGE_SIZE);
    u64::try_from(factor.last())
        .unwrap_or(0)
        .saturating_mul(2 * (memory / PARTS))
}

/// Memory itself is short: free pages held back would be taken from what programs work on.
fn is_short(machine: &Machine) -> bool {
    machine.memory_available < machine.memory_total / SHORT_PARTS
}

impl Tuner for VmReclaim {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "has pages freed in time, where tasks that want one have to free some themselves"
    }

    fn tunables(&self) -> Vec<Tunable> {
        vec![Tunable {
            name: FACTOR.into(),
            scope: Scope::Global,
            unit: "".into(),
            about: "how early kswapd begins to free pages, and how many it frees".into(),
            bound: Bound::Fixed(vec![(1, MOST)]),
            cost: Cost::Derived(kept_back),
        }]
    }

    fn trial(&self, _: &str) -> Plan {
        let own = |name: &'static str| Counter::Own(name.into());
        let mut waiting = Guard::goal("waiting for free pages", Direction::Lower, vec![], 0.01);
        waiting.measure = Measure::Share {
            part: own(STALLED),
            whole: own(ALLOCATED),
        };
        // A load that has ended allocates nothing.
        waiting.least = 0.25;
        waiting.factor = 1e3;
        waiting.unit = "ms a GiB".into();
        Plan {
            guards: vec![
                waiting,
                more(
                    "pages read again soon after they were freed",
                    &["workingset_refault_file", "workingset_refault_anon"],
                    2560.0,
                ),
                more("pages read from swap", &["pswpin"], 256.0),
                Guard::stall(Resource::Memory, 0.02),
            ],
            // Long enough for a few stalls each.
            baseline: Windows {
                count: 5,
                length: Duration::from_secs(2),
            },
            settle: Duration::from_secs(2),
            trial: Windows {
                count: 8,
                length: Duration::from_secs(2),
            },
            only_better: true,
            ..Plan::default()
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        self.tries.heard(view.now());
        if is_short(view.machine()) {
            return self.on_memory_pressure(view);
        }
        self.raise(signal, view).into_iter().collect()
    }

    fn decided(&mut self, _: &Proposal, decision: &Decision) {
        if matches!(decision, Decision::Apply(_)) {
            self.tries.begin();
        }
    }

    fn tried(&mut self, _: &Knob, record: &Record) {
        self.tries.told(record.outcome);
    }

    /// Stalls alone are what this tuner is for; they are no reason to have more of them.
    fn on_memory_pressure(&mut self, view: &dyn View) -> Vec<Proposal> {
        if !is_short(view.machine()) {
            return Vec::new();
        }
        let owns = |knob: &Knob| knob.tunable == FACTOR;
        give_back(view, owns, |_, original, now| halfway(original, now))
    }
}

/// More of what is counted each second, by a quarter and by so many.
fn more(name: &'static str, counters: &[&'static str], margin: f64) -> Guard {
    let counters = counters.iter().map(|name| Counter::VmStat((*name).into()));
    let mut guard = Guard::goal(name, Direction::Lower, counters.collect(), margin);
    guard.metric.role = bpftune_core::stats::Role::Guard;
    guard.harm = bpftune_core::trial::Harm::Counts;
    guard.worse_by = 1.25;
    guard
}

impl VmReclaim {
    fn raise(&self, signal: &Signal, view: &dyn View) -> Option<Proposal> {
        let figure = |name| signal.figure(name);
        let (over, stalled) = (figure("over")?, figure("stalled")?);
        if over < LASTS || stalled < MATTERS || !self.tries.may() {
            return None;
        }
        let knob = Knob {
            tunable: FACTOR.into(),
            netns: view.host_netns(),
        };
        let now = view.value(&knob)?.last();
        let target = now.saturating_mul(STEP).min(MOST);
        let reason = format!(
            "tasks that wanted memory had to free pages themselves {:.0} times a second, for {:.0} ms of each second \
             together, 99 of 100 times less than {:.1} ms",
            figure("calls")?,
            stalled * 1e3,
            figure("slow")?
        );
        (target > now).then(|| Proposal::gain(knob, target, reason))
    }
}

#[cfg(test)]
mod tests;
