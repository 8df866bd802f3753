//! Readers beside a big writer, and loads that tempt to change a queue for nothing.

use std::time::{Duration, Instant};

use bpftune_core::stats::Direction;

use super::{
    THROUGHPUT,
    disk::{self, Blocks, Data, Disk, Writer, read_pages, slowest_hundredth},
    no_fault::NoFault,
};
use crate::{
    Result,
    network::{Scenario, Stage, Values},
};

const TUNER: &str = "blk-queue";

fn needs() -> Option<&'static str> {
    disk::missing().or_else(disk::no_writer)
}

/// One reads a page after the other while another has 64 writes of a MiB under way, as a backup or a database's checkpoint
/// does; mq-deadline with 256 requests, as Debian has it.
pub(super) struct BesideWriter;

impl Scenario for BesideWriter {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "reader beside a big writer"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ("slowest hundredth of reads", "ms")
    }
    fn better(&self) -> Direction {
        Direction::Lower
    }
    fn beside(&self) -> Option<(&'static str, &'static str)> {
        Some(("written meanwhile", "MB/s"))
    }
    fn by_hand(&self) -> Values {
        &[("nr_requests", "4")]
    }
    /// It leaves queues alone.
    fn tuned(&self) -> (&'static str, Values) {
        THROUGHPUT
    }
    fn runs(&self) -> u32 {
        12
    }
    fn turns(&self) -> usize {
        12
    }
    fn turns_on(&self) -> usize {
        60
    }
    fn mended_within(&self) -> f64 {
        60.0
    }
    fn reversals(&self) -> f64 {
        4.0
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn missing(&self) -> Option<&'static str> {
        needs()
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Busy::new(Blocks::InARow, |_| true)?))
    }
}

/// As many small reads as the disk can do: what it costs to count them.
pub(super) const MOST_READS: NoFault = NoFault::nothing_wrong(
    TUNER,
    "as many reads as the disk can do",
    ("reads of 4 KiB", "/s"),
    || Ok(Box::new(Reads(Data::new(1024)?))),
)
.runs(60)
.turns(4, 4)
.needs(disk::missing)
.bpf_share(0.02);

struct Reads(Data);

impl Stage for Reads {
    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        let readers = || -> Result<usize> {
            std::thread::scope(|scope| {
                let read = || read_pages(&self.0, Duration::from_secs(1)).map(|took| took.len());
                let readers: Vec<_> = (0..32).map(|_| scope.spawn(read)).collect();
                let each = readers
                    .into_iter()
                    .map(|reader| reader.join().unwrap_or(Ok(0)));
                each.sum()
            })
        };
        Ok(readers()? as f64 / start.elapsed().as_secs_f64())
    }
}

/// The same writer for five seconds of each ten: what were tried while it writes would be judged while it does not.
pub(super) const BY_TURNS: NoFault = NoFault::trap(
    TUNER,
    "a writer that comes and goes",
    ("written and read, over ten seconds", "MB/s"),
    || {
        let busy = Busy::new(Blocks::InARow, |turn| turn % 10 < 5)?;
        Ok(Box::new(AllDone { busy, turns: 10 }))
    },
)
.needs(needs)
.runs(15)
.turns(4, 4);

/// The same reader beside 64 writes of 4 KiB: fewer of them at a time would be good for it, and leave most of them undone.
pub(super) const SMALL_WRITES: NoFault = NoFault::trap(
    TUNER,
    "reader beside many small writes",
    ("written and read", "MB/s"),
    || {
        let busy = Busy::new(Blocks::Scattered, |_| true)?;
        Ok(Box::new(AllDone { busy, turns: 1 }))
    },
)
.needs(needs)
// Each of what may be tried takes a trial; another processor for what ends is good for both.
.turns(8, 90)
.settles(4.0);

struct Busy {
    reads: Data,
    disk: Disk,
    writer: Option<Writer>,
    blocks: Blocks,
    /// Whether it writes in this turn.
    writes: fn(usize) -> bool,
    turn: usize,
    /// MB/s in the last turn.
    written: f64,
    read: f64,
}

impl Busy {
    fn new(blocks: Blocks, writes: fn(usize) -> bool) -> Result<Busy> {
        let mut disk = Disk::new()?;
        disk.set("scheduler", "mq-deadline")?;
        disk.set("nr_requests", "256")?;
        Ok(Busy {
            reads: Data::new(1024)?,
            disk,
            writer: None,
            blocks,
            writes,
            turn: 0,
            written: 0.0,
            read: 0.0,
        })
    }
}

impl Stage for Busy {
    fn set(&mut self, name: &str, value: &str) -> Result<bool> {
        self.disk.set(name, value).map(|()| true)
    }
    fn turn(&mut self) -> Result<f64> {
        if (self.writes)(self.turn) != self.writer.is_some() {
            self.writer = match self.writer.take() {
                Some(_) => None,
                None => Some(Writer::start(Data::new(1024)?, self.blocks)?),
            };
        }
        self.turn += 1;
        let bytes = |writers: &Option<Writer>| writers.as_ref().map_or(0, Writer::bytes);
        let (start, before) = (Instant::now(), bytes(&self.writer));
        let took = read_pages(&self.reads, Duration::from_secs(1))?;
        let seconds = start.elapsed().as_secs_f64();
        self.written = (bytes(&self.writer) - before) as f64 / 1e6 / seconds;
        self.read = took.len() as f64 * 4096.0 / 1e6 / seconds;
        Ok(slowest_hundredth(took))
    }
    fn beside(&self) -> Option<f64> {
        Some(self.written)
    }
}

/// What was done in all, in so many turns of that.
struct AllDone {
    busy: Busy,
    turns: u32,
}

impl Stage for AllDone {
    fn turn(&mut self) -> Result<f64> {
        let mut sum = 0.0;
        for _ in 0..self.turns {
            self.busy.turn()?;
            sum += self.busy.written + self.busy.read;
        }
        Ok(sum / f64::from(self.turns))
    }
}
