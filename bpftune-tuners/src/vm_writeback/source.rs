//! While the BPF program tells of a backlog, looks at it once a second; then the costly hooks go again.

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use bpftune_core::{
    NetnsCookie, Result, Signal, Source,
    bpf::{self, Feed, Fields, HookStatus, Scenarios, monotonic_ns},
    netns::Namespaces,
    timer::Timer,
    trial::{Counter, Meter, ProcMeter},
};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::sys::epoll::Epoll;

use super::{
    look::{Now, Sums, signal},
    rules::{SYNC_WAIT, SYNCS},
};

const SCENARIOS: Scenarios = &[(1, "backlog")];

/// The programs that make each system call slower while they are attached.
const COSTLY: [&str; 4] = [
    "fsync_begins",
    "fsync_ends",
    "fdatasync_begins",
    "fdatasync_ends",
];

/// So long after the last event they are detached.
const PATIENCE: Duration = Duration::from_secs(30);
/// A device that wrote within so long is one of those whose rates count.
const LATELY: Duration = Duration::from_secs(10);

/// Indices of the BPF program's sums.
const HELD_MS: u32 = 0;
const SYNCS_ENDED: u32 = 1;
const SYNC_NS: u32 = 2;
const SLOWEST_NS: u32 = 3;

/// The hooks of `vm_writeback.bpf.c`.
pub struct VmWritebackSource {
    feed: Feed,
    rates: Option<MapHandle>,
    sums: Option<MapHandle>,
    syncing: Option<MapHandle>,
    /// Ends the patience.
    timer: Timer,
    /// Events and the timer.
    either: Epoll,
    /// The last look; `None` while nothing goes on and the costly hooks are off.
    last: Option<(Instant, Sums)>,
    quiet: HashMap<String, Instant>,
}

impl VmWritebackSource {
    pub(super) fn new() -> Result<VmWritebackSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/vm_writeback.bpf.o"));
        let feed = Feed::load_detached(super::NAME, object, SCENARIOS, &COSTLY)?;
        let timer = Timer::new()?;
        let either = feed.beside(timer.fd())?;
        Ok(VmWritebackSource {
            rates: feed.hooks().map("rates"),
            sums: feed.hooks().map("sums"),
            syncing: feed.hooks().map("syncing"),
            feed,
            timer,
            either,
            last: None,
            quiet: HashMap::new(),
        })
    }

    fn sum(&self, which: u32) -> f64 {
        let map = self.sums.as_ref();
        map.and_then(|map| bpf::counter(map, which)).unwrap_or(0.0)
    }

    /// How long each call that has not ended has been running.
    fn running(&self) -> Vec<Duration> {
        let Some(map) = &self.syncing else {
            return Vec::new();
        };
        let now = monotonic_ns();
        let began = map.keys().filter_map(|task| {
            let bytes = map.lookup(&task, MapFlags::ANY).ok()??;
            Fields(&bytes).u64(0)
        });
        began
            .map(|began| Duration::from_nanos(now.saturating_sub(began)))
            .collect()
    }

    fn sums(&self, running: &[Duration]) -> Sums {
        let waits: Duration = running.iter().sum();
        Sums {
            held: self.sum(HELD_MS) / 1e3,
            syncs: self.sum(SYNCS_ENDED),
            sync_wait: self.sum(SYNC_NS) / 1e9 + waits.as_secs_f64(),
        }
    }

    /// What the devices that wrote lately write together, bytes a second.
    fn rate(&self, page: f64) -> f64 {
        let Some(map) = &self.rates else {
            return 0.0;
        };
        let since = monotonic_ns().saturating_sub(LATELY.as_nanos() as u64);
        let rates = map.keys().filter_map(|key| {
            let bytes = map.lookup(&key, MapFlags::ANY).ok()??;
            Rate::parse(&bytes)
        });
        let lately = rates.filter(|rate| rate.seen_ns >= since);
        lately.map(|rate| rate.pages as f64 * page).sum()
    }

    /// What there is now. `None` where this kernel does not tell.
    fn now(&self, running: &[Duration]) -> Option<Now> {
        let page = bpftune_core::Machine::now().ok()?.page_size as f64;
        let mut meter = ProcMeter::default();
        let mut pages = |name: &'static str| meter.read(&Counter::VmStat(name.into()));
        let ended = Duration::from_nanos(self.sum(SLOWEST_NS) as u64);
        if let Some(map) = &self.sums {
            // A call that ends just now may be missed: it is one of many, or was seen running.
            let zero = 0u64.to_ne_bytes();
            let _ = map.update(&SLOWEST_NS.to_ne_bytes(), &zero, MapFlags::ANY);
        }
        Some(Now {
            rate: self.rate(page),
            backlog: (pages("nr_dirty")? + pages("nr_writeback")?) * page,
            limit: pages("nr_dirty_threshold")? * page,
            background: pages("nr_dirty_background_threshold")? * page,
            slowest: running.iter().copied().max().unwrap_or_default().max(ended),
        })
    }

    /// Something waits to be written: what happened since the last look?
    fn look(&mut self, netns: NetnsCookie) -> Option<Signal> {
        if self.last.is_none() {
            self.feed.switch(&COSTLY, true);
        }
        let at = Instant::now();
        let running = self.running();
        let sums = self.sums(&running);
        let now = self.now(&running)?;
        let (before, then) = self.last.replace((at, sums))?;
        signal(netns, at - before, &then, &sums, &now)
    }

    /// Nothing has waited for a while.
    fn rest(&mut self) {
        self.feed.switch(&COSTLY, false);
        self.last = None;
        let Some(map) = &self.syncing else { return };
        // Their ends are not seen.
        for task in map.keys().collect::<Vec<_>>() {
            let _ = map.delete(&task);
        }
    }
}

/// `struct rate` of the BPF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    seen_ns: u64,
    pages: u64,
}

impl Rate {
    fn parse(bytes: &[u8]) -> Option<Rate> {
        let bytes = Fields(bytes);
        Some(Rate {
            seen_ns: bytes.u64(0)?,
            pages: bytes.u64(8)?,
        })
    }
}

impl Source for VmWritebackSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.either.0.as_fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        if !self.feed.drain()?.is_empty() {
            let now = Instant::now();
            self.timer.set([now + PATIENCE]);
            if let Some(signal) = self.look(namespaces.own())
                && self
                    .quiet
                    .get(signal.scenario.as_ref())
                    .is_none_or(|until| *until <= now)
            {
                out.push(signal);
            }
        } else if self.timer.take() {
            self.rest();
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, _: NetnsCookie, scenario: &str, how_long: Duration) {
        self.quiet
            .insert(scenario.to_owned(), Instant::now() + how_long);
    }

    fn figure(&mut self, _: NetnsCookie, name: &str) -> Option<f64> {
        self.sums.as_ref()?;
        let sums = self.sums(&self.running());
        match name {
            SYNCS => Some(sums.syncs),
            SYNC_WAIT => Some(sums.sync_wait),
            _ => None,
        }
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
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Rate::parse(&bytes);
        }
    }

    #[test]
    fn mirrors_the_program() {
        let program = include_str!("vm_writeback.bpf.c");
        let (_, body) = program.split_once("struct rate {").unwrap();
        let fields: Vec<&str> = body
            .lines()
            .map(str::trim)
            .take_while(|line| *line != "};")
            .filter_map(|line| line.strip_prefix("__u64 ")?.strip_suffix(';'))
            .collect();
        assert_eq!(fields, ["seen_ns", "pages"]);
        for (name, index) in [
            ("HELD", HELD_MS),
            ("SYNCS", SYNCS_ENDED),
            ("SYNC_NS", SYNC_NS),
            ("SLOWEST_NS", SLOWEST_NS),
        ] {
            assert!(
                program.contains(&format!("\t{name} = {index},\n")),
                "{name}"
            );
        }
        for name in COSTLY {
            assert!(program.contains(&format!("int {name}(")), "{name}");
        }
    }
}
