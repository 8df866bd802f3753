//! From signals to proposals: no I/O, no clock.

use std::{collections::HashMap, time::Duration};

use bpftune_core::{
    Bound, Cost, Knob, Machine, Proposal, Scope, Signal, Tunable, Tuner, Value, View,
    stats::{Direction, Role, Scale},
    trial::{Counter, Guard, Harm, Measure, Plan, Resource, Windows},
};

/// A service holds memory that it does not miss.
pub(super) const IDLE: &str = "memory-idle";
/// A service under a limit of ours waits for memory.
pub(super) const PRESSED: &str = "memory-pressed";
/// Figures of the source, of the service that is looked at: seconds in which it waited, and bytes that it holds.
pub(super) const STALLED: &str = "stalled";
pub(super) const HELD: &str = "held";

const HIGH: &str = "/sys/fs/cgroup/system.slice/*/memory.high";

/// Less than this is not worth to be looked at.
pub(super) const LEAST: u64 = 128 << 20;
/// And no service gets less than half of it.
const FLOOR: i64 = (LEAST / 2) as i64;
/// Shares of time: below the first a service misses nothing, above the second it does, and above the third badly.
pub(super) const CALM: f64 = 0.0005;
pub(super) const TOO_MUCH: f64 = 0.005;
const BADLY: f64 = 0.05;

/// A service that waited under a limit is not taken near to it again for so long: jobs that come each hour come again.
const REMEMBERED: Duration = Duration::from_secs(2 * 3600);
/// Services come and go; of so many it is remembered.
const MOST: usize = 1024;

/// The tuner. It remembers under which limit a service had to wait.
#[derive(Clone, Debug, Default)]
pub struct CgroupMem {
    /// The limit, and when that was.
    waited: HashMap<Knob, (i64, Duration)>,
}

/// The limit is kept in pages; a number of them has nothing to be rounded.
fn pages(bytes: f64, machine: &Machine) -> i64 {
    let page = machine.page_size.max(1);
    i64::try_from(bytes.max(0.0) as u64 / page * page).unwrap_or(i64::MAX)
}

impl CgroupMem {
    fn wish(&mut self, signal: &Signal, view: &dyn View) -> Option<Proposal> {
        let figure = |name| signal.figure(name);
        let (held, stalled) = (figure("held")?, figure("stalled")?);
        let knob = Knob {
            tunable: HIGH.replace('*', &signal.subject),
            netns: view.host_netns(),
        };
        let now = view.value(&knob)?;
        let original = view.original(&knob);
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        match signal.scenario.as_ref() {
            IDLE if stalled <= CALM && held >= LEAST as f64 => {
                // A limit that somebody else set is theirs.
                if original.is_none() && now != Value::word("max") {
                    return None;
                }
                let most = if now.numbers().is_empty() {
                    held
                } else {
                    held.min(now.last() as f64)
                };
                let target = pages(most * 0.95, view.machine());
                self.waited
                    .retain(|_, (_, at)| view.now() < *at + REMEMBERED);
                let too_low = self.waited.get(&knob).map_or(0, |(limit, _)| limit / 5 * 6);
                if target < too_low.max(FLOOR) {
                    return None;
                }
                let reason = format!(
                    "{} holds {:.0} MiB and waited for memory in {:.3} % of time: it does not miss a twentieth",
                    signal.subject,
                    mib(held),
                    stalled * 100.0
                );
                Some(Proposal::gain(knob, target, reason))
            }
            PRESSED if stalled >= TOO_MUCH => {
                let original = original.filter(|original| *original != now)?;
                if self.waited.len() < MOST {
                    self.waited.insert(knob.clone(), (now.last(), view.now()));
                }
                let more = pages(now.last() as f64 * 1.2, view.machine());
                let within = original.numbers().is_empty() || more < original.last();
                let target = if stalled < BADLY && within {
                    more.into()
                } else {
                    original
                };
                let reason = format!(
                    "{} waited for memory in {:.1} % of time under a limit of {:.0} MiB",
                    signal.subject,
                    stalled * 100.0,
                    mib(now.last() as f64)
                );
                Some(Proposal::against_harm(knob, target, reason))
            }
            _ => None,
        }
    }
}

impl Tuner for CgroupMem {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "takes memory that services hold and do not miss back for the host"
    }

    fn tunables(&self) -> Vec<Tunable> {
        vec![Tunable {
            name: HIGH.into(),
            scope: Scope::Global,
            unit: "bytes".into(),
            about: "from where on a service's memory is reclaimed, and it has to wait for that"
                .into(),
            bound: Bound::Derived(|machine| {
                let most = i64::try_from(machine.memory_total).unwrap_or(i64::MAX);
                vec![(FLOOR, most.max(FLOOR))]
            }),
            cost: Cost::Nothing,
        }]
    }

    /// Reclaim takes its time, and whether something is missed shows only when it is used again.
    fn trial(&self, _: &str) -> Plan {
        let own = |name: &'static str| Counter::Own(name.into());
        let mut held = Guard::own_level(HELD, 0.02, 1.0 / f64::from(1 << 20), "MiB");
        held.metric.role = Role::Goal;
        held.harm = Harm::ProvesNothing;
        let mut stalled = Guard::goal(STALLED, Direction::Lower, vec![own(STALLED)], TOO_MUCH);
        stalled.metric.role = Role::Guard;
        stalled.metric.scale = Scale::Absolute;
        stalled.harm = Harm::Counts;
        (stalled.factor, stalled.unit) = (100.0, "% of time".into());
        debug_assert!(matches!(held.measure, Measure::Level(_)));
        Plan {
            guards: vec![
                held,
                stalled,
                Guard::stall(Resource::Io, 0.05),
                Guard::stall(Resource::Memory, 0.02),
            ],
            baseline: Windows {
                count: 5,
                length: Duration::from_secs(1),
            },
            settle: Duration::from_secs(3),
            trial: Windows {
                count: 12,
                length: Duration::from_secs(1),
            },
            only_better: true,
            ..Plan::default()
        }
    }

    /// The source has watched for an interval before it speaks, and pressure does not wait.
    fn acts_at_once(&self) -> bool {
        true
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        self.wish(signal, view).into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
