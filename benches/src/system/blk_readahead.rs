//! Readahead that is longer than anybody uses, and shorter than streams need.

use std::{
    fs::File,
    io::Read,
    time::{Duration, Instant},
};

use super::{
    THROUGHPUT,
    disk::{self, Data, Disk, Mapped},
    no_fault::NoFault,
};
use crate::{
    Error, Result,
    network::{Scenario, Stage, Values},
};

const TUNER: &str = "blk-readahead";

/// Pages of mapped files, here and there, as databases and starting programs read them; 8 MiB are read around each.
pub(super) struct Mapping;

impl Scenario for Mapping {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "random pages of mapped files"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ("files of which 32 pages were read", "/s")
    }
    fn by_hand(&self) -> Values {
        &[("read_ahead_kb", "32")]
    }
    /// "readahead=>4096": what is longer stays.
    fn tuned(&self) -> (&'static str, Values) {
        THROUGHPUT
    }
    fn runs(&self) -> u32 {
        10
    }
    fn turns(&self) -> usize {
        6
    }
    fn turns_on(&self) -> usize {
        44
    }
    /// Three steps, each with a trial, after the trouble has lasted.
    fn mended_within(&self) -> f64 {
        40.0
    }
    /// A step too far.
    fn reversals(&self) -> f64 {
        1.0
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn missing(&self) -> Option<&'static str> {
        disk::missing()
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Reading::new("8192", random_pages)?))
    }
}

/// Files read from their beginning on in pieces of 32 KiB; as much is read ahead.
pub(super) struct Streams;

impl Scenario for Streams {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "files read in a stream"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ("read", "MB/s")
    }
    fn by_hand(&self) -> Values {
        &[("read_ahead_kb", "1024")]
    }
    fn tuned(&self) -> (&'static str, Values) {
        ("throughput-performance", &[("read_ahead_kb", "4096")])
    }
    fn turns(&self) -> usize {
        6
    }
    fn turns_on(&self) -> usize {
        36
    }
    fn mended_within(&self) -> f64 {
        40.0
    }
    /// A step too far.
    fn reversals(&self) -> f64 {
        1.0
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn missing(&self) -> Option<&'static str> {
        disk::missing()
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Reading::new("32", stream)?))
    }
}

/// Streams and random pages beside each other, 128 KiB read ahead, as the kernel has it: more would be good for the streams,
/// who ask for most, and bad for whoever reads pages here and there.
pub(super) const BESIDE: NoFault =
    NoFault::trap(TUNER, "streams beside random pages", MEAN, || {
        Two::stage(|[streams, pages]| {
            let second = Duration::from_secs(1);
            std::thread::scope(|scope| {
                let streams = scope.spawn(|| stream(streams, second));
                let pages = random_pages(pages, second);
                Ok((streams.join().expect("it does not panic")?, pages?))
            })
        })
    })
    .needs(disk::missing)
    .runs(30)
    .turns(8, 40)
    // A step too far.
    .settles(1.0);

/// The same ten seconds of the one and ten of the other: whatever is tried for one of them is judged beside the other.
pub(super) const BY_TURNS: NoFault =
    NoFault::trap(TUNER, "streams and random pages by turns", MEAN, || {
        Two::stage(|[streams, pages]| {
            let long = Duration::from_secs(10);
            Ok((stream(streams, long)?, random_pages(pages, long)?))
        })
    })
    .needs(disk::missing)
    .runs(12)
    .turns(2, 5)
    // Each of the two wishes may be tried once, and found to be wrong.
    .settles(2.0);

/// Neither of the two can make up for the other one's loss by as much more.
const MEAN: (&str, &str) = ("streams (MB/s) and pages (files/s), geometric mean", "");

/// Two files of one disk, and how both are read.
struct Two {
    data: [Data; 2],
    _disk: Disk,
    read: fn(&[Data; 2]) -> Result<(f64, f64)>,
}

impl Two {
    fn stage(read: fn(&[Data; 2]) -> Result<(f64, f64)>) -> Result<Box<dyn Stage>> {
        let mut disk = Disk::new()?;
        disk.set("read_ahead_kb", "128")?;
        Ok(Box::new(Two {
            data: [Data::new(1024)?, Data::new(1024)?],
            _disk: disk,
            read,
        }))
    }
}

impl Stage for Two {
    fn turn(&mut self) -> Result<f64> {
        let (streams, pages) = (self.read)(&self.data)?;
        Ok((streams * pages).sqrt())
    }
}

/// A file, how it is read, and the disk that it is on.
struct Reading {
    data: Data,
    disk: Disk,
    read: fn(&Data, Duration) -> Result<f64>,
}

impl Reading {
    fn new(read_ahead_kb: &str, read: fn(&Data, Duration) -> Result<f64>) -> Result<Reading> {
        let mut disk = Disk::new()?;
        disk.set("read_ahead_kb", read_ahead_kb)?;
        let data = Data::new(1024)?;
        Ok(Reading { data, disk, read })
    }
}

impl Stage for Reading {
    fn set(&mut self, name: &str, value: &str) -> Result<bool> {
        self.disk.set(name, value).map(|()| true)
    }
    fn turn(&mut self) -> Result<f64> {
        (self.read)(&self.data, Duration::from_secs(1))
    }
}

/// Opens it again and again, out of memory each time, for so long.
fn rounds(data: &Data, how_long: Duration, mut round: impl FnMut() -> Result<f64>) -> Result<f64> {
    let (start, mut sum) = (Instant::now(), 0.0);
    while start.elapsed() < how_long {
        data.forget();
        sum += round()?;
    }
    Ok(sum / start.elapsed().as_secs_f64())
}

fn random_pages(data: &Data, how_long: Duration) -> Result<f64> {
    rounds(data, how_long, || {
        let mapped = Mapped::new(data)?;
        let pages = (data.bytes / 4096) as usize;
        for _ in 0..32 {
            mapped.touch(fastrand::usize(..pages));
        }
        Ok(1.0)
    })
}

fn stream(data: &Data, how_long: Duration) -> Result<f64> {
    let failed = || Error::doing("cannot read a file");
    rounds(data, how_long, || {
        let mut file = File::open(data.path()).map_err(failed())?;
        let mut piece = [0; 32 << 10];
        let mut bytes = 0;
        // A quarter, so that no round takes long.
        while bytes < data.bytes as usize / 4 {
            match file.read(&mut piece).map_err(failed())? {
                0 => break,
                read => bytes += read,
            }
        }
        Ok(bytes as f64 / 1e6)
    })
}
