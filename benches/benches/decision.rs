//! How long a decision takes: from a tuner's signal to the governor's verdict, with many tuners and namespaces.
//!
//! `cargo xtask bench decision` runs it. Two rows: the decision alone, with the parameters' values at hand, and the same
//! with each value read from the kernel, as the engine does. The goal is for both. What the machine can do at most is
//! the bare read of such a parameter's file, in turn with the decisions.

use std::{
    cell::RefCell,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use bpftune_core::{netns::Namespaces, stats::quantile};
use clap::Parser;
use lab::{
    Error, Result,
    cases::decision::World,
    result::{Common, Part, Recorder, Row},
};

/// The goal at p99.
const GOAL: Duration = Duration::from_micros(20);
const TUNERS: usize = 50;
const NAMESPACES: u64 = 1000;
/// Each window's p99 is a sample.
const WINDOWS: usize = 20;

/// From a signal to the governor's verdict, with 50 tuners and 1,000 namespaces
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench decision")]
struct Args {
    #[command(flatten)]
    common: Common,
}

fn measure(
    part: &mut Part,
    what: &str,
    decisions: usize,
    kernel: Option<&RefCell<Namespaces>>,
) -> Result<()> {
    let mut world = World::new(TUNERS, NAMESPACES);
    let (mut made, mut applied) = (0, 0);
    let (mut p50, mut p99, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    // The first window warms up.
    for window in 0..=WINDOWS {
        let (mut times, mut reads) = (Vec::new(), Vec::new());
        for _ in 0..decisions / WINDOWS {
            let decision = world.decide(kernel, None);
            times.push(decision.took.as_secs_f64() * 1e6);
            if kernel.is_some() {
                let begin = Instant::now();
                let read = fs::read("/proc/sys/net/ipv4/tcp_rmem");
                reads.push(begin.elapsed().as_secs_f64() * 1e6);
                read.map_err(Error::doing("cannot read net.ipv4.tcp_rmem"))?;
            }
            made += 1;
            applied += decision.applied;
        }
        if window > 0 {
            let at = |times: &[f64], share| quantile(times, share).unwrap_or(f64::NAN);
            p50.push(at(&times, 0.5));
            p99.push(at(&times, 0.99));
            bare.push(at(&reads, 0.5));
        }
    }
    // A decision that proposes nothing would be quick for no good reason.
    if applied * 2 < made {
        return Err(Error::other(
            format!("{what}: {applied} of {made} signals led to a change"),
            "the bench does not measure what it says: its world must leave room for changes",
        ));
    }
    let name = |which: &str| format!("signal to verdict, {what}: {which}");
    let limit = "a bare read of one parameter's file";
    part.row(Row::sampled(name("p99"), "µs", &p99).at_most(GOAL.as_secs_f64() * 1e6));
    part.row(if kernel.is_some() {
        Row::paired(name("p50"), "µs", &p50, (limit, &bare))
    } else {
        Row::sampled(name("p50"), "µs", &p50)
    });
    Ok(())
}

fn run(args: &Common) -> Result<ExitCode> {
    let mut out = Recorder::quiet_stdout()?;
    let decisions = if args.quick { 20_000 } else { 200_000 };
    let mut recorder = args.recorder("decision");
    if args.wants("values at hand") {
        recorder.part("decision", "values at hand", |part| {
            let what = format!("values at hand, {TUNERS} tuners, {NAMESPACES} namespaces");
            measure(part, &what, decisions, None)
        })?;
    }
    if args.wants("values from the kernel") {
        recorder.part("decision", "values from the kernel", |part| {
            let namespaces = match Namespaces::new() {
                Ok(namespaces) => RefCell::new(namespaces),
                Err(error) => {
                    part.note(format!("SKIP: no values from the kernel: {error}"));
                    return Ok(());
                }
            };
            let what = "values read from the kernel, tcp-buffer";
            measure(part, what, decisions, Some(&namespaces))
        })?;
    }
    let missed = recorder.finish(&mut out, args.json)?;
    Ok(ExitCode::from(u8::from(args.strict && missed > 0)))
}

fn main() -> ExitCode {
    run(&Args::parse().common).unwrap_or_else(|error| {
        eprintln!("bench decision: {error}");
        ExitCode::FAILURE
    })
}
