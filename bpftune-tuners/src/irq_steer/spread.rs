//! Interrupts that share a processor while another one idles (Documentation/core-api/irq/irq-affinity.rst): rules.
//!
//! Packets of a device are handled where its interrupt comes. Where it comes to a processor that cannot keep up with it and
//! what others bring, it goes to another.

use std::collections::HashSet;

use bpftune_core::{Bound, Cost, Cpus, Knob, Proposal, Scope, Signal, Tunable, View};

use super::rules::one_sided;

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
