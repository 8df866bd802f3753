//! A program that writes a lot, and another one that has to wait for it.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bpftune_core::stats::Direction;

use super::{disk::slowest_hundredth, no_fault::NoFault, slow_disk::SlowDisk};
use crate::{
    Error, Result,
    network::{HostValues, Scenario, Stage, Values},
};

const TUNER: &str = "vm-writeback";

/// Debian's tuned 2.20, profile latency-performance: what concerns writeback.
const LATENCY: (&str, Values) = (
    "latency-performance",
    &[("vm.dirty_ratio", "10"), ("vm.dirty_background_ratio", "3")],
);

/// Bytes a second that the disk writes.
const RATE: u64 = 100 << 20;
/// What a turn takes.
const TURN: Duration = Duration::from_secs(3);
const BLOCK: usize = 1 << 20;

/// Writes into a file over and over, until it is dropped.
struct Writer {
    stop: Arc<AtomicBool>,
    wrote: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// `pause` after each MiB.
    fn start(path: PathBuf, bytes: u64, pause: Duration) -> Result<Writer> {
        let file = File::create(path).map_err(Error::doing("cannot make a file"))?;
        let (stop, wrote) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, count) = (stop.clone(), wrote.clone());
        let thread = std::thread::spawn(move || {
            let block = vec![0x5a; BLOCK];
            let mut at = 0;
            while !stopped.load(Ordering::Relaxed) && file.write_all_at(&block, at).is_ok() {
                at = (at + BLOCK as u64) % bytes;
                count.fetch_add(BLOCK as u64, Ordering::Relaxed);
                if !pause.is_zero() {
                    std::thread::sleep(pause);
                }
            }
        });
        Ok(Writer {
            stop,
            wrote,
            thread: Some(thread),
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Appends a page, calls fdatasync(2), rests a moment, and so on, as a database's log does.
struct Syncer {
    stop: Arc<AtomicBool>,
    shared: Arc<Mutex<Calls>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Calls {
    took: Vec<Duration>,
    /// Since when one is under way.
    since: Option<Instant>,
}

impl Syncer {
    fn start(path: PathBuf) -> Result<Syncer> {
        let mut options = OpenOptions::new();
        let mut file = options
            .append(true)
            .create(true)
            .open(path)
            .map_err(Error::doing("cannot make a file"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Mutex::new(Calls::default()));
        let (stopped, calls) = (stop.clone(), shared.clone());
        let thread = std::thread::spawn(move || {
            let lock = || calls.lock().expect("nobody panics with it");
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                lock().since = Some(start);
                if file
                    .write_all(&[0; 4096])
                    .and_then(|()| file.sync_data())
                    .is_err()
                {
                    break;
                }
                let mut calls = lock();
                calls.since = None;
                calls.took.push(start.elapsed());
                drop(calls);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Ok(Syncer {
            stop,
            shared,
            thread: Some(thread),
        })
    }

    /// What the calls since the last time took, the one under way included.
    fn took(&self) -> Vec<Duration> {
        let mut calls = self.shared.lock().expect("nobody panics with it");
        let mut took = std::mem::take(&mut calls.took);
        took.extend(calls.since.map(|since| since.elapsed()));
        took
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a scenario runs on its disk.
#[derive(Clone, Copy)]
struct Load {
    /// The writer's file, and its rest after each MiB.
    bytes: u64,
    pause: Duration,
    syncs: bool,
    /// Whether the calls are what is measured, or what the writer writes.
    measures_syncs: bool,
    limits: [&'static str; 2],
}

/// A fifth and a tenth, the kernel's own, of a machine with a tenth of this one's memory.
const SHARES: [&str; 2] = ["ratio-2", "ratio-1"];

/// What may wait, and from where on writing begins.
fn limits([most, begins]: [&str; 2]) -> Result<HostValues> {
    let mut host = HostValues::default();
    host.set("vm.dirty_bytes", most)?;
    host.set("vm.dirty_background_bytes", begins)?;
    Ok(host)
}

struct Running {
    load: Load,
    writer: Option<Writer>,
    syncer: Option<Syncer>,
    /// MiB/s in the last turn.
    written: f64,
    disk: SlowDisk,
    _host: HostValues,
}

impl Load {
    fn stage(self) -> Result<Box<dyn Stage>> {
        let host = limits(self.limits)?;
        Ok(Box::new(Running {
            load: self,
            writer: None,
            syncer: None,
            written: 0.0,
            disk: SlowDisk::new(2 << 30, RATE)?,
            _host: host,
        }))
    }
}

impl Stage for Running {
    fn turn(&mut self) -> Result<f64> {
        let Load {
            bytes,
            pause,
            syncs,
            measures_syncs,
            ..
        } = self.load;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(Writer::start(self.disk.path().join("big"), bytes, pause)?),
        };
        if syncs && self.syncer.is_none() {
            self.syncer = Some(Syncer::start(self.disk.path().join("log"))?);
        }
        let (start, before) = (Instant::now(), writer.wrote.load(Ordering::Relaxed));
        std::thread::sleep(TURN);
        let wrote = writer.wrote.load(Ordering::Relaxed) - before;
        self.written = wrote as f64 / start.elapsed().as_secs_f64() / (1 << 20) as f64;
        Ok(match &self.syncer {
            Some(syncer) if measures_syncs => slowest_hundredth(syncer.took()),
            _ => self.written,
        })
    }
    fn beside(&self) -> Option<f64> {
        Some(self.written)
    }
}

/// A writer that no disk can follow, and a database's log beside it.
pub(super) struct Log;

impl Scenario for Log {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "a log beside a large writer"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ("fdatasync, 99th percentile", "ms")
    }
    fn better(&self) -> Direction {
        Direction::Lower
    }
    fn beside(&self) -> Option<(&'static str, &'static str)> {
        Some(("written beside it", "MiB/s"))
    }
    fn by_hand(&self) -> Values {
        &[
            ("vm.dirty_bytes", "33554432"),
            ("vm.dirty_background_bytes", "16777216"),
        ]
    }
    fn tuned(&self) -> (&'static str, Values) {
        LATENCY
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn turns(&self) -> usize {
        14
    }
    fn mended_within(&self) -> f64 {
        25.0
    }
    fn missing(&self) -> Option<&'static str> {
        SlowDisk::missing()
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        let load = Load {
            bytes: 1 << 30,
            pause: Duration::ZERO,
            syncs: true,
            measures_syncs: true,
            limits: SHARES,
        };
        load.stage()
    }
}

/// A writer by itself, held at the limit all the time: nobody waits for it.
pub(super) const ALONE: NoFault =
    NoFault::nothing_wrong(TUNER, "a large writer alone", ("written", "MiB/s"), || {
        let load = Load {
            bytes: 1 << 30,
            pause: Duration::ZERO,
            syncs: false,
            measures_syncs: false,
            limits: SHARES,
        };
        load.stage()
    })
    .needs(SlowDisk::missing);

/// A program that works on the same 144 MiB over and over, so that the disk has to write all the time, and a log that waits for
/// it. Writing that begins earlier, as the log's fate suggests, helps neither.
pub(super) const IN_MEMORY: NoFault = NoFault::trap(
    TUNER,
    "data that is written over and over",
    ("written into memory", "MiB/s"),
    || {
        let load = Load {
            // More than where writing begins. Pages that are written anew while the disk writes them count twice, and
            // that is still less than where writers are held: 320 MiB, the middle of both limits.
            bytes: 144 << 20,
            pause: Duration::from_millis(4),
            syncs: true,
            measures_syncs: false,
            limits: ["536870912", "134217728"],
        };
        load.stage()
    },
)
.needs(SlowDisk::missing)
// It is tempted within a minute, and a trial takes a quarter of one.
.turns(14, 36);

/// Copies that memory takes in for the most part, one each twelve seconds, beside the same log: less of them in memory
/// would be good for the log while they last, and make each take as long as the disk needs for it.
pub(super) const COPIES: NoFault = NoFault::trap(
    TUNER,
    "copies now and then",
    ("time that a copy of 800 MiB takes", "s"),
    || {
        // Writers are held from 576 MiB on, the middle of both.
        let host = limits(["1073741824", "134217728"])?;
        Ok(Box::new(Copying {
            syncer: None,
            disk: SlowDisk::new(2 << 30, RATE)?,
            _host: host,
        }))
    },
)
.needs(SlowDisk::missing)
.lower_is_better()
.turns(4, 10);

struct Copying {
    syncer: Option<Syncer>,
    disk: SlowDisk,
    _host: HostValues,
}

impl Copying {
    const BYTES: u64 = 800 << 20;
    const EACH: Duration = Duration::from_secs(12);
}

impl Stage for Copying {
    fn turn(&mut self) -> Result<f64> {
        let failed = || Error::doing("cannot write a file");
        if self.syncer.is_none() {
            self.syncer = Some(Syncer::start(self.disk.path().join("log"))?);
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false);
        let file = file.open(self.disk.path().join("copy")).map_err(failed())?;
        let block = vec![0x5a; BLOCK];
        let start = Instant::now();
        for at in (0..Copying::BYTES).step_by(BLOCK) {
            file.write_all_at(&block, at).map_err(failed())?;
        }
        let took = start.elapsed();
        std::thread::sleep(Copying::EACH.saturating_sub(took));
        Ok(took.as_secs_f64())
    }
}
