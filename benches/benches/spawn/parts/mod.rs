//! What is measured, a file a question.

mod allocations;
mod blocked;
mod busy_file;
mod calls;
mod capture;
mod scale;
mod sizes;
mod soak;
mod stall;
mod throughput;

use std::io;

pub(crate) use calls::once as calls_once;
use lab::{
    elf::Programs,
    result::{Common, Part, Recorder},
};

/// What all parts have.
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    pub(crate) quick: bool,
}

impl Bench {
    /// One number for a quick run, another for a full one.
    pub(crate) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

type Run = fn(&Bench, &mut Part) -> io::Result<()>;

const PARTS: [(&str, Run); 15] = [
    ("blocked", blocked::memory),
    ("sizes in turn", sizes::run),
    ("descriptors", blocked::descriptors),
    ("throughput", throughput::in_flight_64),
    ("throughput, 10,000 descriptors", throughput::descriptors),
    ("in flight", throughput::curve),
    ("capture", capture::run),
    ("allocations and calls", calls_and_allocations),
    ("busy file", busy_file::run),
    ("stall", stall::run),
    ("soak", soak::run),
    ("scale: memory", scale::memory),
    ("scale: descriptors", scale::descriptors),
    ("scale: in flight", scale::in_flight),
    ("scale: threads", scale::threads),
];

fn calls_and_allocations(bench: &Bench, part: &mut Part) -> io::Result<()> {
    allocations::run(bench, part)?;
    calls::run(bench, part)
}

/// Those that are asked for.
pub(crate) fn run(bench: &Bench, args: &Common, recorder: &mut Recorder) -> io::Result<()> {
    for (name, run) in PARTS.into_iter().filter(|(name, _)| args.wants(name)) {
        recorder.part("spawn", name, |part| run(bench, part))?;
    }
    Ok(())
}
