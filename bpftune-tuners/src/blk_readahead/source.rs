//! From the BPF program's events to signals, and what programs ask of the device on trial.

use std::{
    collections::HashMap,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use bpftune_core::{
    Figure, NetnsCookie, Result, Signal, Source,
    bpf::{self, Feed, Fields, HookStatus, Scenarios},
    netns::Namespaces,
};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::rules::{DEMAND, MAPPED, SHORT, WASTED};
use crate::{disks, focus::Focus};

/// `enum way` of `blk_readahead.bpf.c`.
const BY_READ: u32 = 0;
const BY_MAPPING: u32 = 1;

const SCENARIOS: Scenarios = &[(1, WASTED), (2, SHORT)];

/// The hooks of `blk_readahead.bpf.c`.
pub struct BlkReadaheadSource {
    feed: Feed,
    focus_map: Option<MapHandle>,
    demand: Option<MapHandle>,
    focus: Focus<u32>,
    quiet: HashMap<String, Instant>,
}

/// `struct blk_readahead_event` after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Windows {
    dev: u32,
    ra_pages: u32,
    around: u32,
    full: u32,
    other: u32,
    over_ms: u32,
}

impl Windows {
    fn parse(body: &[u8]) -> Option<Windows> {
        let body = Fields(body);
        Some(Windows {
            dev: body.u32(0)?,
            ra_pages: body.u32(4)?,
            around: body.u32(8)?,
            full: body.u32(12)?,
            other: body.u32(16)?,
            over_ms: body.u32(20)?,
        })
    }

    fn signal(
        self,
        scenario: &'static str,
        netns: NetnsCookie,
        disk: String,
        page_kib: f64,
    ) -> Signal {
        let seconds = f64::from(self.over_ms.max(1)) / 1000.0;
        let rate = |count: u32| f64::from(count) / seconds;
        Signal {
            scenario: scenario.into(),
            netns,
            subject: disk,
            count: self.around.max(self.full),
            figures: vec![
                Figure::new("read_ahead", f64::from(self.ra_pages) * page_kib, "KiB"),
                Figure::new("around", rate(self.around), "/s"),
                Figure::new("full", rate(self.full), "/s"),
                Figure::new("other", rate(self.other), "/s"),
            ],
        }
    }
}

impl BlkReadaheadSource {
    pub(super) fn new() -> Result<BlkReadaheadSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/blk_readahead.bpf.o"));
        let feed = Feed::load(super::NAME, object, SCENARIOS)?;
        Ok(BlkReadaheadSource {
            focus_map: feed.hooks().map("focus"),
            demand: feed.hooks().map("demand"),
            feed,
            focus: Focus::new(disks::FOCUS),
            quiet: HashMap::new(),
        })
    }

    /// Whether a device may be heard now; then it is the one that demand is counted of.
    fn looks_at(&mut self, dev: u32, now: Instant) -> bool {
        let before = self.focus.on().copied();
        let taken = self.focus.takes(&dev, now);
        if taken
            && before != Some(dev)
            && let Some(map) = &self.focus_map
        {
            let _ = map.update(&0u32.to_ne_bytes(), &dev.to_ne_bytes(), MapFlags::ANY);
        }
        taken
    }
}

impl Source for BlkReadaheadSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        let now = Instant::now();
        let page_kib = page_kib();
        for (scenario, _, body) in self.feed.drain()? {
            let Some(windows) = Windows::parse(&body) else {
                continue;
            };
            if self.quiet.get(scenario).is_some_and(|until| *until > now) {
                continue;
            }
            if let Some(disk) = disks::name(windows.dev)
                && self.looks_at(windows.dev, now)
            {
                out.push(windows.signal(scenario, namespaces.own(), disk, page_kib));
            }
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
        if !self.counts_demand() {
            return None;
        }
        let by = |way| bpf::counter_of_all(self.demand.as_ref()?, way);
        match name {
            DEMAND => Some(by(BY_READ)? + by(BY_MAPPING)?),
            MAPPED => by(BY_MAPPING),
            _ => None,
        }
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

impl BlkReadaheadSource {
    /// A sum of which a part is missing would be no measure.
    fn counts_demand(&self) -> bool {
        let mut parts = self.feed.status().iter();
        parts.all(|hook| hook.off.is_none())
    }
}

/// KiB in a page.
fn page_kib() -> f64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .map_or(4.0, |bytes| bytes as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Windows::parse(&bytes);
        }
    }

    #[test]
    fn counts_become_rates() {
        let mut body = Vec::new();
        for number in [7 << 20, 2048u32, 90, 3, 6, 1500] {
            body.extend(number.to_ne_bytes());
        }
        let signal =
            Windows::parse(&body)
                .unwrap()
                .signal(WASTED, NetnsCookie(5), "loop0".into(), 4.0);
        assert_eq!(signal.subject, "loop0");
        for (name, value) in [
            ("read_ahead", 8192.0),
            ("around", 60.0),
            ("full", 2.0),
            ("other", 4.0),
        ] {
            assert_eq!(signal.figure(name), Some(value), "{name}");
        }
    }

    #[test]
    fn mirrors_the_program() {
        let program = include_str!("blk_readahead.bpf.c");
        let body = program
            .split_once("struct blk_readahead_event {")
            .unwrap()
            .1;
        let fields: Vec<&str> = body
            .lines()
            .map(str::trim)
            .take_while(|line| *line != "};")
            .filter_map(|line| line.strip_prefix("__u32 ")?.strip_suffix(';'))
            .collect();
        assert_eq!(
            fields,
            ["dev", "ra_pages", "around", "full", "other", "over_ms"]
        );
    }
}
