//! From signals to proposals: no I/O, no clock.

use std::{collections::HashSet, time::Duration};

use bpftune_core::{
    Bound, Cost, Cpus, Knob, Proposal, Scope, Signal, Tunable, Tuner, View,
    governor::Decision,
    stats::{Direction, Role, Scale},
    trial::{Counter, Guard, Harm, Measure, Outcome, Plan, Record, Windows},
};

use super::{
    follow::{self, READ_ELSEWHERE},
    spread,
};

/// A processor has too much to do with a device's packets, and another one idles.
pub(super) const ONE_SIDED: &str = "receive-one-sided";
/// Packets that a device took in, in all: see [`bpftune_core::Source::figure`].
pub(super) const PACKETS: &str = "packets";

pub(super) const RPS: &str = "/sys/class/net/*/queues/rx-0/rps_cpus";

/// Share of a processor's time that packets must take, for their way through the kernel to be what it lacks.
const SOFTIRQ: f64 = 0.25;
/// It has no more than this left.
const LEFT: f64 = 0.2;
/// Another one has at least so much.
const SPARE: f64 = 0.35;

/// Whether work should move: shares of time of the processor that has it, and what the idlest of the others has to spare.
pub(super) fn one_sided(softirq: f64, idle: f64, spare: f64) -> bool {
    softirq >= SOFTIRQ && idle <= LEFT && spare >= SPARE
}

/// The tuner. It remembers of each device whether sharing was of use.
#[derive(Clone, Debug, Default)]
pub struct IrqSteer {
    places: Vec<Cpus>,
    online: Cpus,
    /// Whether every one that is online shares work.
    all_share: bool,
    /// Interrupts that were moved once: it is tried, or refused, and not again.
    moved: HashSet<Knob>,
    /// Devices whose trial found no gain.
    useless: HashSet<Knob>,
}

impl IrqSteer {
    /// For these processors, which may share work among those of one set, of all those that are online.
    #[must_use]
    pub fn new(places: Vec<Cpus>, online: Cpus) -> IrqSteer {
        let sharing: Cpus = places.iter().flat_map(Cpus::iter).collect();
        IrqSteer {
            all_share: sharing == online,
            online,
            places,
            moved: HashSet::new(),
            useless: HashSet::new(),
        }
    }

    fn share(&self, signal: &Signal, knob: Knob, now: &Cpus) -> Option<Proposal> {
        let figure = |name| signal.figure(name);
        let (cpu, softirq) = (figure("cpu")?, figure("softirq")?);
        let (idle, spare) = (figure("idle")?, figure("spare")?);
        if !now.is_empty() || self.useless.contains(&knob) || !one_sided(softirq, idle, spare) {
            return None;
        }
        let place = self
            .places
            .iter()
            .find(|place| place.contains(cpu as u32))?;
        if place.len() < 2 {
            return None;
        }
        let percent = |share: f64| share * 100.0;
        let reason = format!(
            "processor {cpu} takes in all {:.0} packets a second of {}, which are {:.0} % of its time, and has {:.0} % left, \
             while another one is idle for {:.0} %",
            figure("packets")?,
            signal.subject,
            percent(softirq),
            percent(idle),
            percent(spare),
        );
        Some(Proposal::gain(knob, place.clone(), reason))
    }
}

impl Tuner for IrqSteer {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "spreads the packets of a device that one processor takes in over processors that idle"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let [host, device] = follow::tunables();
        let shared = Tunable {
            name: RPS.into(),
            scope: Scope::Netns,
            unit: "processors".into(),
            about: "which processors handle packets of a device with one receive queue, flow by flow (RPS)".into(),
            bound: Bound::Cpus,
            cost: Cost::Nothing,
        };
        vec![shared, host, device, spread::tunable()]
    }

    /// More packets are no good where those who read them are kept from it.
    fn trial(&self, tunable: &str) -> Plan {
        if let Some(plan) = follow::trial(tunable).or_else(|| spread::trial(tunable)) {
            return plan;
        }
        let packets = || Counter::Own(PACKETS.into());
        let datagrams = Counter::net("Udp", "InDatagrams");
        let unread = Counter::net("Udp", "RcvbufErrors");
        let guards = vec![
            growth("packets taken in", packets()),
            lost(
                "packets lost by full queues",
                Counter::SoftnetDrops,
                packets(),
            ),
            lost("datagrams that nobody read in time", unread, datagrams),
            Guard::retransmits(),
        ];
        short(guards, true)
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        // The payload of loopback is in the cache of the processor that sent it.
        if signal.subject == "lo" {
            return Vec::new();
        }
        if signal.scenario == READ_ELSEWHERE {
            let all = self.all_share.then_some(&self.online);
            let wish = follow::wish(signal, view, all, &self.useless);
            return wish.into_iter().collect();
        }
        if signal.scenario != ONE_SIDED {
            return Vec::new();
        }
        if let Some(wish) = spread::wish(signal, view, &self.online, &self.moved) {
            return vec![wish];
        }
        // One with more queues spreads its packets itself.
        if signal.figure("queues").is_some_and(|queues| queues > 1.0) {
            return Vec::new();
        }
        let knob = Knob {
            tunable: RPS.replace('*', &signal.subject),
            netns: signal.netns,
        };
        let now = view.value(&knob);
        let wish = now.and_then(|value| self.share(signal, knob, value.as_cpus()?));
        wish.into_iter().collect()
    }

    fn decided(&mut self, proposal: &Proposal, decision: &Decision) {
        let affinity = spread::tunable().covers(&proposal.knob.tunable);
        if affinity && matches!(decision, Decision::Apply(_)) {
            remember(&mut self.moved, &proposal.knob);
        }
    }

    fn tried(&mut self, knob: &Knob, record: &Record) {
        if record.outcome != Outcome::Better {
            remember(&mut self.useless, knob);
        }
    }
}

fn remember(knobs: &mut HashSet<Knob>, knob: &Knob) {
    if knobs.len() >= MOST {
        knobs.clear();
    }
    knobs.insert(knob.clone());
}

/// Devices of containers come and go; of so many it is remembered.
const MOST: usize = 4096;

/// What should grow by a twentieth: the goal.
pub(super) fn growth(name: &'static str, counter: Counter) -> Guard {
    let mut guard = Guard::goal(name, Direction::Higher, vec![counter], 0.05);
    guard.metric.scale = Scale::Relative;
    guard
}

/// It works at once, so the windows are short. `better`: only what is better stays, for packets that change processors for
/// nothing cost time.
pub(super) fn short(guards: Vec<Guard>, better: bool) -> Plan {
    Plan {
        guards,
        baseline: Windows {
            count: 6,
            length: Duration::from_millis(100),
        },
        settle: Duration::from_millis(300),
        trial: Windows {
            count: 12,
            length: Duration::from_millis(200),
        },
        only_better: better,
        ..Plan::default()
    }
}

/// A share that should not rise by more than a fiftieth.
fn lost(name: &'static str, part: Counter, whole: Counter) -> Guard {
    let mut guard = Guard::goal(name, Direction::Lower, Vec::new(), 0.02);
    guard.metric.role = Role::Guard;
    guard.measure = Measure::Share { part, whole };
    guard.least = 1000.0;
    guard.harm = Harm::Counts;
    (guard.factor, guard.unit) = (100.0, "%".into());
    guard
}

#[cfg(test)]
mod tests;
