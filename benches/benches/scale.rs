//! How what the daemon does grows with namespaces, tuners, events and the length of its journal.
//!
//! `cargo xtask bench scale` runs it. Each curve has a law, and a measured exponent that is held to it. Its points take
//! turns, so that the machine's moods meet all of them. What processes cost against the caller's size is measured by
//! `cargo xtask bench spawn --only scale`.

use std::{path::Path, process::ExitCode, time::Instant};

use bpftune_core::stats::quantile;
use clap::Parser;
use lab::{
    Error, Result,
    cases::{
        decision::World,
        events::{Ring, SIZE, copy},
        journal::{self, Bare, Commits},
    },
    daemon::{self, Daemon},
    netns::Netns,
    result::{Common, Curve, Law, Part, Recorder, Row, median},
};

/// How the daemon's costs grow: each curve beside its law
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench scale")]
struct Args {
    #[command(flatten)]
    common: Common,
    /// The daemon's binary
    #[arg(long, value_name = "PATH")]
    bpftune: Option<std::path::PathBuf>,
}

type Points = Vec<(f64, Vec<f64>)>;

/// The curve and its row; the bound is a line of its own.
fn say(
    part: &mut Part,
    law: Law,
    (title, x, unit): (&str, &str, &str),
    points: &Points,
    bound: &[(f64, f64)],
) {
    let mut curve = Curve::new(title, x, &format!("median, {unit}"));
    for (x, costs) in points {
        curve.add("ours", *x, median(costs));
    }
    for (x, cost) in bound {
        curve.add("the machine's bound", *x, *cost);
    }
    part.curves.push(curve);
    part.row(law.check(title, points));
}

/// Decisions in worlds of several sizes, in turn; microseconds.
fn decisions(sizes: &[(f64, usize, u64)], quick: bool) -> Points {
    let mut worlds: Vec<(f64, World, Vec<f64>)> = sizes
        .iter()
        .map(|(x, tuners, namespaces)| (*x, World::new(*tuners, *namespaces), Vec::new()))
        .collect();
    for window in 0..=if quick { 10 } else { 300 } {
        for (_, world, costs) in &mut worlds {
            let times: Vec<f64> = (0..500)
                .map(|_| world.decide(None, None).took.as_secs_f64() * 1e6)
                .collect();
            if window > 0 {
                costs.push(median(&times));
            }
        }
    }
    worlds.into_iter().map(|(x, _, costs)| (x, costs)).collect()
}

fn by_namespaces(part: &mut Part, quick: bool) {
    let sizes = [1, 10, 100, 1000].map(|count| (count as f64, 10, count));
    let points = decisions(&sizes, quick);
    let words = ("a decision by namespaces", "namespaces", "µs");
    say(part, Law::Constant, words, &points, &[]);
}

fn by_tuners(part: &mut Part, quick: bool) {
    let sizes = [2, 5, 10, 50].map(|count| (count as f64, count, 100));
    let points = decisions(&sizes, quick);
    let words = ("a decision by tuners", "tuners", "µs");
    say(part, Law::Constant, words, &points, &[]);
}

/// Journals of several lengths on the same disk, and the bare write, in turn.
fn by_journal(part: &mut Part, quick: bool) -> Result<()> {
    let dir = journal::scratch()?;
    let place = |name: &str| -> Result<std::path::PathBuf> {
        let place = dir.path().join(name);
        std::fs::create_dir_all(&place).map_err(Error::doing("cannot make a directory"))?;
        Ok(place)
    };
    let mut journals = Vec::new();
    let lengths: &[u64] = if quick {
        &[64, 1000, 10_000]
    } else {
        &[64, 1000, 10_000, 100_000]
    };
    for length in lengths {
        let place = place(&length.to_string())?;
        let mut long = Commits::new(&place, 64)?;
        for _ in 0..length.div_ceil(64) {
            long.commit()?;
        }
        drop(long);
        journals.push((*length as f64, Commits::new(&place, 1)?, Vec::new()));
    }
    let mut bare = Bare::new(&place("bare")?)?;
    let mut writes = Vec::new();
    for round in 0..if quick { 100 } else { 400 } {
        let write = bare.write()?;
        for (_, journal, costs) in &mut journals {
            let took = journal.commit()?;
            if round >= 10 {
                costs.push(took.as_secs_f64() * 1e6);
            }
        }
        writes.push(write.as_secs_f64() * 1e6);
    }
    let points: Points = journals
        .into_iter()
        .map(|(x, _, costs)| (x, costs))
        .collect();
    let bound: Vec<(f64, f64)> = points.iter().map(|(x, _)| (*x, median(&writes))).collect();
    let words = ("a commit by the journal's length", "decisions in it", "µs");
    say(part, Law::Constant, words, &points, &bound);
    Ok(())
}

/// What arrives within 10 ms, written and read; microseconds of processor time.
fn by_events(part: &mut Part, quick: bool) -> Result<()> {
    let mut ring = Ring::new()?;
    let mut points: Points = [1e3, 1e4, 1e5, 1e6].map(|rate| (rate, Vec::new())).to_vec();
    let mut bound = Vec::new();
    for round in 0..if quick { 100 } else { 500 } {
        for (rate, costs) in &mut points {
            let count = (*rate / 100.0) as u32;
            // The buffer holds 10,000 events; each turn of the daemon empties it.
            ring.write(count)?;
            let (found, took) = ring.drain()?;
            if found != count as usize {
                return Err(Error::other(
                    format!("{found} of {count} events came"),
                    "the ring buffer is full",
                ));
            }
            if round > 0 {
                costs.push(took.as_secs_f64() * 1e6);
            }
        }
    }
    for (rate, _) in &points {
        let times: Vec<f64> = (0..50)
            .map(|_| copy((*rate / 100.0) as usize).as_secs_f64() * 1e6)
            .collect();
        bound.push((*rate, quantile(&times, 0.5).unwrap_or(f64::NAN)));
    }
    let words = ("reading 10 ms of events, by their rate", "events/s", "µs");
    say(part, Law::Linear, words, &points, &bound);
    if let Some((rate, costs)) = points.last() {
        let shares: Vec<f64> = costs.iter().map(|cost| cost / 1e4 * 100.0).collect();
        let name = format!("reading {rate:.0} events/s of {SIZE} bytes: share of a processor");
        part.row(Row::sampled(name, "%", &shares).at_most(100.0));
    }
    Ok(())
}

/// Daemons confined to so many namespaces: start and memory.
fn daemons(part: &mut Part, bpftune: &Path, quick: bool) -> Result<()> {
    let most = if quick { 100 } else { 1000 };
    let all: Vec<Netns> = (0..most).map(|_| Netns::new()).collect::<Result<_>>()?;
    let counts: Vec<usize> = [1, 10, 100, 1000]
        .into_iter()
        .filter(|count| *count <= most)
        .collect();
    let empty = |_: &usize| Vec::new();
    let (mut starts, mut memory): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (
        counts.iter().map(empty).collect(),
        counts.iter().map(empty).collect(),
    );
    for _ in 0..if quick { 5 } else { 9 } {
        for (at, count) in counts.iter().enumerate() {
            let some: Vec<&Netns> = all.iter().take(*count).collect();
            let daemon = Daemon::start(bpftune, &some, &["--mode", "observe"])?;
            starts[at].push(daemon.ready_after.as_secs_f64() * 1e3);
            memory[at].push(resident(daemon.pid()));
        }
    }
    let with = |costs: Vec<Vec<f64>>| -> Points {
        counts
            .iter()
            .map(|count| *count as f64)
            .zip(costs)
            .collect()
    };
    let words = ("start to ready by namespaces", "namespaces", "ms");
    say(part, Law::Linear, words, &with(starts), &[]);
    let words = ("resident memory by namespaces", "namespaces", "MiB");
    say(part, Law::Linear, words, &with(memory), &[]);
    Ok(())
}

fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

fn run(args: &Args) -> Result<ExitCode> {
    let common = &args.common;
    let mut out = Recorder::quiet_stdout()?;
    let mut recorder = common.recorder("scale");
    let bpftune = args.bpftune.clone().map_or_else(daemon::binary, Ok)?;
    let quick = common.quick;
    type Run<'a> = &'a dyn Fn(&mut Part) -> Result<()>;
    let parts: [(&str, Run<'_>); 5] = [
        ("decision by namespaces", &|part| {
            by_namespaces(part, quick);
            Ok(())
        }),
        ("decision by tuners", &|part| {
            by_tuners(part, quick);
            Ok(())
        }),
        ("journal", &|part| by_journal(part, quick)),
        ("events", &|part| by_events(part, quick)),
        ("daemon by namespaces", &|part| {
            daemons(part, &bpftune, quick)
        }),
    ];
    let begin = Instant::now();
    for (name, run) in parts.into_iter().filter(|(name, _)| common.wants(name)) {
        recorder.part("scale", name, run)?;
    }
    eprintln!("{:.0} s in all", begin.elapsed().as_secs_f64());
    let missed = recorder.finish(&mut out, common.json)?;
    Ok(ExitCode::from(u8::from(common.strict && missed > 0)))
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(why) = lab::unprivileged() {
        eprintln!("bench scale: {why}: it starts daemons and loads BPF programs; run it as root");
        return ExitCode::from(77);
    }
    run(&args).unwrap_or_else(|error| {
        eprintln!("bench scale: {error}");
        ExitCode::FAILURE
    })
}
