//! From signals to proposals: no I/O, no clock.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Machine, Proposal, Scope, Signal, Tunable, Tuner, Value, View, give_back,
    halfway,
    stats::Direction,
    trial::{Counter, Guard, Plan, Resource, Windows},
};

use crate::bursts::{Bursts, is_overload, undo};

pub(super) const FULL: &str = "udp-buffer-full";
/// Not this tuner's to help: whoever owns `rmem_max` listens.
pub(super) const CUT_DOWN: &str = "udp-buffer-cut-down";
pub(super) const MEMORY_EXCEEDED: &str = "udp-memory-exceeded";

pub(super) const RMEM_DEFAULT: &str = "net.core.rmem_default";
pub(super) const RMEM_MAX: &str = "net.core.rmem_max";
const UDP_MEM: &str = "net.ipv4.udp_mem";

/// The name of the source's figure: datagrams lost by full buffers.
pub(super) const LOST: &str = "udp-lost";

/// What the kernel starts with where nobody set it (SK_RMEM_MAX).
const LEAST: i64 = 212_992;
const MOST: i64 = 64 << 20;
/// In one step at most.
const GROWTH: f64 = 8.0;
/// Beyond what was seen to be lacking.
const MARGIN: f64 = 1.5;

/// The tuner. It remembers how often it acted in the present series of losses of each port.
#[derive(Clone, Debug, Default)]
pub struct UdpBuffer {
    bursts: Bursts,
}

/// A 1024th of memory: as many full sockets as that are rare, and `udp_mem` bounds all of them together.
fn most_default(machine: &Machine) -> i64 {
    i64::try_from(machine.memory_total / 1024)
        .unwrap_or(MOST)
        .clamp(LEAST, MOST)
}

/// What the kernel derives for this machine when it starts, and no more.
fn udp_mem_bound(machine: &Machine) -> Vec<(i64, i64)> {
    let pages = (machine.memory_total / machine.page_size.max(1)) as i64;
    vec![(0, pages * 3 / 32), (0, pages / 8), (0, pages * 3 / 16)]
}

impl Tuner for UdpBuffer {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "sizes UDP receive buffers to the bursts that they lose datagrams of"
    }

    fn tunables(&self) -> Vec<Tunable> {
        vec![
            Tunable {
                name: RMEM_DEFAULT.into(),
                scope: Scope::Global,
                unit: "bytes".into(),
                about: "receive buffer of a new socket that is not TCP's".into(),
                bound: Bound::Derived(|machine| vec![(4096, most_default(machine))]),
                cost: Cost::ByUnit,
            },
            Tunable {
                name: UDP_MEM.into(),
                scope: Scope::Global,
                unit: "pages".into(),
                about: "memory of all UDP sockets: low, pressure, max".into(),
                bound: Bound::Derived(udp_mem_bound),
                cost: Cost::ByUnit,
            },
        ]
    }

    /// A datagram that was lost is no chance.
    fn acts_at_once(&self) -> bool {
        true
    }

    fn trial(&self, _: &str) -> Plan {
        let lost = Counter::Own(LOST.into());
        Plan {
            guards: vec![
                Guard::goal("datagrams lost", Direction::Lower, vec![lost], 1.0),
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
        match signal.scenario.as_ref() {
            FULL => self.full(signal, view).into_iter().collect(),
            MEMORY_EXCEEDED => memory_exceeded(signal, view).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn on_memory_pressure(&mut self, view: &dyn View) -> Vec<Proposal> {
        let owns = |knob: &Knob| knob.tunable == RMEM_DEFAULT;
        give_back(view, owns, |_, original, now| even(halfway(original, now)))
    }
}

/// SO_RCVBUF takes half of a buffer's size.
fn even(bytes: i64) -> i64 {
    bytes / 4096 * 4096
}

fn knob(name: &str, view: &dyn View) -> Knob {
    Knob {
        tunable: name.into(),
        netns: view.host_netns(),
    }
}

impl UdpBuffer {
    fn full(&mut self, signal: &Signal, view: &dyn View) -> Option<Proposal> {
        let figure = |name| signal.figure(name);
        let (buffer, queued) = (figure("buffer")?, figure("queued")?.max(1.0));
        let (lost, lasting) = (figure("lost")?, figure("lasting")?);
        let knob = knob(RMEM_DEFAULT, view);
        let now = view.value(&knob)?.last();
        // Another size is the application's choice, or from before the last change.
        if buffer != now as f64 {
            return None;
        }
        if is_overload(lasting) {
            return too_slow(signal, view, knob, lasting);
        }
        if !self.bursts.step(&signal.subject, figure("series")?) {
            return None;
        }
        let times = ((queued + lost) / queued * MARGIN).clamp(2.0, GROWTH);
        let target = even((now as f64 * times) as i64).min(most_default(view.machine()));
        let reason = format!(
            "{lost:.0} datagrams to {} were lost with {queued:.0} waiting in a buffer of the default size, which they fill; \
             running sockets of that size which lost datagrams get it too, as far as their processes can be reached",
            signal.subject
        );
        (target > now).then(|| Proposal::gain(knob, target, reason))
    }
}

/// More buffer only makes datagrams older.
fn too_slow(signal: &Signal, view: &dyn View, knob: Knob, lasting: f64) -> Option<Proposal> {
    let reason = format!(
        "datagrams to {} have been lost for {:.1} s without a pause, with a larger buffer too: its reader is slower than \
         its senders, and more buffer only makes datagrams older",
        signal.subject,
        lasting / 1e3
    );
    undo(view, knob, reason)
}

fn memory_exceeded(signal: &Signal, view: &dyn View) -> Option<Proposal> {
    let machine = view.machine();
    if machine.memory_available < machine.memory_total / 4 {
        return None;
    }
    let knob = knob(UDP_MEM, view);
    let now = view.value(&knob)?;
    let bounds = udp_mem_bound(machine);
    let target: Vec<i64> = now
        .numbers()
        .iter()
        .zip(&bounds)
        .map(|(&n, &(_, high))| n.saturating_mul(4).min(high).max(n))
        .collect();
    let reason = format!(
        "all UDP sockets together are at their memory limit (the one on {} was refused more), while {:.0} % of the host's \
         memory is free",
        signal.subject,
        machine.memory_available as f64 * 100.0 / machine.memory_total.max(1) as f64
    );
    let target = Value::new(target);
    (target != now).then(|| Proposal::gain(knob, target, reason))
}

#[cfg(test)]
mod tests;
