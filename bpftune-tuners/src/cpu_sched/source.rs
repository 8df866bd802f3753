//! From the BPF programs' events to signals, and waits on trial.

use std::{os::fd::BorrowedFd, time::Duration};

use bpftune_core::{
    Figure, NetnsCookie, Result, Signal, Source,
    bpf::{self, EventHeader, Feed, Fields, HookStatus, Scenarios},
    netns::Namespaces,
};
use libbpf_rs::MapHandle;

use super::{
    lacks,
    rules::{VERY_LONG, WAITED, WAITS, WOKEN},
};

const SCENARIOS: Scenarios = &[(1, WAITS)];

/// Figures by their index in the program's `totals`, and what a unit of theirs is of the program's.
const TOTALS: [(&str, u32, f64); 3] = [(WOKEN, 0, 1.0), (WAITED, 1, 1e-6), (VERY_LONG, 2, 1.0)];

/// The hooks of `cpu_sched.bpf.c`.
pub struct CpuSchedSource {
    feed: Feed,
    totals: Option<MapHandle>,
    /// The feed's, and what parameters the kernel lacks.
    hooks: Vec<HookStatus>,
}

impl CpuSchedSource {
    pub(super) fn new() -> Result<CpuSchedSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/cpu_sched.bpf.o"));
        let feed = Feed::load(super::NAME, object, SCENARIOS)?;
        let mut hooks = feed.status().to_vec();
        hooks.extend(lacks::parameters());
        Ok(CpuSchedSource {
            totals: feed.hooks().map("totals"),
            feed,
            hooks,
        })
    }
}

/// `struct cpu_sched_event` after its head.
fn signal(scenario: &'static str, head: &EventHeader, body: &[u8]) -> Option<Signal> {
    let fields = Fields(body);
    let number = |at| fields.u32(at).map(f64::from);
    let woken = number(0)?;
    let waited_ms = number(12)? / 1000.0;
    Some(Signal {
        scenario: scenario.into(),
        // Of the host; whoever hears it says which that is.
        netns: head.netns(),
        subject: fields.text(24, 16)?,
        count: head.count,
        figures: vec![
            Figure::new("woken", woken, ""),
            Figure::new("behind_own", number(4)?, ""),
            Figure::new("behind_others", number(8)?, ""),
            Figure::new("mean", waited_ms / woken.max(1.0), "ms"),
            Figure::new("longest", number(16)? / 1000.0, "ms"),
            Figure::new("cpu", number(20)?, ""),
        ],
    })
}

impl Source for CpuSchedSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (scenario, head, body) in self.feed.drain()? {
            out.extend(signal(scenario, &head, &body).map(|signal| Signal {
                netns: namespaces.own(),
                ..signal
            }));
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    fn figure(&mut self, _: NetnsCookie, name: &str) -> Option<f64> {
        let (_, index, unit) = TOTALS.iter().find(|(known, ..)| *known == name)?;
        Some(bpf::counter_of_all(self.totals.as_ref()?, *index)? * unit)
    }

    /// There is at most one a second of each processor.
    fn quiet(&mut self, _: NetnsCookie, _: &str, _: Duration) {}

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: EventHeader = EventHeader {
        scenario: 1,
        count: 12,
        netns_cookie: 0,
    };

    proptest! {
        #[test]
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = signal(WAITS, &HEAD, &bytes);
        }
    }

    #[test]
    fn parses_an_event() {
        let mut body = Vec::new();
        for number in [40u32, 2, 10, 200_000, 31_000, 1] {
            body.extend(number.to_ne_bytes());
        }
        body.extend(*b"editor\0\0\0\0\0\0\0\0\0\0");
        let signal = signal(WAITS, &HEAD, &body).unwrap();
        assert_eq!(signal.subject, "editor");
        for (name, value) in [
            ("woken", 40.0),
            ("behind_others", 10.0),
            ("mean", 5.0),
            ("longest", 31.0),
        ] {
            assert_eq!(signal.figure(name), Some(value), "{name}");
        }
    }

    #[test]
    fn mirrors_the_program() {
        let program = include_str!("cpu_sched.bpf.c");
        let body = program.split_once("struct cpu_sched_event {").unwrap().1;
        let fields: Vec<&str> = body
            .lines()
            .map(str::trim)
            .take_while(|line| *line != "};")
            .filter_map(|line| line.strip_suffix(';'))
            .collect();
        assert_eq!(
            fields[1..],
            [
                "__u32 woken",
                "__u32 behind_own",
                "__u32 behind_others",
                "__u32 waited_us",
                "__u32 longest_us",
                "__u32 cpu",
                "char comm[16]"
            ]
        );
        for (name, index) in [("WOKEN", 0), ("WAITED_NS", 1), ("VERY_LONG", 2)] {
            assert!(program.contains(&format!("\t{name} = {index},")), "{name}");
        }
    }
}
