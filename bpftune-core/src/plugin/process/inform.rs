//! What a plugin is told.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{MOST_NETNS, Outbox, Process, TOKEN_STDIN, sampling::Due};
use crate::{
    Knob, NetnsCookie, Signal,
    config::duration,
    governor::Decision,
    plugin::protocol::{self, ToPlugin, Values},
    trial::Record,
};

fn text(netns: NetnsCookie) -> String {
    netns.0.to_string()
}

impl Process {
    /// Its tunables are its own now: it is told so, and what it subscribed to begins.
    pub(in super::super) fn welcome(&mut self) {
        let homes = self.context.homes.clone();
        let netns = homes.iter().copied().map(text).collect();
        self.known.extend(homes);
        self.welcome = true;
        self.tell(&ToPlugin::Welcome {
            protocol: protocol::VERSION,
            daemon: env!("CARGO_PKG_VERSION"),
            netns,
        });
        self.sampling.begin(&self.context, Instant::now());
        self.arm_timer();
    }

    fn tell(&mut self, what: &ToPlugin<'_>) {
        if self.over.is_some() || self.deaf {
            return;
        }
        match serde_json::to_vec(what) {
            Ok(line) if line.len() < protocol::MAX_LINE => self.outbox.push(line),
            Ok(_) => self.outbox.dropped += 1,
            Err(error) => tracing::warn!("plugin {}: {error}", self.name),
        }
        if let Err(why) = self.flush() {
            self.breach(why);
        }
        self.arm_timer();
    }

    /// Writes what its pipe takes; waits for room where that is not all.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        let Ok(took) = self.outbox.flush(&mut self.stdin) else {
            // It closed its standard input: it may go on and propose by what it sees itself.
            self.deaf = true;
            self.outbox = Outbox::default();
            self.stuck_since = None;
            // Not there where it never was full.
            let _ = self.epoll.delete(self.stdin.as_fd());
            return Ok(());
        };
        if self.outbox.is_empty() {
            if self.stuck_since.take().is_some() {
                let _ = self.epoll.delete(self.stdin.as_fd());
            }
        } else if self.stuck_since.is_none() {
            self.stuck_since = Some(Instant::now());
            let event = EpollEvent::new(EpollFlags::EPOLLOUT, TOKEN_STDIN);
            self.epoll
                .add(self.stdin.as_fd(), event)
                .map_err(|errno| format!("cannot be written to: {errno}"))?;
        } else if took {
            self.stuck_since = Some(Instant::now());
        }
        Ok(())
    }

    /// Its tunables as they are, seen from a namespace.
    fn values(&self, netns: NetnsCookie) -> Values {
        let declared = self.hello.iter().flat_map(|hello| &hello.tunables);
        let read = declared.filter_map(|declared| {
            let knob = self.context.knob(&declared.name, netns);
            let value = self.context.value(&knob)?;
            Some((knob.tunable, value.numbers().to_vec()))
        });
        read.collect()
    }

    /// A counter was read, or a clock ticked.
    pub(super) fn due(&mut self, due: Due) {
        match due {
            Due::Sample {
                counter,
                netns,
                value,
                rate,
            } => self.tell(&ToPlugin::Sample {
                counter: counter.to_string(),
                netns: text(netns),
                value,
                rate,
                values: self.values(netns),
            }),
            Due::Tick { every, netns } => self.tell(&ToPlugin::Timer {
                timer: duration::text(every),
                netns: text(netns),
                values: self.values(netns),
            }),
        }
    }

    /// One of its pressure triggers has fired.
    pub(super) fn pressed(&mut self, which: usize) {
        let Some(&(resource, _)) = self.sampling.pressures.get(which) else {
            return;
        };
        if !self.welcome {
            return;
        }
        for netns in self.context.homes.clone() {
            self.tell(&ToPlugin::Pressure {
                resource: resource.word(),
                netns: text(netns),
                values: self.values(netns),
            });
        }
    }

    /// Another tuner's signal.
    pub(super) fn heard(&mut self, signal: &Signal) {
        let Signal {
            scenario,
            netns,
            subject,
            count,
            figures,
        } = signal;
        self.know(*netns);
        self.sampling.on_signal(scenario, *netns, Instant::now());
        if self.sampling.tells(scenario) {
            self.tell(&ToPlugin::Signal {
                scenario,
                netns: text(*netns),
                subject,
                count: *count,
                figures,
                values: self.values(*netns),
            });
        }
        self.arm_timer();
    }

    /// What became of the proposal with this mark.
    pub(super) fn decided(&mut self, id: &str, decision: &Decision) {
        let (verdict, value, why) = match decision {
            Decision::Apply(value) => ("apply", Some(value), None),
            Decision::Advise(value) => ("advise", Some(value), None),
            Decision::Refuse(refusal) => ("refuse", None, Some(refusal.to_string())),
        };
        self.tell(&ToPlugin::Decision {
            id,
            verdict,
            value: value.map(|value| value.numbers().to_vec()),
            why,
        });
    }

    /// What the trial of a change of its own said.
    pub(super) fn tried(&mut self, knob: &Knob, record: &Record) {
        self.tell(&ToPlugin::Trial {
            tunable: &knob.tunable,
            netns: text(knob.netns),
            outcome: record.outcome,
            action: record.action,
            summary: record.summary(),
        });
    }

    /// Nothing can be done there for a while.
    pub(super) fn quiet(&mut self, netns: NetnsCookie, how_long: Duration) {
        self.tell(&ToPlugin::Quiet {
            netns: text(netns),
            for_ms: u64::try_from(how_long.as_millis()).unwrap_or(u64::MAX),
        });
    }

    fn know(&mut self, netns: NetnsCookie) {
        if self.known.len() >= MOST_NETNS {
            self.known.clear();
            self.known.extend(self.context.homes.iter().copied());
        }
        self.known.insert(netns);
    }
}
