//! Programs that want huge pages of memory that is free in single pages only.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bpftune_core::{
    stats::Direction,
    trial::{Counter, Meter, ProcMeter},
};

use super::{
    memory::{InPieces, Pages, Reader, page, scatter},
    no_fault::NoFault,
};
use crate::{
    Result,
    network::{HostValues, Scenario, Stage, Values, rest_of_second, rounds_per_second},
};

const TUNER: &str = "vm-thp";
const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const DEFRAG: &str = "/sys/kernel/mm/transparent_hugepage/defrag";

/// Debian's tuned 2.20, profile network-latency: what concerns huge pages.
const LATENCY: (&str, Values) = ("network-latency", &[(ENABLED, "never")]);
const BY_HAND: Values = &[(DEFRAG, "defer+madvise")];

fn missing() -> Option<&'static str> {
    let here = Path::new(DEFRAG).exists();
    (!here).then_some("a kernel with transparent huge pages (CONFIG_TRANSPARENT_HUGEPAGE)")
}

/// Huge pages for everybody, at any price.
fn always() -> Result<HostValues> {
    let mut host = HostValues::default();
    host.set(ENABLED, "always")?;
    host.set(DEFRAG, "always")?;
    Ok(host)
}

/// Faults that got a huge page, and those that missed one.
fn faults() -> [f64; 2] {
    let mut meter = ProcMeter::default();
    let mut count = |name: &'static str| meter.read(&Counter::VmStat(name.into())).unwrap_or(0.0);
    [count("thp_fault_alloc"), count("thp_fault_fallback")]
}

const BUFFERS: usize = 128;
const BUFFER: usize = 4 << 20;
const PAUSE: Duration = Duration::from_millis(4);

/// A service under load for a second or two: a new buffer each few milliseconds, all of them kept to the end. The mean of
/// what one took, ms.
fn burst() -> Result<f64> {
    let (mut kept, mut took) = (Vec::new(), Duration::ZERO);
    for _ in 0..BUFFERS {
        let start = Instant::now();
        let buffer = Pages::new(BUFFER / page())?;
        buffer.touch();
        took += start.elapsed();
        kept.push(buffer);
        std::thread::sleep(PAUSE);
    }
    Ok(took.as_secs_f64() * 1e3 / BUFFERS as f64)
}

/// Between two bursts what they gave back becomes a file's.
const BETWEEN: Duration = Duration::from_millis(600);
/// Longer than a tuner waits for a second signal, so that each burst is the first.
const SILENCE: Duration = Duration::from_secs(5);

struct Service {
    silence: Duration,
    /// Share of huge pages that were got in the last turn, %.
    got: f64,
    _reader: Reader,
    _memory: InPieces,
    _host: HostValues,
}

impl Service {
    fn stage(silence: Duration) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Service {
            silence,
            got: 0.0,
            _host: always()?,
            _memory: InPieces::new()?,
            _reader: Reader::start()?,
        }))
    }
}

impl Stage for Service {
    fn turn(&mut self) -> Result<f64> {
        let before = faults();
        let took = burst()?;
        let now = faults();
        let (got, missed) = (now[0] - before[0], now[1] - before[1]);
        self.got = got * 100.0 / (got + missed).max(1.0);
        std::thread::sleep(BETWEEN + self.silence);
        Ok(took)
    }
    fn beside(&self) -> Option<f64> {
        Some(self.got)
    }
}

/// Bursts of buffers beside a reader of files, in memory in pieces: whoever wants a huge page compacts memory first,
/// mostly in vain.
pub(super) struct Bursts;

impl Scenario for Bursts {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "new buffers in memory in pieces"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ("a buffer of 4 MiB, mean", "ms")
    }
    fn better(&self) -> Direction {
        Direction::Lower
    }
    fn beside(&self) -> Option<(&'static str, &'static str)> {
        Some(("huge pages that were got", "%"))
    }
    fn by_hand(&self) -> Values {
        BY_HAND
    }
    fn tuned(&self) -> (&'static str, Values) {
        LATENCY
    }
    fn turns(&self) -> usize {
        8
    }
    fn turns_on(&self) -> usize {
        20
    }
    fn mended_within(&self) -> f64 {
        25.0
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn missing(&self) -> Option<&'static str> {
        missing()
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        Service::stage(Duration::ZERO)
    }
}

/// The same for a moment, then silence, again and again: each time it tempts to change something, and is over before that
/// could be tried.
pub(super) const BY_TURNS: NoFault = NoFault::trap(
    TUNER,
    "new buffers now and then",
    ("a buffer of 4 MiB, mean", "ms"),
    || Service::stage(SILENCE),
)
.lower_is_better()
.turns(8, 8)
.needs(missing);

/// A program whose heap grows and is used here and there, where all memory is in pieces, and nobody else takes what was
/// compacted: huge pages that are worth what they cost.
pub(super) const HEAP: NoFault = NoFault::trap(
    TUNER,
    "a heap that grows and is used at random",
    ("192 MiB more, and 6 million writes", "ms"),
    || {
        let growing = Growing {
            heap: Vec::new(),
            _host: always()?,
            _memory: InPieces::new()?,
        };
        // The rest becomes a file's, here and there.
        drop(Reader::start()?);
        Ok(Box::new(growing))
    },
)
.lower_is_better()
.turns(16, 16)
.needs(missing);

struct Growing {
    heap: Vec<Pages>,
    _memory: InPieces,
    _host: HostValues,
}

impl Stage for Growing {
    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        let more = Pages::new((192 << 20) / page())?;
        more.touch();
        self.heap.push(more);
        scatter(&self.heap, 6_000_000 / self.heap.len());
        let took = start.elapsed();
        rest_of_second(start);
        Ok(took.as_secs_f64() * 1e3)
    }
}

/// Memory that is mapped, written and given back, with huge pages for everybody and enough memory in large pieces.
pub(super) const NOTHING_WRONG: NoFault = NoFault::nothing_wrong(
    TUNER,
    "huge pages of memory in large pieces",
    ("buffers of 4 MiB", "/s"),
    || Ok(Box::new(Buffers { _host: always()? })),
)
.needs(missing);

struct Buffers {
    _host: HostValues,
}

impl Stage for Buffers {
    fn turn(&mut self) -> Result<f64> {
        rounds_per_second(|| {
            Pages::new(BUFFER / page())?.touch();
            Ok(())
        })
    }
}
