//! From signals to proposals: no I/O, no clock.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Machine, Proposal, Scope, Signal, Tunable, Tuner, View, give_back,
    governor::Decision,
    halfway,
    stats::Direction,
    trial::{Counter, Guard, Plan, Record, Resource, Windows},
};

use super::{flows, rounds, rounds::Rounds};
use crate::bursts::{Bursts, is_overload, undo};

pub(super) const LOST: &str = "backlog-full";

const MAX_BACKLOG: &str = "net.core.netdev_max_backlog";

/// The name of the source's figure.
pub(super) const PACKETS_LOST: &str = "backlog-lost";

/// What a packet that waits takes of memory, at most in practice.
const PACKET_BYTES: u64 = 4096;
/// The kernel's own value.
const LEAST: i64 = 1000;
/// Longer than that a packet waits for some hundredths of a second.
const MOST: i64 = 65536;
/// In one step at most.
const GROWTH: i64 = 8;

/// The tuner. It remembers how often it acted in the present series of losses, and what was tried in vain.
#[derive(Clone, Debug, Default)]
pub struct NetBacklog {
    bursts: Bursts,
    rounds: Rounds,
}

/// A 256th of memory for the queues of all processors.
fn most_packets(machine: &Machine) -> i64 {
    let packets = machine.memory_total / 256 / PACKET_BYTES / machine.cpus.max(1) as u64;
    i64::try_from(packets).unwrap_or(MOST).clamp(LEAST, MOST)
}

fn knob(view: &dyn View) -> Knob {
    Knob {
        tunable: MAX_BACKLOG.into(),
        netns: view.host_netns(),
    }
}

impl Tuner for NetBacklog {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "sizes processors' queues of incoming packets to the bursts that they lose packets of"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let backlog = Tunable {
            name: MAX_BACKLOG.into(),
            scope: Scope::Global,
            unit: "packets".into(),
            about: "most packets that wait for a processor".into(),
            bound: Bound::Derived(|machine| vec![(64, most_packets(machine))]),
            cost: Cost::Derived(|value| {
                u64::try_from(value.last())
                    .unwrap_or(0)
                    .saturating_mul(PACKET_BYTES)
            }),
        };
        let more = [backlog, flows::tunable()].into_iter();
        more.chain(rounds::tunables()).collect()
    }

    /// A packet that was lost is no chance.
    fn acts_at_once(&self) -> bool {
        true
    }

    fn trial(&self, tunable: &str) -> Plan {
        if tunable == flows::FLOW_LIMIT {
            return flows::trial();
        }
        if let Some(plan) = rounds::trial(tunable) {
            return plan;
        }
        let lost = Counter::Own(PACKETS_LOST.into());
        Plan {
            guards: vec![
                Guard::goal("packets lost", Direction::Lower, vec![lost], 1.0),
                Guard::stall(Resource::Memory, 0.02),
            ],
            baseline: Windows {
                count: 3,
                length: Duration::from_millis(50),
            },
            trial: Windows {
                count: 10,
                length: Duration::from_millis(200),
            },
            ..Plan::default()
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        if signal.scenario != LOST {
            return Vec::new();
        }
        let wanted = flows::starve(signal, view)
            .or_else(|| self.lost(signal, view))
            .or_else(|| self.rounds.wish(signal, view));
        wanted.into_iter().collect()
    }

    fn decided(&mut self, proposal: &Proposal, decision: &Decision) {
        self.rounds.decided(proposal, decision);
    }

    fn tried(&mut self, knob: &Knob, record: &Record) {
        self.rounds.tried(knob, record);
    }

    fn on_memory_pressure(&mut self, view: &dyn View) -> Vec<Proposal> {
        let own = knob(view);
        give_back(
            view,
            |knob| *knob == own,
            |_, original, now| halfway(original, now),
        )
    }
}

impl NetBacklog {
    fn lost(&mut self, signal: &Signal, view: &dyn View) -> Option<Proposal> {
        let (lost, lasting) = (signal.figure("lost")?, signal.figure("lasting")?);
        let knob = knob(view);
        let now = view.value(&knob)?.last();
        if is_overload(lasting) {
            return too_slow(signal, view, knob, lasting);
        }
        // All queues have one length.
        if !self.bursts.step(MAX_BACKLOG, signal.figure("series")?) {
            return None;
        }
        let wanted = now.saturating_add(lost as i64);
        let target = wanted
            .max(now.saturating_mul(2))
            .min(now.saturating_mul(GROWTH))
            .min(most_packets(view.machine()));
        let reason = format!(
            "{lost:.0} packets from {} were lost for a processor's queue of incoming packets was full at {now}",
            signal.subject
        );
        (target > now).then(|| Proposal::gain(knob, target, reason))
    }
}

/// A longer queue only makes packets older.
fn too_slow(signal: &Signal, view: &dyn View, knob: Knob, lasting: f64) -> Option<Proposal> {
    let reason = format!(
        "packets from {} have been lost for {:.1} s without a pause, with a longer queue too: a processor cannot keep up, \
         and a longer queue only makes packets older",
        signal.subject,
        lasting / 1e3
    );
    undo(view, knob, reason)
}

#[cfg(test)]
mod tests;
