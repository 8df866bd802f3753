//! Programs that want memory while all of it holds pages of files.

use std::{
    fs::File,
    os::{fd::AsRawFd, unix::fs::FileExt},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bpftune_core::{
    Machine,
    stats::Direction,
    trial::{Counter, Meter, ProcMeter},
};

use super::{
    control_group::MemoryGroup,
    disk::{self, slowest},
    no_fault::NoFault,
    workers::Workers,
};
use crate::{
    Error, Result,
    network::{HostValues, Scenario, Stage, Values},
};

const TUNER: &str = "vm-reclaim";
const FACTOR: &str = "vm.watermark_scale_factor";

/// Debian's tuned 2.20, profile throughput-performance: what concerns free memory.
const THROUGHPUT: (&str, Values) = ("throughput-performance", &[("vm.swappiness", "10")]);

const PAGE: usize = 4096;
const MIB: u64 = 1 << 20;
/// What a turn takes.
const TURN: Duration = Duration::from_secs(3);
/// Memory is full when less is free.
const FULL: u64 = 512 * MIB;

/// A file of holes, larger than memory: reading it fills memory with its pages, and no disk has to read for it.
struct Holes {
    file: tempfile::NamedTempFile,
    bytes: u64,
}

impl Holes {
    /// So many times as large as memory.
    fn new(times: f64) -> Result<Holes> {
        let memory = Machine::now()
            .map_err(|error| Error::other("cannot read the size of memory", error))?
            .memory_total;
        let bytes = (memory as f64 * times) as u64;
        let file = tempfile::NamedTempFile::new_in("/var/tmp")
            .and_then(|file| file.as_file().set_len(bytes).map(|()| file))
            .map_err(Error::doing("cannot make a file in /var/tmp"))?;
        Ok(Holes { file, bytes })
    }
}

/// Computes.
fn busy(threads: &mut Workers) {
    let over = threads.over();
    threads.add(std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        Ok(())
    }));
}

/// Reads a file of holes over and over from there on, so many MiB a second at most, and counts them. Each page by
/// itself, as random reads fill memory: pages that are read ahead are larger, and freed by the thousand.
fn reads(
    threads: &mut Workers,
    holes: &Holes,
    from: u64,
    rate: Option<f64>,
) -> Result<Arc<AtomicU64>> {
    let file = File::open(holes.file.path()).map_err(Error::doing("cannot open a file"))?;
    // SAFETY: posix_fadvise(2) takes numbers only.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
    let (over, count, bytes) = (threads.over(), Arc::new(AtomicU64::new(0)), holes.bytes);
    let read = count.clone();
    threads.add(std::thread::spawn(move || {
        let (mut block, mut at, mut due) = (vec![0; MIB as usize], from, Instant::now());
        while !over.load(Ordering::Relaxed) && file.read_at(&mut block, at).is_ok() {
            at = (at + MIB) % (bytes / MIB * MIB);
            read.fetch_add(1, Ordering::Relaxed);
            if let Some(rate) = rate {
                // What was missed is not made up for.
                due = (due + Duration::from_secs_f64(1.0 / rate)).max(Instant::now());
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        Ok(())
    }));
    Ok(count)
}

/// Until memory is full.
fn wait_until_full() -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(120) {
        let free = ProcMeter::default().read(&Counter::MemInfo("MemFree".into()));
        if free.is_some_and(|kib| kib * 1024.0 < FULL as f64) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(Error::other(
        "memory did not get full",
        "within two minutes",
    ))
}

/// The factor as a kernel starts.
fn host() -> Result<HostValues> {
    let mut host = HostValues::default();
    host.set(FACTOR, "10")?;
    Ok(host)
}

/// Memory at once, one page after the other, and given back: what each page took.
fn touch(bytes: usize, took: &mut Vec<Duration>) {
    let mut memory: Vec<u8> = Vec::with_capacity(bytes);
    let mut last = Instant::now();
    for page in memory.spare_capacity_mut().chunks_mut(PAGE) {
        page[0].write(1);
        let now = Instant::now();
        took.push(now - last);
        last = now;
    }
    std::hint::black_box(&mut memory);
}

const REQUEST: usize = 64 << 20;
const EVERY: Duration = Duration::from_millis(100);

struct Serving {
    took: f64,
    _threads: Workers,
    _holes: Holes,
    _host: HostValues,
}

impl Stage for Serving {
    fn turn(&mut self) -> Result<f64> {
        let (start, mut due) = (Instant::now(), Instant::now());
        let (mut pages, mut requests) = (Vec::new(), 0);
        while start.elapsed() < TURN {
            touch(REQUEST, &mut pages);
            requests += 1;
            due = (due + EVERY).max(Instant::now());
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let all: Duration = pages.iter().sum();
        self.took = all.as_secs_f64() * 1e3 / f64::from(requests);
        Ok(slowest(pages, 1000) * 1e3)
    }
    fn beside(&self) -> Option<f64> {
        Some(self.took)
    }
}

/// Ten times a second a program takes 64 MiB, beside another that reads files, and processors that are busy.
pub(super) struct Requests;

impl Scenario for Requests {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "memory taken at once, all of it full of files"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ("a page's first touch, 99.9th percentile", "us")
    }
    fn better(&self) -> Direction {
        Direction::Lower
    }
    fn beside(&self) -> Option<(&'static str, &'static str)> {
        Some(("64 MiB touched, mean", "ms"))
    }
    fn by_hand(&self) -> Values {
        &[(FACTOR, "150")]
    }
    fn tuned(&self) -> (&'static str, Values) {
        THROUGHPUT
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn turns(&self) -> usize {
        6
    }
    /// Stalls come after half a minute, as reading mixes what memory holds.
    fn turns_on(&self) -> usize {
        30
    }
    fn mended_within(&self) -> f64 {
        60.0
    }
    fn missing(&self) -> Option<&'static str> {
        disk::missing()
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        let (host, holes) = (host()?, Holes::new(1.25)?);
        let mut filling = Workers::default();
        let read = reads(&mut filling, &holes, 0, None)?;
        wait_until_full()?;
        drop(filling);
        let mut threads = Workers::default();
        reads(
            &mut threads,
            &holes,
            read.load(Ordering::Relaxed) * MIB,
            Some(1000.0),
        )?;
        busy(&mut threads);
        busy(&mut threads);
        Ok(Box::new(Serving {
            took: 0.0,
            _threads: threads,
            _holes: holes,
            _host: host,
        }))
    }
}

struct Limited {
    group: MemoryGroup,
    holes: Holes,
    _host: HostValues,
}

impl Stage for Limited {
    /// A program of its own, for a process belongs to a group as a whole.
    fn turn(&mut self) -> Result<f64> {
        let (start, mib) = (Instant::now(), 6 << 10);
        let script = format!(
            "echo $$ > {} && exec dd if={} of=/dev/null bs=1M count={mib} status=none",
            self.group.tasks().display(),
            self.holes.file.path().display()
        );
        let status = Command::new("sh")
            .args(["-c", &script])
            .status()
            .map_err(Error::doing("cannot start sh"))?;
        if !status.success() {
            return Err(Error::other("dd in a control group failed", status));
        }
        Ok(f64::from(mib) / start.elapsed().as_secs_f64())
    }
}

/// A control group at its own limit of 256 MiB frees pages all the time, which no watermark of the host changes.
pub(super) const AT_ITS_LIMIT: NoFault = NoFault::trap(
    TUNER,
    "a control group at its limit",
    ("read by it", "MiB/s"),
    || {
        Ok(Box::new(Limited {
            _host: host()?,
            group: MemoryGroup::new(256 * MIB)?,
            holes: Holes::new(1.0)?,
        }))
    },
)
.needs(|| disk::missing().or_else(MemoryGroup::missing));

struct Readers {
    read: Vec<Arc<AtomicU64>>,
    _threads: Workers,
    _holes: Holes,
    _host: HostValues,
}

impl Stage for Readers {
    fn turn(&mut self) -> Result<f64> {
        let sum = || -> u64 {
            let counts = self.read.iter();
            counts.map(|count| count.load(Ordering::Relaxed)).sum()
        };
        let (start, before) = (Instant::now(), sum());
        std::thread::sleep(TURN);
        Ok((sum() - before) as f64 / start.elapsed().as_secs_f64())
    }
}

/// Readers, two for each processor, that want pages without a pause: however early one begins to free them, it is too late.
pub(super) const NEVER_ENOUGH: NoFault = NoFault::trap(
    TUNER,
    "more wanted than can be freed",
    ("read", "MiB/s"),
    || {
        let readers = 2 * std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let (host, holes) = (host()?, Holes::new(2.0 * readers as f64)?);
        let mut threads = Workers::default();
        let part = holes.bytes / readers / MIB * MIB;
        let read = (0..readers).map(|reader| reads(&mut threads, &holes, reader * part, None));
        let read = read.collect::<Result<_>>()?;
        wait_until_full()?;
        Ok(Box::new(Readers {
            read,
            _threads: threads,
            _holes: holes,
            _host: host,
        }))
    },
)
.turns(6, 14)
.needs(disk::missing);
