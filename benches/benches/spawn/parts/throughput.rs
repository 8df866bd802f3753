//! Processes a second.

use std::{io, time::Duration};

use lab::result::{Curve, Part, Row, median};

use super::Bench;
use crate::{
    judge,
    rivals::{Fastest, Helper, Loops, What},
    rounds::{self, Samples},
};

const OURS: &str = "uring-process";
const STD: &str = "std::process";
const STD_BEST: &str = "std::process at its fastest";
const MULTI: &str = "tokio, multi thread";
const LIMIT: &str = "2 bare vfork loops";

fn row(name: &str, samples: &Samples, rival: &str) -> Row {
    Row::compared(name, "/s", samples.of(OURS), (rival, samples.of(rival)))
}

pub(crate) fn in_flight_64(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let name = "processes/s, 64 in flight";
    let what = What::program(&bench.programs.exit());
    // Of so many the interval is narrower than what lies between the figure and the goal.
    let count = bench.pick(5, 120);
    let samples = all(bench, part, &what, count)?;
    part.row(row(name, &samples, STD_BEST).at_least(2.2));
    part.row(row(name, &samples, STD).at_least(2.2));
    part.row(row(name, &samples, MULTI).at_least(1.8));
    part.row(row(name, &samples, LIMIT).at_least(0.75));
    for rival in [
        "posix_spawn at its fastest",
        "posix_spawn",
        "tokio, current thread",
        "async-process",
        "uring-process with CLONE_VFORK",
        "bare vfork loop",
    ] {
        part.row(row(name, &samples, rival));
    }
    let mut bars = Curve::new(
        "Processes a second, 64 in flight",
        "",
        "median, processes/s",
    );
    for (name, samples) in samples.iter() {
        bars.add(name, 0.0, median(samples));
        judge::keep("throughput, 64 in flight", name, samples, 0.0);
    }
    part.curves.push(bars);

    let count = bench.pick(2, 5);
    let samples = all(bench, part, &What::program("/bin/true".as_ref()), count)?;
    for rival in [STD_BEST, MULTI, LIMIT] {
        let name = "the same, /bin/true (dynamic, with a C library)";
        part.row(row(name, &samples, rival));
    }
    Ok(())
}

/// The same in callers with 10,000 open descriptors, which a copy of the table copies.
pub(crate) fn descriptors(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let what = What::program(&bench.programs.exit());
    let alone = |kind| Helper::new(kind, &what);
    let (mut ours, mut std, mut multi) = (alone("ours")?, alone("std")?, alone("tokio-multi")?);
    let mut best = alone("std")?;
    for rival in [&mut ours, &mut std, &mut multi, &mut best] {
        if let Err(error) = rival.descriptors(10_000) {
            part.note(format!("10,000 open descriptors: left out: {error}"));
            return Ok(());
        }
    }
    let mut std_best = Fastest::new(best, 64)?;
    let mut samples = Samples::default();
    let mut rivals: rounds::Rivals<'_> = vec![&mut ours, &mut std, &mut std_best, &mut multi];
    let (count, batch) = bench.pick((3, 300), (60, 500));
    rounds::throughput(
        &mut rivals,
        count,
        Duration::from_millis(batch),
        64,
        &mut samples,
    )?;
    let name = "processes/s, 64 in flight, 10,000 open descriptors";
    part.row(row(name, &samples, STD_BEST).at_least(10.0));
    part.row(row(name, &samples, STD).at_least(10.0));
    part.row(row(name, &samples, MULTI));
    Ok(())
}

fn all(bench: &Bench, part: &mut Part, what: &What, count: usize) -> io::Result<Samples> {
    let mut samples = Samples::default();
    // Each in a process of its own: none meets another's threads and handler of SIGCHLD.
    let alone = |kind| Helper::new(kind, what);
    let (mut ours, mut vfork) = (alone("ours")?, alone("vfork")?);
    let (mut std, mut posix) = (alone("std")?, alone("posix_spawn")?);
    let mut std_best = Fastest::new(alone("std")?, 64)?;
    let mut posix_best = Fastest::new(alone("posix_spawn")?, 64)?;
    part.note(format!(
        "fastest with so many in flight, of 1, 2, 4, 16 and 64: std::process {}, posix_spawn {} ({})",
        std_best.in_flight(),
        posix_best.in_flight(),
        what.program.file_name().unwrap_or_default().display()
    ));
    let (mut current, mut multi) = (alone("tokio")?, alone("tokio-multi")?);
    let mut other = alone("async-process")?;
    let mut one = Loops::new(what, 1)?;
    let mut two = Loops::new(what, 2)?;
    let mut rivals: rounds::Rivals<'_> = vec![
        &mut ours,
        &mut std,
        &mut std_best,
        &mut posix,
        &mut posix_best,
        &mut current,
        &mut multi,
        &mut other,
        &mut vfork,
        &mut one,
        &mut two,
    ];
    let batch = Duration::from_millis(bench.pick(150, 250));
    rounds::throughput(&mut rivals, count, batch, 64, &mut samples)?;
    Ok(samples)
}

pub(crate) fn curve(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let what = What::program(&bench.programs.exit());
    let alone = |kind| Helper::new(kind, &what);
    let (mut ours, mut std) = (alone("ours")?, alone("std")?);
    let (mut current, mut multi) = (alone("tokio")?, alone("tokio-multi")?);
    let mut curve = Curve::new(
        "Processes a second, by how many are in flight",
        "in flight",
        "median, processes/s",
    );
    for in_flight in [1, 4, 16, 64, 256, 1024] {
        let mut samples = Samples::default();
        let mut rivals: rounds::Rivals<'_> = vec![&mut ours, &mut std, &mut current, &mut multi];
        let (count, batch) = bench.pick((3, 100), (5, 250));
        let batch = Duration::from_millis(batch);
        rounds::throughput(&mut rivals, count, batch, in_flight, &mut samples)?;
        for (name, samples) in samples.iter() {
            curve.add(name, in_flight as f64, median(samples));
        }
    }
    part.curves.push(curve);
    Ok(())
}
