//! Interrupts that share a processor while another one idles (Documentation/core-api/irq/irq-affinity.rst): rules.
//!
//! Packets of a device are handled where its interrupt comes. Where it comes to a processor that cannot keep up with it and
//! what others bring, it goes to another.

use std::collections::HashSet;

use bpftune_core::{
    Bound, Cost, Cpus, Knob, Proposal, Scope, Signal, Tunable, View,
    stats::{Direction, Role},
    trial::{Counter, Guard, Harm, Plan},
};

use super::rules::{PACKETS, growth, one_sided, short};

/// Seconds in which the busy processor had nothing to do: see [`bpftune_core::Source::figure`].
pub(super) const LEFT: &str = "time-left";

const AFFINITY: &str = "/proc/irq/*/smp_affinity_list";

pub(super) fn tunable() -> Tunable {
    Tunable {
        name: AFFINITY.into(),
        scope: Scope::Global,
        unit: "processors".into(),
        about: "which processors may handle an interrupt of a network device".into(),
        bound: Bound::Cpus,
        cost: Cost::Nothing,
    }
}

/// How it is tried; `None` of another tunable. Packets that are lost before the kernel sees them come in; else the processor has
/// time again, and no packet comes less: a load that ends would look the same.
pub(super) fn trial(name: &str) -> Option<Plan> {
    if !tunable().covers(name) {
        return None;
    }
    let left = vec![Counter::Own(LEFT.into())];
    let packets = || Counter::Own(PACKETS.into());
    let mut no_fewer = growth("packets, no fewer", packets());
    no_fewer.metric.role = Role::Guard;
    no_fewer.harm = Harm::Counts;
    let mut left = Guard::goal("time left", Direction::Higher, left, 0.1);
    (left.factor, left.unit) = (100.0, "% of the processor".into());
    let guards = vec![
        left,
        growth("packets taken in", packets()),
        no_fewer,
        Guard::retransmits(),
    ];
    Some(short(guards, true))
}

/// Whether a processor is relieved where a device leaves it: what stays, packets a second, is no trifle beside what goes. Which
/// of the two goes is all the same.
pub(super) fn is_shared(packets: f64, company: f64) -> bool {
    company >= packets / 4.0
}

/// Moves an interrupt that may come to any processor. One that may not is where somebody wants it: an admin, a driver, or an
/// irqbalance that is gone. `asked`: those that were moved once.
pub(super) fn wish(
    signal: &Signal,
    view: &dyn View,
    online: &Cpus,
    asked: &HashSet<Knob>,
) -> Option<Proposal> {
    let figure = |name| signal.figure(name);
    let (number, to, company) = (figure("interrupt")?, figure("to")?, figure("company")?);
    let (cpu, packets) = (figure("cpu")?, figure("packets")?);
    let (softirq, idle, spare) = (figure("softirq")?, figure("idle")?, figure("spare")?);
    let knob = Knob {
        tunable: AFFINITY.replace('*', &number.to_string()),
        netns: view.host_netns(),
    };
    if !one_sided(softirq, idle, spare) {
        return None;
    }
    let now = view.value(&knob)?;
    if asked.contains(&knob) || !is_shared(packets, company) || !online.is_within(now.as_cpus()?) {
        return None;
    }
    let reason = format!(
        "interrupt {number} of {}, {packets:.0} packets a second, shares processor {cpu} with {company:.0} packets a second of other \
         devices, and it has {:.0} % of its time left, while processor {to} is idle for {:.0} %",
        signal.subject,
        idle * 100.0,
        spare * 100.0,
    );
    let to: Cpus = [to as u32].into_iter().collect();
    Some(Proposal::gain(knob, to, reason))
}

#[cfg(test)]
mod tests;
