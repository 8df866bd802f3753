//! While the BPF program tells of stalls, looks at its sums once a second; sleeps otherwise.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use bpftune_core::{
    Knob, NetnsCookie, Result, Signal, Source,
    bpf::{self, Feed, HookStatus, SHARED, Scenarios},
    netns::Namespaces,
    timer::Timer,
};
use libbpf_rs::MapHandle;
use nix::sys::epoll::Epoll;

use super::{
    look::{BUCKETS, History, Sums},
    rules::{ALLOCATED, STALLED, STALLS},
};

const SCENARIOS: Scenarios = &[(1, STALLS)];

const EVERY: Duration = Duration::from_secs(1);

/// Indices of the BPF program's sums.
const CALLS: u32 = 0;
const STALLED_NS: u32 = 1;
const HISTOGRAM: u32 = 2;

/// The hooks of `vm_reclaim.bpf.c`.
pub struct VmReclaimSource {
    feed: Feed,
    sums: Option<MapHandle>,
    timer: Timer,
    /// Events and the timer.
    either: Epoll,
    history: History,
    /// Nothing can be done until then.
    quiet: Option<Instant>,
}

impl VmReclaimSource {
    pub(super) fn new() -> Result<VmReclaimSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/vm_reclaim.bpf.o"));
        let feed = Feed::load(super::NAME, object, SCENARIOS)?;
        let timer = Timer::new()?;
        let either = feed.beside(timer.fd())?;
        Ok(VmReclaimSource {
            sums: feed.hooks().map("sums"),
            feed,
            timer,
            either,
            history: History::default(),
            quiet: None,
        })
    }

    fn sum(&self, index: u32) -> Option<f64> {
        bpf::counter_of_all(self.sums.as_ref()?, index)
    }

    fn now(&self) -> Option<Sums> {
        let mut took = [0.0; BUCKETS];
        for (index, calls) in (HISTOGRAM..).zip(&mut took) {
            *calls = self.sum(index)?;
        }
        Some(Sums {
            calls: self.sum(CALLS)?,
            stalled: self.sum(STALLED_NS)? / 1e9,
            took,
            allocated: allocated()?,
        })
    }

    /// What happened within the last seconds; another look follows in one, unless it is long over.
    fn look(&mut self, netns: NetnsCookie) -> Option<Signal> {
        let (at, sums) = (Instant::now(), self.now()?);
        let signal = self.history.add(netns, at, sums);
        if signal.is_none() && self.history.is_long() {
            self.rest();
        } else {
            self.timer.set([at + EVERY]);
        }
        signal
    }

    fn rest(&mut self) {
        self.timer.set([]);
        self.history.forget();
    }

    /// Both hooks, or a stall would have no end.
    fn counts(&self) -> bool {
        self.feed.status().iter().all(|hook| hook.off.is_none())
    }
}

/// GiB that were allocated since the host started (/proc/vmstat).
fn allocated() -> Option<f64> {
    let page = bpftune_core::Machine::now().ok()?.page_size as f64;
    let text = std::fs::read_to_string("/proc/vmstat").ok()?;
    Some(pages_allocated(&text)? * page / f64::from(1 << 30))
}

/// Of all zones together: "pgalloc_normal 12".
fn pages_allocated(vmstat: &str) -> Option<f64> {
    let zones = vmstat.lines().filter_map(|line| {
        let (_zone, pages) = line.strip_prefix("pgalloc_")?.split_once(' ')?;
        pages.parse::<f64>().ok()
    });
    zones.reduce(|sum, pages| sum + pages)
}

impl Source for VmReclaimSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.either.0.as_fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        let events = !self.feed.drain()?.is_empty();
        let due = self.timer.take();
        let now = Instant::now();
        if self.quiet.is_some_and(|until| now < until) {
            self.rest();
        } else if due || (events && self.history.is_empty()) {
            out.extend(self.look(namespaces.own()));
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, _: NetnsCookie, scenario: &str, how_long: Duration) {
        self.feed.quiet(SHARED, scenario, how_long);
        self.quiet = Some(Instant::now() + how_long);
    }

    /// What was before it says nothing of the new value.
    fn after_change(&mut self, _: &Knob) -> Result<()> {
        self.history.forget();
        Ok(())
    }

    fn figure(&mut self, _: NetnsCookie, name: &str) -> Option<f64> {
        match name {
            STALLED if self.counts() => Some(self.sum(STALLED_NS)? / 1e9),
            ALLOCATED => allocated(),
            _ => None,
        }
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_all_zones_are_counted() {
        let text =
            "pgalloc_dma 1\npgalloc_dma32 20\npgalloc_normal 300\npgfree 9\nallocstall_normal 7\n";
        assert_eq!(pages_allocated(text), Some(321.0));
        assert_eq!(pages_allocated("pgfree 9\n"), None);
        assert!(allocated().unwrap() > 0.0);
    }

    #[test]
    fn mirrors_the_program() {
        let program = include_str!("vm_reclaim.bpf.c");
        for (name, index) in [
            ("CALLS", CALLS),
            ("STALLED_NS", STALLED_NS),
            ("HISTOGRAM", HISTOGRAM),
        ] {
            let line = format!("\t{name} = {index},\n");
            assert!(program.contains(&line), "{name}");
        }
        assert!(program.contains(&format!("SUMS = HISTOGRAM + {BUCKETS},")));
    }
}
