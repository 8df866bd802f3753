//! From the BPF program's events to signals, and what a trial counts.

use std::{
    fs, io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use bpftune_core::{
    Machine, NetnsCookie, Result, Signal, Source,
    bpf::{self, Feed, Fields, HookStatus, Scenarios},
    netns::Namespaces,
    trial::{Counter, Meter, ProcMeter},
};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::{
    look::{Sums, signal},
    rules::{DEFRAG, LOST, MISSED, SAVED_PER_PAGE, STALLS, WANTED},
};

const SCENARIOS: Scenarios = &[(1, STALLS)];

/// Indices of the BPF program's sums.
const STALLED_NS: u32 = 0;
const UNASKED_NS: u32 = 1;
const STALLS_ENDED: u32 = 2;
const LONGEST_NS: u32 = 3;

/// The size of a huge page, bytes.
const HUGE: &str = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";

/// The hooks of `vm_thp.bpf.c`.
pub struct VmThpSource {
    feed: Feed,
    sums: Option<MapHandle>,
    /// The feed's, and the parameter where this kernel lacks it.
    hooks: Vec<HookStatus>,
    /// What a huge page saves, seconds.
    saved: f64,
    last: Option<(Instant, Sums)>,
}

impl VmThpSource {
    pub(super) fn new() -> Result<VmThpSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/vm_thp.bpf.o"));
        let feed = Feed::load(super::NAME, object, SCENARIOS)?;
        let mut hooks = feed.status().to_vec();
        hooks.push(HookStatus {
            name: "defrag".into(),
            section: DEFRAG.into(),
            off: fs::read_to_string(DEFRAG).err().map(|error| lacks(&error)),
        });
        Ok(VmThpSource {
            sums: feed.hooks().map("sums"),
            feed,
            hooks,
            saved: SAVED_PER_PAGE * pages_of_a_huge_one(),
            last: None,
        })
    }

    fn sum(&self, which: u32) -> f64 {
        let map = self.sums.as_ref();
        map.and_then(|map| bpf::counter(map, which)).unwrap_or(0.0)
    }

    /// `None` where this kernel counts no huge pages.
    fn sums(&self) -> Option<Sums> {
        let mut meter = ProcMeter::default();
        let mut faults = |name: &'static str| meter.read(&Counter::VmStat(name.into()));
        Some(Sums {
            stalled: self.sum(STALLED_NS) / 1e9,
            unasked: self.sum(UNASKED_NS) / 1e9,
            stalls: self.sum(STALLS_ENDED),
            got: faults("thp_fault_alloc")?,
            missed: faults("thp_fault_fallback")?,
        })
    }

    /// The longest stall since the last look; the next one begins anew.
    fn longest(&self) -> Duration {
        let longest = Duration::from_nanos(self.sum(LONGEST_NS) as u64);
        if let Some(map) = &self.sums {
            // A stall that ends just now may be missed: it is one of many.
            let zero = 0u64.to_ne_bytes();
            let _ = map.update(&LONGEST_NS.to_ne_bytes(), &zero, MapFlags::ANY);
        }
        longest
    }

    /// Tasks stall: what happened since the last look?
    fn look(&mut self, netns: NetnsCookie, who: String) -> Option<Signal> {
        let (at, sums, longest) = (Instant::now(), self.sums()?, self.longest());
        let (before, then) = self.last.replace((at, sums))?;
        signal(netns, who, at - before, &then, &sums, longest, self.saved)
    }
}

/// Why the parameter cannot be read, and so not be changed.
fn lacks(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "this kernel has no {DEFRAG}: it was built without CONFIG_TRANSPARENT_HUGEPAGE, or this processor has no \
             huge pages"
        ),
        _ => format!("{DEFRAG}: {error}"),
    }
}

/// For how many small pages a huge one stands: 512 of x86's, and where the kernel does not tell.
fn pages_of_a_huge_one() -> f64 {
    let bytes = fs::read_to_string(HUGE).ok();
    let bytes: Option<u64> = bytes.and_then(|text| text.trim().parse().ok());
    let page = Machine::now().map_or(4096, |machine| machine.page_size);
    bytes.map_or(512.0, |bytes| (bytes / page.max(1)) as f64)
}

/// `comm` of `struct vm_thp_event`, after its head.
fn who(body: &[u8]) -> Option<String> {
    Fields(body).text(0, 16)
}

impl Source for VmThpSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (_, _, body) in self.feed.drain()? {
            if let Some(who) = who(&body) {
                out.extend(self.look(namespaces.own(), who));
            }
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    /// There is at most one a second of the host.
    fn quiet(&mut self, _: NetnsCookie, _: &str, _: Duration) {}

    fn figure(&mut self, _: NetnsCookie, name: &str) -> Option<f64> {
        let sums = self.sums()?;
        match name {
            LOST => Some(sums.stalled + sums.missed * self.saved),
            MISSED => Some(sums.missed),
            WANTED => Some(sums.got + sums.missed),
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
            let _ = who(&bytes);
        }
    }

    #[test]
    fn mirrors_the_program() {
        let program = include_str!("vm_thp.bpf.c");
        for (name, index) in [
            ("STALLED_NS", STALLED_NS),
            ("UNASKED_NS", UNASKED_NS),
            ("STALLS", STALLS_ENDED),
            ("LONGEST_NS", LONGEST_NS),
        ] {
            assert!(
                program.contains(&format!("\t{name} = {index},\n")),
                "{name}"
            );
        }
        let event = "struct vm_thp_event {\n\tstruct bpftune_event head;\n\tchar comm[16];\n};";
        assert!(program.contains(event));
        assert_eq!(
            who(b"web\0\0\0\0\0\0\0\0\0\0\0\0\0").as_deref(),
            Some("web")
        );
    }

    #[test]
    fn a_missing_parameter_is_named_with_its_reason() {
        let missing = lacks(&io::Error::from_raw_os_error(2));
        assert!(missing.contains(DEFRAG) && missing.contains("CONFIG_TRANSPARENT_HUGEPAGE"));
        assert!(lacks(&io::Error::from_raw_os_error(13)).contains(DEFRAG));
    }
}
