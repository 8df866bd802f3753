//! What is measured, a file a question.

mod allocations;
mod blocked;
mod busy_file;
mod calls;
mod capture;
mod soak;
mod stall;
mod throughput;

use std::{io, time::Instant};

pub(crate) use calls::once as calls_once;

use crate::{
    elf::Programs,
    load::Load,
    report::{Busy, Report},
};

/// What all parts have.
pub(crate) struct Bench {
    pub(crate) programs: Programs,
    pub(crate) quick: bool,
    pub(crate) report: Report,
}

impl Bench {
    /// One number for a quick run, another for a full one.
    pub(crate) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

type Part = (&'static str, fn(&mut Bench) -> io::Result<()>);

const PARTS: [Part; 9] = [
    ("blocked", blocked::memory),
    ("descriptors", blocked::descriptors),
    ("throughput", throughput::in_flight_64),
    ("in flight", throughput::curve),
    ("capture", capture::run),
    ("allocations and calls", calls_and_allocations),
    ("busy file", busy_file::run),
    ("stall", stall::run),
    ("soak", soak::run),
];

fn calls_and_allocations(bench: &mut Bench) -> io::Result<()> {
    allocations::run(bench)?;
    calls::run(bench)
}

/// Those whose name contains `filter`.
pub(crate) fn run(bench: &mut Bench, filter: &str) -> io::Result<()> {
    for (name, part) in PARTS {
        if !name.contains(filter) {
            continue;
        }
        eprintln!("{name} ...");
        let (load, begin) = (Load::start(), Instant::now());
        part(bench)?;
        let processors = load.of_others();
        eprintln!(
            "  {:.1} s; others kept {processors:.2} processors busy",
            begin.elapsed().as_secs_f64()
        );
        bench.report.others.push(Busy {
            part: name.into(),
            processors,
        });
    }
    Ok(())
}
