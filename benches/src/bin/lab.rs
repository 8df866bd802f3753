//! The scenarios that the documentation's figures come from.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use lab::{
    Error, Result, daemon,
    link::{Link, Shape},
    network::{
        RUNS, forget_tracked, interrupted, put_back_on_signals, track_connections,
        unless_interrupted,
    },
    processor::on_processor,
    result::{self, LAB, Recorder, Row},
    scenario::{Direction, LARGE, compare, daemon_first, next_connection, set_buffers},
    traffic::{Transfer, connections_per_second},
    veth::Pair,
};

/// What a turn takes at most, and taking down what a scenario set up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a tuner's scenarios on real traffic in namespaces of their own and reports figure and goal.
#[derive(Parser)]
struct Args {
    /// Whose scenarios
    #[arg(default_value = "tcp-buffer", value_parser = ["tcp-buffer", "network", "system"])]
    name: String,
    /// Print JSON only
    #[arg(long)]
    json: bool,
    /// Only this part, again for more than one; all without it
    #[arg(long, value_name = "PART")]
    part: Vec<Part>,
    /// Runs of each scenario in each setting [default: 5, or as many as the scenario's own noise needs for a verdict]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Of `network` and `system`: only scenarios whose "tuner name" contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The daemon's binary
    #[arg(long, value_name = "PATH")]
    bpftune: Option<PathBuf>,
}

impl Args {
    /// Some daemons are started from another directory.
    fn daemon(&self) -> Result<PathBuf> {
        match &self.bpftune {
            Some(path) => path
                .canonicalize()
                .map_err(Error::doing(format!("cannot find {}", path.display()))),
            None => daemon::binary(),
        }
    }
}

/// What can be run by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// 1 Gbit/s, 20 ms: the daemon starts beside a running connection
    Running,
    /// 1 Gbit/s, 20 ms: the daemon runs already when a connection begins
    First,
    /// No bound on the rate: the connection after the tuned one
    Next,
    /// Buffers already right: nothing changes, nothing is slower
    Right,
    /// Connections a second with every tuner of the build on and off, turn about
    Connections,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(why) = lab::unprivileged() {
        eprintln!("lab: {why}: it makes network namespaces and TUN devices; run it as root");
        return ExitCode::from(77);
    }
    let run = put_back_on_signals(PATIENCE).and_then(|()| run(&args));
    run.unwrap_or_else(|error| {
        eprintln!("lab: {error}");
        interrupted().map_or(ExitCode::FAILURE, ExitCode::from)
    })
}

fn run(args: &Args) -> Result<ExitCode> {
    let mut out = Recorder::quiet_stdout()?;
    let scenarios = match args.name.as_str() {
        "network" => lab::network::all(),
        "system" => lab::system::all(),
        _ => Vec::new(),
    };
    let mut command = match args.name.as_str() {
        "tcp-buffer" => "cargo xtask lab".to_owned(),
        name => format!("cargo xtask lab {name}"),
    };
    if let Some(runs) = args.runs {
        // Writing to a String cannot fail.
        let _ = write!(command, " --runs {runs}");
    }
    let quick = args.runs.is_some_and(|runs| runs < RUNS);
    let mut recorder = Recorder::new(LAB, command, quick);
    if !scenarios.is_empty() {
        let bpftune = args.daemon()?;
        let only = args.only.as_deref();
        lab::network::run_all(&bpftune, &mut recorder, &scenarios, only, args.runs)?;
        let missed = recorder.finish(&mut out, args.json)?;
        return Ok(ExitCode::from(u8::from(missed > 0)));
    }
    tcp_buffer(args, &mut recorder)?;
    recorder.finish(&mut out, args.json)?;
    Ok(ExitCode::SUCCESS)
}

/// So many runs of something.
fn several<R>(runs: u32, mut run: impl FnMut() -> Result<R>) -> Result<Vec<R>> {
    (0..runs)
        .map(|_| unless_interrupted().and_then(|()| run()))
        .collect()
}

/// Seconds that stand for "never": longer than any run.
const NEVER: f64 = 60.0;

fn tcp_buffer(args: &Args, recorder: &mut Recorder) -> Result<()> {
    let bpftune = args.daemon()?;
    let runs = args.runs.unwrap_or(RUNS);
    let wanted = |part| args.part.is_empty() || args.part.contains(&part);
    let rtt = Duration::from_millis(10);
    let shape = || Shape::new(rtt).rate(1_000_000_000);
    let directions = [(Direction::AToB, "a to b"), (Direction::BToA, "b to a")];
    for (direction, name) in directions.into_iter().filter(|_| wanted(Part::Running)) {
        let name = format!("1 Gbit/s, 20 ms, {name}, running connection");
        recorder.part("tcp-buffer", &name, |part| {
            let runs = several(runs, || compare(&bpftune, shape(), direction, &mut |_| {}))?;
            at_one_gigabit(part, &name, &runs, |r| {
                (r.share_of_hand_sized, r.seconds_to_90_percent, r.reversals)
            });
            Ok::<_, Error>(())
        })?;
    }
    for (direction, name) in directions.into_iter().filter(|_| wanted(Part::First)) {
        let name = format!("1 Gbit/s, 20 ms, {name}, daemon first");
        recorder.part("tcp-buffer", &name, |part| {
            let runs = several(runs, || daemon_first(&bpftune, shape(), direction))?;
            at_one_gigabit(part, &name, &runs, |r| {
                (r.share_of_hand_sized, r.seconds_to_90_percent, r.reversals)
            });
            Ok::<_, Error>(())
        })?;
    }
    if wanted(Part::Next) {
        recorder.part("tcp-buffer", "no bound, next connection", |part| {
            let next = || next_connection(&bpftune, Shape::new(rtt), Direction::AToB);
            let runs = several(runs, next)?;
            let shares: Vec<f64> = runs.iter().map(|run| run.share_of_hand_sized).collect();
            let name = "no bound on the rate, 20 ms: next connection's share of hand-sized";
            part.row(Row::sampled(name, "", &shares).at_least(0.85).detail(&runs));
            Ok::<_, Error>(())
        })?;
    }
    if wanted(Part::Right) {
        recorder.part("tcp-buffer", "buffers already right", |part| {
            already_right(part, &bpftune)
        })?;
    }
    if wanted(Part::Connections) {
        for (name, tracked) in [("connections", false), ("tracked connections", true)] {
            recorder.part("every tuner", name, |part| {
                connections(part, &bpftune, tracked)
            })?;
        }
    }
    Ok(())
}

/// Pairs of turns, each with and without a daemon. What makes two turns differ is the machine, and long turns do not average it
/// out: many short ones tell more.
const PAIRS: usize = 400;
/// Of connections, within a turn.
const TURN: Duration = Duration::from_millis(250);
/// Before each turn, so that it does not meet the end of what was before: a daemon's start or end.
const SETTLED: Duration = Duration::from_millis(200);

/// Connections before each turn: a daemon on a busy host is not what it was when it started.
const WARM: Duration = Duration::from_millis(100);

/// Short connections one after the other, bound by the processor: with a daemon that is not confined, every tuner on, and
/// without one, turn about. Through the kernel alone and on one processor, for that is what a connection costs: the threads of
/// the emulated link, and where the scheduler puts each, would be noise several times as large.
fn connections(part: &mut result::Part, bpftune: &Path, tracked: bool) -> Result<()> {
    let pair = Pair::new()?;
    if tracked {
        for netns in [&pair.near, &pair.far] {
            track_connections(netns)?;
        }
    } else if !forget_tracked() {
        let why =
            "its namespaces track connections, or the kernel does not say (CONFIG_SLUB_DEBUG)";
        return Err(Error::other("this host is to track nothing", why));
    }
    let turn = |how_long| {
        on_processor(0, || {
            connections_per_second(&pair.near, &pair.far, Pair::FAR.into(), how_long)
        })
    };
    let measure = || {
        std::thread::sleep(SETTLED);
        turn(WARM)?;
        std::thread::sleep(SETTLED);
        turn(TURN)
    };
    let on = || -> Result<(f64, Vec<String>, u64)> {
        let daemon = daemon::Daemon::start(bpftune, &[], &[])?;
        let rate = measure()?;
        let status = daemon.status()?;
        let tuners = status["tuners"].as_array().into_iter().flatten();
        let names = tuners.filter_map(|tuner| Some(tuner["name"].as_str()?.to_owned()));
        Ok((rate, names.collect(), daemon.changes()?.0))
    };
    measure()?;
    let (mut with, mut without, mut tuners, mut changes) = (vec![], vec![], vec![], 0);
    for turn in 0..PAIRS {
        unless_interrupted()?;
        // What drifts hits both alike.
        if turn % 2 == 1 {
            without.push(measure()?);
        }
        let (rate, names, changed) = on()?;
        with.push(rate);
        if turn % 2 == 0 {
            without.push(measure()?);
        }
        tuners = names;
        changes += changed;
    }
    let detail =
        serde_json::json!({ "on": with, "off": without, "tuners": tuners, "changes": changes });
    let what = if tracked { ", each tracked" } else { "" };
    let name = format!("connections{what}, {} tuners on", tuners.len());
    let row = Row::paired(name, "/s", &with, ("no daemon", &without));
    part.row(row.at_least(0.97).detail(detail));
    Ok(())
}

/// Share of hand-sized, seconds to 90 % and reversals of each run. The time is the slowest run's as well, so that one
/// slow run cannot hide.
fn at_one_gigabit<R: serde::Serialize>(
    part: &mut result::Part,
    name: &str,
    runs: &[R],
    figures: impl Fn(&R) -> (f64, Option<f64>, u64),
) {
    let figures: Vec<_> = runs.iter().map(figures).collect();
    let shares: Vec<f64> = figures.iter().map(|figure| figure.0).collect();
    let times: Vec<f64> = figures
        .iter()
        .map(|figure| figure.1.unwrap_or(NEVER))
        .collect();
    let reversals = figures
        .iter()
        .map(|figure| figure.2 as f64)
        .fold(0.0, f64::max);
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let count = runs.len();
    let row = Row::sampled(format!("{name}: share of hand-sized"), "", &shares).detail(runs);
    part.row(row.at_least(0.9));
    part.row(Row::sampled(format!("{name}: time to 90 % of it"), "s", &times).at_most(2.0));
    let row = Row::figure(format!("{name}: the same, slowest"), "s", slowest, count);
    part.row(row.at_most(2.0));
    let row = Row::figure(
        format!("{name}: reversals, most of a run"),
        "",
        reversals,
        count,
    );
    part.row(row.at_most(0.0));
}

/// Buffers already right, the tuner off and on in turn.
fn already_right(part: &mut result::Part, bpftune: &Path) -> Result<()> {
    let link = Link::new(Shape::new(Duration::from_millis(10)).rate(1_000_000_000))?;
    set_buffers(&link, LARGE)?;
    let measure = || -> Result<f64> {
        let transfer = Transfer::start(&link.a, &link.b, link.addr_b().into())?;
        std::thread::sleep(Duration::from_secs(1));
        let rate = transfer.measure(Duration::from_secs(3));
        transfer.stop()?;
        Ok(rate)
    };
    let (mut on, mut off, mut changes) = (vec![], vec![], 0);
    measure()?;
    for _ in 0..7 {
        unless_interrupted()?;
        off.push(measure()?);
        let daemon = daemon::Daemon::start(bpftune, &[&link.a, &link.b], &[])?;
        on.push(measure()?);
        changes += daemon.changes()?.0;
    }
    let name = "buffers already right";
    part.row(Row::figure(format!("{name}: changes in all"), "", changes as f64, 7).at_most(0.0));
    let row = Row::paired(
        format!("{name}: throughput"),
        "Mbit/s",
        &on,
        ("tuner off", &off),
    );
    let detail = serde_json::json!({ "on": on, "off": off });
    part.row(row.at_least(0.97).detail(detail));
    Ok(())
}
