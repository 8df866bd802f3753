//! What most sources consist of: hooks, their ring buffer, and the gates that keep it quiet.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::{
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        eventfd::{EfdFlags, EventFd},
    },
    time::{ClockId, clock_gettime},
};

use super::{EventHeader, Events, HookStatus, Hooks};
use crate::{Error, NetnsCookie, Result, Signal, Source, netns::Namespaces};

/// The scenarios of a BPF program: its number and the name that signals carry.
pub type Scenarios = &'static [(u32, &'static str)];

/// The hooks of an object that includes `bpftune/gate.h`, with its ring buffer.
///
/// Where the kernel refuses every hook there is no ring buffer, and never anything to drain.
pub struct Feed {
    hooks: Hooks,
    events: Option<Events>,
    gates: Option<MapHandle>,
    /// Never readable: stands in where no hook could be loaded.
    nothing: EventFd,
    scenarios: Scenarios,
}

impl Feed {
    /// Loads an object file hook by hook; see [`Hooks::load`].
    ///
    /// # Errors
    /// Where the object is broken or the ring buffer cannot be mapped; refused hooks are no error.
    pub fn load(name: &str, object: &[u8], scenarios: Scenarios) -> Result<Feed> {
        Feed::load_detached(name, object, scenarios, &[])
    }

    /// The same, with some programs loaded, but not attached before [`Feed::switch`] is told to.
    ///
    /// # Errors
    /// As [`Feed::load`].
    pub fn load_detached(
        name: &str,
        object: &[u8],
        scenarios: Scenarios,
        detached: &[&str],
    ) -> Result<Feed> {
        let hooks = Hooks::load(name, object, detached, |_| Ok(()))?;
        Ok(Feed {
            events: hooks.map("events").map(Events::new).transpose()?,
            gates: hooks.map("gates"),
            hooks,
            nothing: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
                .map_err(Error::system("eventfd"))?,
            scenarios,
        })
    }

    /// Readable where events wait.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.events
            .as_ref()
            .map_or_else(|| self.nothing.as_fd(), Events::fd)
    }

    /// Readable where events wait or `other` is readable: for a source with a timer beside its hooks.
    ///
    /// # Errors
    /// Where the kernel has no room for it, or `other` cannot be waited for.
    pub fn beside(&self, other: BorrowedFd<'_>) -> Result<Epoll> {
        let either =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::system("epoll_create1"))?;
        for fd in [self.fd(), other] {
            either
                .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))
                .map_err(Error::system("epoll_ctl"))?;
        }
        Ok(either)
    }

    /// All waiting events, oldest first: the scenario's name, the head, and what follows it. Events of no known
    /// scenario are left out.
    ///
    /// # Errors
    /// What libbpf says.
    pub fn drain(&mut self) -> Result<Vec<(&'static str, EventHeader, Vec<u8>)>> {
        let Some(events) = &mut self.events else {
            return Ok(Vec::new());
        };
        let scenarios = self.scenarios;
        Ok(events
            .drain()?
            .iter()
            .filter_map(|event| split(scenarios, event))
            .map(|(scenario, head, body)| (scenario, head, body.to_vec()))
            .collect())
    }

    /// The hooks themselves, for maps of the object's own and iterators.
    #[must_use]
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Attaches some programs, or detaches them; see [`Hooks::switch`].
    pub fn switch(&mut self, names: &[&str], on: bool) {
        self.hooks.switch(names, on);
    }

    /// Each hook and whether it runs.
    #[must_use]
    pub fn status(&self) -> &[HookStatus] {
        self.hooks.status()
    }

    /// Kernel memory of all maps, bytes.
    #[must_use]
    pub fn map_bytes(&self) -> u64 {
        self.hooks.map_bytes()
    }

    /// Closes the gates of a scenario in a namespace, both details, for so long. Only those that have been passed.
    pub fn quiet(&self, netns: NetnsCookie, scenario: &str, how_long: Duration) {
        let Some(gates) = &self.gates else { return };
        let Some((number, _)) = self.scenarios.iter().find(|(_, name)| *name == scenario) else {
            return;
        };
        let until = monotonic_ns() + u64::try_from(how_long.as_nanos()).unwrap_or(u64::MAX / 2);
        for detail in 0..2u32 {
            let mut gate = [0; 16];
            gate[..8].copy_from_slice(&until.to_ne_bytes());
            let key = if gates.key_size() == 4 {
                host_gate(*number, detail).to_vec()
            } else {
                gate_key(netns, *number, detail).to_vec()
            };
            let _ = gates.update(&key, &gate, MapFlags::EXIST);
        }
    }
}

/// The index of a gate where the program has defined BPFTUNE_HOST_GATES.
fn host_gate(scenario: u32, detail: u32) -> [u8; 4] {
    (scenario * 2 + detail).to_ne_bytes()
}

/// `struct gate_key`.
fn gate_key(netns: NetnsCookie, scenario: u32, detail: u32) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&netns.0.to_ne_bytes());
    key[8..12].copy_from_slice(&scenario.to_ne_bytes());
    key[12..].copy_from_slice(&detail.to_ne_bytes());
    key
}

/// An event's scenario by name, its head and its body.
#[must_use]
pub fn split(scenarios: Scenarios, event: &[u8]) -> Option<(&'static str, EventHeader, &[u8])> {
    let (head, body) = EventHeader::split(event)?;
    let (_, name) = scenarios
        .iter()
        .find(|(number, _)| *number == head.scenario)?;
    Some((name, head, body))
}

/// The clock of bpf_ktime_get_ns: `CLOCK_MONOTONIC`.
///
/// # Panics
/// Never: every Linux has this clock.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    Duration::from(now).as_nanos() as u64
}

/// Makes a signal of an event: its scenario, its head, and the tuner's own bytes after it.
pub type Parse = fn(&'static str, &EventHeader, &[u8]) -> Option<Signal>;

/// The whole source of a tuner whose every event is a signal.
pub struct EventSource {
    feed: Feed,
    parse: Parse,
}

impl EventSource {
    /// Loads an object; see [`Feed::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(
        name: &str,
        object: &[u8],
        scenarios: Scenarios,
        parse: Parse,
    ) -> Result<EventSource> {
        Ok(EventSource {
            feed: Feed::load(name, object, scenarios)?,
            parse,
        })
    }
}

impl Source for EventSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, _: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        let events = self.feed.drain()?;
        let parse = self.parse;
        out.extend(
            events
                .iter()
                .filter_map(|(scenario, head, body)| parse(scenario, head, body)),
        );
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, netns: NetnsCookie, scenario: &str, how_long: Duration) {
        self.feed.quiet(netns, scenario, how_long);
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_no_known_scenario_are_left_out() {
        let scenarios: Scenarios = &[(1, "one"), (3, "three")];
        let mut event = [0u8; 20];
        event[0] = 3;
        event[8] = 9;
        let (name, head, body) = split(scenarios, &event).unwrap();
        assert_eq!((name, head.netns().0, body.len()), ("three", 9, 4));
        event[0] = 2;
        assert!(split(scenarios, &event).is_none());
        assert!(split(scenarios, &event[..15]).is_none());
    }

    #[test]
    fn gates_are_as_the_programs_know_them() {
        let header = include_str!("../../bpf/bpftune/gate.h");
        for (what, fields) in [
            (
                "struct gate_key {",
                ["__u64 netns_cookie", "__u32 scenario", "__u32 detail"],
            ),
            (
                "struct gate {",
                ["__u64 next_ns", "__u32 count", "__u32 pad"],
            ),
        ] {
            let body = header.split_once(what).unwrap().1;
            let found: Vec<_> = body
                .lines()
                .map(str::trim)
                .take_while(|line| *line != "};")
                .filter_map(|line| line.strip_suffix(';'))
                .collect();
            assert_eq!(found, fields);
        }
    }
}
