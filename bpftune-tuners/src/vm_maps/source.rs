//! From the BPF program's events, and what /proc says of memory, to signals and words for the log.

use std::{
    collections::HashMap,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use bpftune_core::{
    Figure, Knob, NetnsCookie, Result, Signal, Source,
    bpf::{Feed, Fields, HookStatus, SHARED, Scenarios},
    netns::Namespaces,
    sysctl::number,
    trial::ProcMeter,
};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::{
    cause::{Cause, Host},
    rules::{MAX_MAPS, NEAR},
};

const REFUSED: &str = "refused";

/// Scenario numbers of the BPF program and their names. The second is told, and is a signal only at the limit.
const SCENARIOS: Scenarios = &[(1, NEAR), (2, REFUSED)];

/// The programs on the ends of system calls: any hook there makes every system call a little slower.
const COSTLY: [&str; 3] = ["mmap_ended", "mremap_ended", "mprotect_ended"];

/// A cause is told again so much later.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// The hooks of `vm_maps.bpf.c`.
pub struct VmMapsSource {
    feed: Feed,
    news: Option<MapHandle>,
    told: HashMap<&'static str, Instant>,
}

/// `struct maps_event` after its head.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    maps: u32,
    uid: u32,
    pid: u32,
    name: String,
}

impl Event {
    fn parse(body: &[u8]) -> Option<Event> {
        let body = Fields(body);
        Some(Event {
            maps: body.u32(0)?,
            uid: body.u32(4)?,
            pid: body.u32(8)?,
            name: body.text(16, 16)?,
        })
    }

    fn subject(&self) -> String {
        let Event { name, pid, uid, .. } = self;
        format!("{name} (process {pid} of user {uid})")
    }
}

fn overcommit() -> u64 {
    number("vm.overcommit_memory").unwrap_or(0)
}

impl VmMapsSource {
    pub(super) fn new() -> Result<VmMapsSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/vm_maps.bpf.o"));
        // Where neither is set up, only a program's own limits refuse it memory.
        let set_up = overcommit() == 2 || number("vm.nr_hugepages").is_some_and(|pages| pages > 0);
        let detached: &[&str] = if set_up { &[] } else { &COSTLY };
        let feed = Feed::load_detached(super::NAME, object, SCENARIOS, detached)?;
        let source = VmMapsSource {
            news: feed.hooks().map("news"),
            feed,
            told: HashMap::new(),
        };
        source.watch();
        Ok(source)
    }

    /// Tells the program from how many mappings on a process is news.
    fn watch(&self) {
        let Some(news) = &self.news else { return };
        let from = number(MAX_MAPS).map_or(0, |limit| u32::try_from(limit / 2).unwrap_or(u32::MAX));
        if let Err(error) = news.update(&0u32.to_ne_bytes(), &from.to_ne_bytes(), MapFlags::ANY) {
            tracing::warn!("{}: mappings are not watched: {error}", super::NAME);
        }
    }

    /// Says why a program was refused memory, each cause once in a while.
    fn tell(&mut self, cause: Cause, event: &Event) {
        if cause == Cause::Other {
            return;
        }
        let now = Instant::now();
        let due = self.told.get(cause.word());
        if due.is_some_and(|told| now.duration_since(*told) < TELL_AGAIN) {
            return;
        }
        self.told.insert(cause.word(), now);
        tracing::warn!("{} was refused memory: {cause}", event.subject());
    }

    fn signal(&mut self, scenario: &str, count: u32, event: &Event) -> Option<Signal> {
        let limit = number(MAX_MAPS)?;
        if scenario == REFUSED {
            let host = Host::read(overcommit(), &mut ProcMeter::default())?;
            let cause = Cause::of(event.maps.into(), limit, &host);
            self.tell(cause, event);
            if cause != Cause::Mappings {
                return None;
            }
        }
        Some(Signal {
            scenario: NEAR.into(),
            netns: SHARED,
            subject: event.subject(),
            count,
            figures: vec![
                Figure::new("maps", event.maps.into(), ""),
                Figure::new("limit", limit as f64, ""),
            ],
        })
    }
}

impl Source for VmMapsSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (scenario, head, body) in self.feed.drain()? {
            let Some(event) = Event::parse(&body) else {
                continue;
            };
            if let Some(mut signal) = self.signal(scenario, head.count, &event) {
                signal.netns = namespaces.own();
                out.push(signal);
            }
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, _: NetnsCookie, scenario: &str, how_long: Duration) {
        self.feed.quiet(SHARED, scenario, how_long);
    }

    fn after_change(&mut self, _: &Knob) -> Result<()> {
        self.watch();
        Ok(())
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Event::parse(&bytes);
        }
    }

    #[test]
    fn parses_an_event() {
        let mut body = [0; 32];
        for (at, number) in [40_000u32, 1000, 42].into_iter().enumerate() {
            body[at * 4..at * 4 + 4].copy_from_slice(&number.to_ne_bytes());
        }
        body[16..20].copy_from_slice(b"java");
        let event = Event::parse(&body).unwrap();
        assert_eq!(event.maps, 40_000);
        assert_eq!(event.subject(), "java (process 42 of user 1000)");
    }

    #[test]
    fn knows_the_programs_by_name() {
        let program = include_str!("vm_maps.bpf.c");
        for name in COSTLY {
            assert!(program.contains(&format!("int {name}(")), "{name}");
        }
    }

    #[test]
    fn this_host_has_a_limit() {
        assert!(number(MAX_MAPS).unwrap() > 0);
    }
}
