//! From signals to proposals: no I/O, no clock.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Proposal, Scope, Signal, Tunable, Tuner, Value, View,
    stats::Direction,
    trial::{Counter, Guard, Plan, Resource, Windows},
};

pub(super) const NO_PORT: &str = "no-port";

pub(super) const RANGE: &str = "net.ipv4.ip_local_port_range";
pub(super) const TW_REUSE: &str = "net.ipv4.tcp_tw_reuse";
pub(super) const FIN_TIMEOUT: &str = "net.ipv4.tcp_fin_timeout";
const TIMESTAMPS: &str = "net.ipv4.tcp_timestamps";

/// Services that start later want their ports: most that are registered lie below.
const LOWEST: i64 = 10240;
const HIGHEST: i64 = 65535;
/// A peer that has not closed after so long hardly will.
const FIN_LEAST: i64 = 15;

/// The tuner. It remembers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpPorts;

impl Tuner for TcpPorts {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "gives connections that go out local ports where they run out"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let tunable =
            |name: &'static str, unit: &'static str, about: &'static str, bound: &[_]| Tunable {
                name: name.into(),
                scope: Scope::Netns,
                unit: unit.into(),
                about: about.into(),
                bound: Bound::Fixed(bound.to_vec()),
                cost: Cost::Nothing,
            };
        vec![
            tunable(
                RANGE,
                "ports",
                "local ports of outgoing connections: first, last",
                &[(1, HIGHEST), (1, HIGHEST)],
            ),
            tunable(
                TW_REUSE,
                "mode",
                "new connections on ports in TIME_WAIT, told apart by timestamps",
                &[(1, 1)],
            ),
            tunable(
                FIN_TIMEOUT,
                "seconds",
                "how long a closed connection waits for its peer's FIN",
                &[(FIN_LEAST, 60)],
            ),
        ]
    }

    /// Each event is a connection that failed.
    fn acts_at_once(&self) -> bool {
        true
    }

    fn trial(&self, _: &str) -> Plan {
        let begun = Guard::goal(
            "connections begun",
            Direction::Higher,
            vec![Counter::net("Tcp", "ActiveOpens")],
            1.0,
        );
        Plan {
            guards: vec![begun, Guard::stall(Resource::Memory, 0.02)],
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
        if signal.scenario != NO_PORT {
            return Vec::new();
        }
        Seen::of(signal)
            .and_then(|seen| seen.propose(signal, view))
            .into_iter()
            .collect()
    }
}

/// The figures of a signal.
struct Seen {
    failed: f64,
    low: i64,
    high: i64,
    floor: i64,
    ceiling: i64,
    time_wait: f64,
    tw_reuse: i64,
    fin_timeout: i64,
}

impl Seen {
    fn of(signal: &Signal) -> Option<Seen> {
        let port = |name| Some((signal.figure(name)? as i64).clamp(0, HIGHEST));
        Some(Seen {
            failed: signal.figure("failed")?,
            low: port("low")?,
            high: port("high")?,
            floor: port("floor")?,
            ceiling: port("ceiling")?,
            time_wait: signal.figure("time_wait")?,
            tw_reuse: signal.figure("tw_reuse")? as i64,
            fin_timeout: signal.figure("fin_timeout")? as i64,
        })
    }

    fn size(&self) -> i64 {
        (self.high - self.low + 1).max(1)
    }

    /// The mildest of what is left: what frees ports that nobody uses, then more ports.
    fn propose(&self, signal: &Signal, view: &dyn View) -> Option<Proposal> {
        let knob = |name: &str| Knob {
            tunable: name.into(),
            netns: signal.netns,
        };
        let now = |name| view.value(&knob(name));
        let proposal = |name, target: Value, reason| Proposal::gain(knob(name), target, reason);
        let range = now(RANGE)?;
        let (tw_reuse, fin) = (now(TW_REUSE)?.last(), now(FIN_TIMEOUT)?.last());
        // Something has been changed since this was seen.
        if range.numbers() != [self.low, self.high]
            || (tw_reuse, fin) != (self.tw_reuse, self.fin_timeout)
        {
            return None;
        }
        let failed = format!(
            "{:.0} connections to {} found none of the {} local ports free",
            self.failed,
            signal.subject,
            self.size()
        );
        let half = self.size() as f64 / 2.0;
        let timestamps = || now(TIMESTAMPS).is_some_and(|on| on.last() != 0);
        if self.time_wait >= half && tw_reuse != 1 && timestamps() {
            let reason = format!(
                "{failed}, and {:.0} connections are in TIME_WAIT; with timestamps a port can be used again after a \
                 second instead of a minute",
                self.time_wait
            );
            return Some(proposal(TW_REUSE, 1.into(), reason));
        }
        if let Some((low, high)) = self.wider() {
            let reason = format!(
                "{failed}; the wider range stays clear of ports that anybody listens on (ip_local_reserved_ports are never \
                 used)"
            );
            return Some(proposal(RANGE, Value::new([low, high]), reason));
        }
        // Among them are those in FIN_WAIT_2, which are not used again.
        if self.time_wait >= half && fin > FIN_LEAST {
            let reason = format!(
                "{failed}, the range has no room to grow, and some of the {:.0} connections in TIME_WAIT may wait for a FIN \
                 that does not come",
                self.time_wait
            );
            return Some(proposal(
                FIN_TIMEOUT,
                (fin / 2).max(FIN_LEAST).into(),
                reason,
            ));
        }
        None
    }

    /// Twice as many ports: upwards first, where hardly any service lives. The step that comes to the end there takes
    /// all that is left below too: a range that grew up and then down would have changed its direction.
    fn wider(&self) -> Option<(i64, i64)> {
        let more = self.size();
        let room_above = (self.ceiling.min(HIGHEST) - self.high).max(0);
        let room_below = (self.low - self.floor.max(LOWEST)).max(0);
        let (up, down) = if room_above > more {
            (more, 0)
        } else if room_above > 0 {
            (room_above, room_below)
        } else {
            (0, room_below.min(more))
        };
        (up + down > 0).then(|| (self.low - down, self.high + up))
    }
}

#[cfg(test)]
mod tests;
