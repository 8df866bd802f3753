//! From signals to proposals: no I/O, no clock.

use std::{collections::HashSet, time::Duration};

use bpftune_core::{
    Bound, Cost, Knob, Machine, NetnsCookie, Proposal, Scope, Signal, Tunable, Tuner, Value, View,
    give_back,
    governor::Decision,
    halfway,
    stats::Direction,
    trial::{Counter, Guard, Plan, Resource, Windows},
};

pub(super) const ACCEPT_QUEUE: &str = "accept-queue-full";
pub(super) const SYN_QUEUE: &str = "syn-queue-full";

pub(super) const SOMAXCONN: &str = "net.core.somaxconn";
const MAX_SYN_BACKLOG: &str = "net.ipv4.tcp_max_syn_backlog";
const SYNCOOKIES: &str = "net.ipv4.tcp_syncookies";

/// What a connection that waits costs the kernel at least: its socket and the request beside it.
const ENTRY_BYTES: u64 = 4096;
/// The most that a queue may have: what the application cannot take within seconds is better refused.
const MOST: i64 = 65535;
/// In one step at most.
const GROWTH: i64 = 8;
/// Fewer unanswered handshakes than this are a few lost packets, whatever share they are.
const FLOOD_LEAST: f64 = 16.0;
/// The kernel asks again after a second; before that nobody is known not to answer.
const HANDSHAKE_PATIENCE: f64 = 1.2;

/// The tuner. It remembers only where syncookies are not its to switch on.
#[derive(Clone, Debug, Default)]
pub struct TcpListen {
    without_cookies: HashSet<NetnsCookie>,
}

/// A 64th of memory for one queue's entries.
fn queue_bound(machine: &Machine) -> Vec<(i64, i64)> {
    let entries = machine.memory_total / 64 / ENTRY_BYTES;
    vec![(1, i64::try_from(entries).unwrap_or(MOST).clamp(128, MOST))]
}

fn entries_cost(value: &Value) -> u64 {
    u64::try_from(value.last())
        .unwrap_or(0)
        .saturating_mul(ENTRY_BYTES)
}

impl Tuner for TcpListen {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "lengthens the queues of listening TCP sockets that refuse connections which are no flood"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let queue = |name: &'static str, about: &'static str| Tunable {
            name: name.into(),
            scope: Scope::Netns,
            unit: "connections".into(),
            about: about.into(),
            bound: Bound::Derived(queue_bound),
            cost: Cost::Derived(entries_cost),
        };
        vec![
            queue(SOMAXCONN, "longest queue that listen(2) gives"),
            queue(
                MAX_SYN_BACKLOG,
                "most handshakes under way of a listener without syncookies",
            ),
            Tunable {
                name: SYNCOOKIES.into(),
                scope: Scope::Netns,
                unit: "mode".into(),
                about: "answering a full queue of handshakes without remembering them".into(),
                // Never 0: no proposal can switch them off.
                bound: Bound::Fixed(vec![(1, 2)]),
                cost: Cost::Nothing,
            },
        ]
    }

    /// The source speaks after a round of counting, and a refusal is no chance.
    fn acts_at_once(&self) -> bool {
        true
    }

    fn trial(&self, tunable: &str) -> Plan {
        let tcp = |name| Counter::net("TcpExt", name);
        let refused = Guard::goal(
            "connections refused",
            Direction::Lower,
            vec![tcp("ListenDrops")],
            1.0,
        );
        let made = Guard::goal(
            "connections made",
            Direction::Higher,
            vec![Counter::net("Tcp", "PassiveOpens")],
            1.0,
        );
        let mut guards = vec![refused, made];
        if tunable != SYNCOOKIES {
            guards.push(Guard::stall(Resource::Memory, 0.02));
        }
        Plan {
            guards,
            baseline: Windows {
                count: 3,
                length: Duration::from_millis(100),
            },
            trial: Windows {
                count: 10,
                length: Duration::from_millis(200),
            },
            ..Plan::default()
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let Some(seen) = Seen::of(signal) else {
            return Vec::new();
        };
        match signal.scenario.as_ref() {
            ACCEPT_QUEUE if !seen.flood() => {
                accept_queue(signal, &seen, view).into_iter().collect()
            }
            SYN_QUEUE => self.syn_queue(signal, &seen, view).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn decided(&mut self, proposal: &Proposal, decision: &Decision) {
        if proposal.knob.tunable == SYNCOOKIES {
            let netns = proposal.knob.netns;
            match decision {
                Decision::Refuse(_) => self.without_cookies.insert(netns),
                _ => self.without_cookies.remove(&netns),
            };
        }
    }

    fn on_memory_pressure(&mut self, view: &dyn View) -> Vec<Proposal> {
        let owns = |knob: &Knob| [SOMAXCONN, MAX_SYN_BACKLOG].contains(&knob.tunable.as_str());
        give_back(view, owns, |_, original, now| halfway(original, now))
    }
}

/// The figures of a signal.
struct Seen {
    accept_queue: f64,
    syn_queue: f64,
    backlog: i64,
    somaxconn: i64,
    syncookies: bool,
    refused: f64,
    answered: f64,
    unanswered: f64,
    watched: f64,
}

impl Seen {
    fn of(signal: &Signal) -> Option<Seen> {
        let figure = |name| signal.figure(name);
        Some(Seen {
            accept_queue: figure("accept_queue")?,
            syn_queue: figure("syn_queue")?,
            backlog: figure("backlog")? as i64,
            somaxconn: figure("somaxconn")? as i64,
            syncookies: figure("syncookies")? != 0.0,
            refused: figure("refused")?,
            answered: figure("answered")?,
            unanswered: figure("unanswered")?,
            watched: figure("watched")?,
        })
    }

    /// More handshakes stay unanswered than are answered: their addresses are forged, or nobody is there.
    fn flood(&self) -> bool {
        self.unanswered > self.answered.max(FLOOD_LEAST)
    }

    fn proof(&self) -> String {
        format!(
            "{:.0} of {:.0} handshakes were answered, so this is no flood",
            self.answered,
            self.answered + self.unanswered
        )
    }
}

/// For the limit that the listener has: `None` where it is not `somaxconn` that holds it back, or no longer.
fn longer(now: &Value, held_at: i64, need: f64) -> Option<i64> {
    let now = now.last();
    if now != held_at {
        return None;
    }
    let wanted = (need.clamp(0.0, 1e9) as i64).max(now.saturating_mul(2));
    let wanted = (wanted as u64).next_power_of_two() as i64;
    Some(wanted.min(now.max(16).saturating_mul(GROWTH)))
}

fn propose(signal: &Signal, tunable: &str, target: i64, reason: String) -> Proposal {
    let knob = Knob {
        tunable: tunable.into(),
        netns: signal.netns,
    };
    Proposal::gain(knob, target, reason)
}

fn value(signal: &Signal, tunable: &str, view: &dyn View) -> Option<Value> {
    view.value(&Knob {
        tunable: tunable.into(),
        netns: signal.netns,
    })
}

const WHOM: &str = "listeners that run and were cut down get it too, as far as their processes can be reached; those \
                    that asked listen(2) for less keep that";

fn accept_queue(signal: &Signal, seen: &Seen, view: &dyn View) -> Option<Proposal> {
    // Refusals of a listener that could not be given the new limit say nothing about that: only a queue that has
    // filled up to it does.
    let full = seen.accept_queue * 4.0 >= seen.backlog as f64 * 3.0;
    if seen.backlog < seen.somaxconn || !full {
        return None;
    }
    let now = value(signal, SOMAXCONN, view)?;
    let target = longer(&now, seen.somaxconn, seen.accept_queue + seen.refused)?;
    let reason = format!(
        "{:.0} connections waited to be accepted on {} with room for {}, and {:.0} more were refused; they are no flood, \
         for those that wait have answered from their addresses; {WHOM}",
        seen.accept_queue, signal.subject, seen.backlog, seen.refused,
    );
    Some(propose(signal, SOMAXCONN, target, reason))
}

impl TcpListen {
    fn syn_queue(&self, signal: &Signal, seen: &Seen, view: &dyn View) -> Option<Proposal> {
        if !seen.syncookies {
            return self.without_cookies(signal, seen, view);
        }
        if seen.flood() || seen.watched < HANDSHAKE_PATIENCE || seen.backlog < seen.somaxconn {
            return None;
        }
        let now = value(signal, SOMAXCONN, view)?;
        let target = longer(&now, seen.somaxconn, seen.syn_queue + seen.refused)?;
        let reason = format!(
            "{:.0} handshakes were under way on {} with room for {}, and {:.0} more were answered by syncookies, which \
             lose TCP options; {}; {WHOM}",
            seen.syn_queue,
            signal.subject,
            seen.backlog,
            seen.refused,
            seen.proof(),
        );
        Some(propose(signal, SOMAXCONN, target, reason))
    }

    /// Syncookies help against a flood and in a burst alike, and cost nothing while the queue has room.
    fn without_cookies(&self, signal: &Signal, seen: &Seen, view: &dyn View) -> Option<Proposal> {
        let full = format!(
            "{:.0} handshakes were under way on {} and {:.0} more were refused, for syncookies are off",
            seen.syn_queue, signal.subject, seen.refused
        );
        if !self.without_cookies.contains(&signal.netns) {
            let reason = format!(
                "{full}; they answer what finds the queue full, a flood and good clients alike, and do nothing else"
            );
            let off = value(signal, SYNCOOKIES, view)?.last() == 0;
            return off.then(|| propose(signal, SYNCOOKIES, 1, reason));
        }
        if seen.flood() || seen.watched < HANDSHAKE_PATIENCE {
            return None;
        }
        let now = value(signal, MAX_SYN_BACKLOG, view)?;
        let held_at = signal.figure("max_syn_backlog")? as i64;
        let target = longer(&now, held_at, seen.syn_queue + seen.refused)?;
        let reason = format!("{full}, and are not to be switched on; {}", seen.proof());
        Some(propose(signal, MAX_SYN_BACKLOG, target, reason))
    }
}

#[cfg(test)]
mod tests;
