//! Rounds of a processor over its queues that end before each had its turn.
//!
//! A round (`net_rx_action`) handles so many packets, or lasts so long, and each queue gives up to 64 of them. What is left comes
//! in the next one, at once or by ksoftirqd. Where more devices than the budget has room for share a processor, rounds are cut
//! short: a squeeze. That alone is no harm, and more room may help or not: so it is tried, where packets are lost for good.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Proposal, Scope, Signal, Tunable, View,
    governor::Decision,
    stats::Direction,
    trial::{Counter, Guard, Measure, Plan, Record},
};

use super::rules::PACKETS_LOST;
use crate::{bursts::is_overload, tries::Tries};

/// The name of the signal's figure: squeezes a second, of all processors.
pub(super) const SQUEEZED: &str = "squeezed";

/// So many are no chance.
const OFTEN: f64 = 100.0;

/// What bounds a round.
struct Limit {
    name: &'static str,
    unit: &'static str,
    about: &'static str,
    /// In one step.
    growth: i64,
    most: i64,
}

const LIMITS: [Limit; 2] = [
    Limit {
        name: "net.core.netdev_budget",
        unit: "packets",
        about: "most packets of a round over a processor's queues",
        growth: 4,
        most: 4800,
    },
    Limit {
        name: "net.core.netdev_budget_usecs",
        unit: "us",
        about: "longest round over a processor's queues",
        growth: 2,
        most: 32_000,
    },
];

fn limit(tunable: &str) -> Option<usize> {
    LIMITS.iter().position(|limit| limit.name == tunable)
}

pub(super) fn tunables() -> impl Iterator<Item = Tunable> {
    LIMITS.iter().map(|limit| Tunable {
        name: limit.name.into(),
        scope: Scope::Global,
        unit: limit.unit.into(),
        about: limit.about.into(),
        bound: Bound::Fixed(vec![(1, limit.most)]),
        cost: Cost::Nothing,
    })
}

/// To and fro, by the share of packets that is lost; `None` of another tunable. Overload is noisy, and what looked better by
/// chance would stay: so one trial in a hundred may say that.
pub(super) fn trial(tunable: &str) -> Option<Plan> {
    limit(tunable)?;
    let mut lost = Guard::goal("packets lost", Direction::Lower, Vec::new(), 0.05);
    lost.measure = Measure::Share {
        part: Counter::Own(PACKETS_LOST.into()),
        whole: Counter::SoftnetHandled,
    };
    lost.least = 1000.0;
    (lost.factor, lost.unit) = (100.0, "% of those handled".into());
    let plan = Plan {
        guards: vec![lost],
        alpha: 0.01,
        only_better: true,
        ..Plan::default()
    };
    let (settle, window) = (Duration::from_millis(50), Duration::from_millis(200));
    Some(plan.interleaved(settle, 10, window))
}

/// What was tried of each limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    tries: [Tries; LIMITS.len()],
}

impl Rounds {
    /// More room for a round, where rounds are cut short while a processor has been losing packets for long.
    pub(super) fn wish(&mut self, signal: &Signal, view: &dyn View) -> Option<Proposal> {
        let (lasting, squeezed) = (signal.figure("lasting")?, signal.figure(SQUEEZED)?);
        for tries in &mut self.tries {
            tries.heard(view.now());
        }
        if !is_overload(lasting) || squeezed < OFTEN || self.tries.iter().any(Tries::is_on) {
            return None;
        }
        let mut limits = LIMITS.iter().zip(&self.tries);
        limits.find_map(|(limit, tries)| {
            let knob = Knob {
                tunable: limit.name.into(),
                netns: view.host_netns(),
            };
            let now = view.value(&knob)?.last();
            let target = now.saturating_mul(limit.growth).min(limit.most);
            let reason = format!(
                "packets from {} have been lost for {:.1} s without a pause, and {squeezed:.0} times a second a processor \
                 ended a round over its queues before each had its turn",
                signal.subject,
                lasting / 1e3
            );
            (target > now && tries.may()).then(|| Proposal::gain(knob, target, reason))
        })
    }

    pub(super) fn decided(&mut self, proposal: &Proposal, decision: &Decision) {
        if let (Some(limit), Decision::Apply(_)) = (limit(&proposal.knob.tunable), decision) {
            self.tries[limit].begin();
        }
    }

    pub(super) fn tried(&mut self, knob: &Knob, record: &Record) {
        if let Some(limit) = limit(&knob.tunable) {
            self.tries[limit].told(record.outcome);
        }
    }
}

#[cfg(test)]
mod tests;
