//! One flow that fills a processor's queue and has all others lose what they send.
//!
//! The kernel can hold each flow to half of the last 128 packets while the queue is half full (Documentation/networking/
//! scaling.rst, "RPS Flow Limit"; Linux 3.11). It is off unless somebody names processors for it, and does nothing while
//! queues are short.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Cpus, Knob, Proposal, Scope, Signal, Tunable, Value, View,
    stats::Direction,
    trial::{Counter, Guard, Plan, Windows},
};

pub(super) const FLOW_LIMIT: &str = "net.core.flow_limit_cpu_bitmap";

/// The name of the source's figure: what flows lost, but for the one that lost most.
pub(super) const LOST_BY_OTHERS: &str = "backlog-lost-by-others";

/// Losses that last so long without a pause are no burst of one flow, milliseconds.
const FLOOD_MS: f64 = 1000.0;
/// So many packets of others in the time of an event are more than chance.
const OTHERS: f64 = 8.0;

pub(super) fn tunable() -> Tunable {
    Tunable {
        name: FLOW_LIMIT.into(),
        scope: Scope::Global,
        unit: "processors".into(),
        about: "processors that hold each flow to half of a queue that is half full".into(),
        bound: Bound::Cpus,
        // A table of 4 KiB for each processor (flow_limit_table_len).
        cost: Cost::Nothing,
    }
}

/// What the others lose is all that it can change: the one loses what a processor cannot handle in any case.
pub(super) fn trial() -> Plan {
    let lost = Counter::Own(LOST_BY_OTHERS.into());
    Plan {
        guards: vec![Guard::goal(
            "packets lost by other flows",
            Direction::Lower,
            vec![lost],
            1.0,
        )],
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

/// Flow limits on each processor, where one flow has most of what has been lost for a second, and others lose too.
pub(super) fn starve(signal: &Signal, view: &dyn View) -> Option<Proposal> {
    let figure = |name| signal.figure(name);
    let (one, others, lasting) = (figure("of_one")?, figure("of_others")?, figure("lasting")?);
    if lasting < FLOOD_MS || one <= others || others < OTHERS {
        return None;
    }
    let knob = Knob {
        tunable: FLOW_LIMIT.into(),
        netns: view.host_netns(),
    };
    let all: Cpus = (0..view.machine().cpus as u32).collect();
    let now = view.value(&knob)?;
    if now.as_cpus().is_none_or(|now| all.is_within(now)) {
        return None;
    }
    let reason = format!(
        "one flow from {} has filled a processor's queue of incoming packets for {:.1} s: of the packets lost {one:.0} \
         were its own, and {others:.0} those of others",
        signal.subject,
        lasting / 1e3
    );
    Some(Proposal::gain(knob, Value::from(all), reason))
}
