//! Packets that go where they are read (RFS, Documentation/networking/scaling.rst): rules.
//!
//! A hash of its addresses finds a flow's processor, and knows nothing of who reads it. Two tables tell the kernel: the
//! host's, of where each flow was read last, and the device's, of where its packets went. Neither does anything alone, so
//! the host's is made first, and what happens is the device's trial.

use std::collections::HashSet;

use bpftune_core::{
    Bound, Cost, Cpus, Knob, Proposal, Scope, Signal, Tunable, Value, View,
    trial::{Counter, Guard, Plan, Resource},
};

use super::rules::{RPS, growth, short};

/// TCP connections of a device are read on other processors than those that handled their packets.
pub(super) const READ_ELSEWHERE: &str = "read-elsewhere";

const HOST: &str = "net.core.rps_sock_flow_entries";
const DEVICE: &str = "/sys/class/net/*/queues/rx-0/rps_flow_cnt";

/// What scaling.rst names for a server of some thousand connections. A power of two, so that there is nothing to round.
const FLOWS: i64 = 32768;
/// Share of reads. By chance it is half of them where two processors share the work, and more where more do.
const ELSEWHERE: f64 = 0.25;

/// Whether packets should follow: by the share of a processor's reads whose packets others handled.
pub(super) fn strays(share: f64) -> bool {
    share >= ELSEWHERE
}

pub(super) fn tunables() -> [Tunable; 2] {
    let flows = |name: &'static str, scope, about: &'static str, cost| Tunable {
        name: name.into(),
        scope,
        unit: "flows".into(),
        about: about.into(),
        bound: Bound::Fixed(vec![(0, FLOWS)]),
        cost: Cost::Derived(cost),
    };
    [
        flows(
            HOST,
            Scope::Global,
            "of how many flows the host knows where they were read last (RFS)",
            |value| bytes(value, 4),
        ),
        flows(
            DEVICE,
            Scope::Netns,
            "how many flows of a device have their packets handled where they are read (RFS)",
            |value| bytes(value, 16),
        ),
    ]
}

/// Entries are a word in the host's table, and in a device's `struct rps_dev_flow`.
fn bytes(flows: &Value, each: u64) -> u64 {
    let flows = u64::try_from(flows.last()).unwrap_or(0);
    flows.saturating_mul(each)
}

/// How one of the two is tried; `None` of another tunable.
pub(super) fn trial(tunable: &str) -> Option<Plan> {
    let [host, device] = tunables();
    if host.covers(tunable) {
        // Alone it only takes memory.
        let memory = Guard::stall(Resource::Memory, 0.02);
        return Some(short(vec![memory], false));
    }
    let segments = growth("TCP segments taken in", Counter::net("Tcp", "InSegs"));
    device
        .covers(tunable)
        .then(|| short(vec![segments, Guard::retransmits()], true))
}

/// The next step for a device whose readers are elsewhere. `all`: the processors that are online, where none of them is set
/// apart; else the kernel would follow readers onto those, for this takes no mask. For the same reason it is only for
/// devices whose packets any processor may handle already.
pub(super) fn wish(
    signal: &Signal,
    view: &dyn View,
    all: Option<&Cpus>,
    useless: &HashSet<Knob>,
) -> Option<Proposal> {
    let figure = |name| signal.figure(name);
    let (reads, elsewhere) = (figure("reads")?, figure("elsewhere")?);
    let of_device = |family: &str| Knob {
        tunable: family.replace('*', &signal.subject),
        netns: signal.netns,
    };
    let device = of_device(DEVICE);
    let host = Knob {
        tunable: HOST.into(),
        netns: view.host_netns(),
    };
    if useless.contains(&device) {
        return unused(view, host);
    }
    let steered = view.value(&of_device(RPS))?;
    if !strays(elsewhere) || !all?.is_within(steered.as_cpus()?) || view.value(&device)?.last() != 0
    {
        return None;
    }
    let knob = match view.value(&host)?.last() {
        0 => host,
        _ => device,
    };
    let reason = format!(
        "of {reads:.0} reads a second on processor {:.0} {:.0} % were of packets of {} that another processor had handled",
        figure("cpu")?,
        elsewhere * 100.0,
        signal.subject,
    );
    Some(Proposal::gain(knob, FLOWS, reason))
}

/// The host's table goes with the last device that uses it: it costs each reader a little.
fn unused(view: &dyn View, host: Knob) -> Option<Proposal> {
    let [_, devices] = tunables();
    let changed = view.changed();
    let uses = |(knob, original): &(Knob, Value)| {
        devices.covers(&knob.tunable) && view.value(knob).is_some_and(|now| now != *original)
    };
    if changed.iter().any(uses) {
        return None;
    }
    let (host, original) = changed.into_iter().find(|(knob, _)| *knob == host)?;
    let differs = view.value(&host)? != original;
    let reason = "no device gained by it, and no other one uses it";
    differs.then(|| Proposal::against_harm(host, original, reason))
}

#[cfg(test)]
mod tests;
