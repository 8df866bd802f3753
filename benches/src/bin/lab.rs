//! The scenarios that the documentation's figures come from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bpftune_core::stats;
use clap::{Parser, ValueEnum};
use lab::{
    Result,
    bpf_floor::EmptyProgram,
    daemon,
    link::{Link, Shape},
    netns::Netns,
    result::{LAB, Recorder},
    scenario::{Direction, LARGE, compare, daemon_first, next_connection, set_buffers},
    traffic::{Transfer, connections_per_second},
};
use serde_json::{Value as Json, json};

/// Runs a tuner's scenarios on real traffic in namespaces of their own and reports figure and goal.
#[derive(Parser)]
struct Args {
    /// Whose scenarios
    #[arg(default_value = "tcp-buffer", value_parser = ["tcp-buffer", "network"])]
    name: String,
    /// Print JSON only
    #[arg(long)]
    json: bool,
    /// Only this part, again for more than one; all without it
    #[arg(long, value_name = "PART")]
    part: Vec<Part>,
    /// Runs of each scenario at 1 Gbit/s
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Of `network`: only scenarios whose "tuner name" contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The daemon's binary
    #[arg(long, value_name = "PATH")]
    bpftune: Option<PathBuf>,
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
    /// What the daemon costs
    Cost,
}

/// A figure beside its goal.
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    goal: String,
    met: bool,
    detail: Json,
}

fn at_least(
    name: impl Into<String>,
    value: f64,
    goal: f64,
    unit: &'static str,
    detail: Json,
) -> Row {
    Row {
        name: name.into(),
        value,
        unit,
        goal: format!("at least {goal}"),
        met: value >= goal,
        detail,
    }
}

fn at_most(
    name: impl Into<String>,
    value: f64,
    goal: f64,
    unit: &'static str,
    detail: Json,
) -> Row {
    Row {
        name: name.into(),
        value,
        unit,
        goal: format!("at most {goal}"),
        met: value <= goal,
        detail,
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(why) = lab::unprivileged() {
        eprintln!("lab: {why}: it makes network namespaces and TUN devices; run it as root");
        return ExitCode::from(77);
    }
    if args.name == "network" {
        return match network(&args) {
            Ok(0) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::from(1),
            Err(error) => {
                eprintln!("lab: {error}");
                ExitCode::FAILURE
            }
        };
    }
    match tcp_buffer(&args) {
        Ok(rows) => {
            report(&rows, &args);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How many goals were not met.
fn network(args: &Args) -> Result<usize> {
    let bpftune = args.bpftune.clone().map_or_else(daemon::binary, Ok)?;
    let quick = args.runs < 5;
    let mut recorder = Recorder::new(LAB, "cargo xtask lab network", quick);
    lab::network::run_all(&bpftune, &mut recorder, args.only.as_deref(), args.runs)?;
    recorder.finish(&mut std::io::stdout(), args.json)
}

fn report(rows: &[Row], args: &Args) {
    if args.json {
        let rows: Vec<Json> = rows
            .iter()
            .map(|r| json!({ "name": r.name, "value": r.value, "unit": r.unit, "goal": r.goal, "met": r.met, "detail": r.detail }))
            .collect();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let report = json!({ "lab": args.name, "kernel": kernel.trim(), "cpus": std::thread::available_parallelism().map_or(0, usize::from), "results": rows });
        println!("{report:#}");
        return;
    }
    println!("| what | figure | goal | met |\n|---|---|---|---|");
    for Row {
        name,
        value,
        unit,
        goal,
        met,
        ..
    } in rows
    {
        println!(
            "| {name} | {value:.3} {unit} | {goal} | {} |",
            if *met { "yes" } else { "NO" }
        );
    }
}

fn median(values: &[f64]) -> f64 {
    stats::median(values).unwrap_or(f64::NAN)
}

fn tcp_buffer(args: &Args) -> Result<Vec<Row>> {
    let bpftune = args.bpftune.clone().map_or_else(daemon::binary, Ok)?;
    let say = |text: &str| eprintln!("lab: {text} ...");
    let wanted = |part| args.part.is_empty() || args.part.contains(&part);
    let mut rows = Vec::new();
    let rtt = Duration::from_millis(10);
    let shape = || Shape::new(rtt).rate(1_000_000_000);
    let directions = [(Direction::AToB, "a to b"), (Direction::BToA, "b to a")];
    for (direction, name) in directions.into_iter().filter(|_| wanted(Part::Running)) {
        say(&format!(
            "1 Gbit/s, 20 ms, {name}, beside a running connection"
        ));
        let runs = (0..args.runs)
            .map(|_| compare(&bpftune, shape(), direction, &mut |_| {}))
            .collect::<Result<Vec<_>>>()?;
        rows.extend(at_one_gigabit(
            &format!("1 Gbit/s, {name}, running connection"),
            &runs
                .iter()
                .map(|r| (r.share_of_hand_sized, r.seconds_to_90_percent, r.reversals))
                .collect::<Vec<_>>(),
            json!(runs),
        ));
    }
    for (direction, name) in directions.into_iter().filter(|_| wanted(Part::First)) {
        say(&format!("1 Gbit/s, 20 ms, {name}, the daemon first"));
        let runs = (0..args.runs)
            .map(|_| daemon_first(&bpftune, shape(), direction))
            .collect::<Result<Vec<_>>>()?;
        rows.extend(at_one_gigabit(
            &format!("1 Gbit/s, {name}, daemon first"),
            &runs
                .iter()
                .map(|r| (r.share_of_hand_sized, r.seconds_to_90_percent, r.reversals))
                .collect::<Vec<_>>(),
            json!(runs),
        ));
    }
    if wanted(Part::Next) {
        say("no bound on the rate, 20 ms, next connection");
        let runs = (0..3)
            .map(|_| next_connection(&bpftune, Shape::new(rtt), Direction::AToB))
            .collect::<Result<Vec<_>>>()?;
        rows.push(at_least(
            "no bound: next connection's share of hand-sized",
            median(
                &runs
                    .iter()
                    .map(|r| r.share_of_hand_sized)
                    .collect::<Vec<_>>(),
            ),
            0.85,
            "",
            json!(runs),
        ));
    }
    if wanted(Part::Right) {
        say("buffers already right");
        rows.extend(already_right(&bpftune)?);
    }
    if wanted(Part::Cost) {
        say("cost of the daemon, 30 s idle");
        rows.extend(cost(&bpftune)?);
    }
    Ok(rows)
}

/// Share of hand-sized, seconds to 90 % and reversals of each run. The time is the slowest run's, so that one
/// slow run cannot hide.
fn at_one_gigabit(name: &str, runs: &[(f64, Option<f64>, u64)], detail: Json) -> Vec<Row> {
    let times: Vec<f64> = runs.iter().map(|r| r.1.unwrap_or(f64::INFINITY)).collect();
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let count = runs.len();
    vec![
        at_least(
            format!("{name}: share of hand-sized (median of {count})"),
            median(&runs.iter().map(|r| r.0).collect::<Vec<_>>()),
            0.9,
            "",
            detail,
        ),
        at_most(
            format!("{name}: time to 90 % of hand-sized (median of {count})"),
            median(&times),
            2.0,
            "s",
            json!(times),
        ),
        at_most(
            format!("{name}: the same, slowest of {count}"),
            slowest,
            2.0,
            "s",
            json!(null),
        ),
        at_most(
            format!("{name}: reversals (most of {count})"),
            runs.iter().map(|r| r.2 as f64).fold(0.0, f64::max),
            0.0,
            "",
            json!(null),
        ),
    ]
}

/// Buffers already right, the tuner off and on in turn.
fn already_right(bpftune: &Path) -> Result<Vec<Row>> {
    let link = Link::new(Shape::new(Duration::from_millis(10)).rate(1_000_000_000))?;
    // No delay: connection set-up is bound by the processor, where a cost would show.
    let near = Link::new(Shape::new(Duration::ZERO))?;
    set_buffers(&link, LARGE)?;
    set_buffers(&near, LARGE)?;
    let measure = || -> Result<(f64, f64)> {
        let transfer = Transfer::start(&link.a, &link.b, link.addr_b().into())?;
        std::thread::sleep(Duration::from_secs(1));
        let rate = transfer.measure(Duration::from_secs(3));
        transfer.stop()?;
        Ok((
            rate,
            connections_per_second(
                &near.a,
                &near.b,
                near.addr_b().into(),
                Duration::from_secs(3),
            )?,
        ))
    };
    let (mut throughput, mut connections, mut changes) = (Vec::new(), Vec::new(), 0);
    measure()?;
    for _ in 0..7 {
        let off = measure()?;
        let daemon = daemon::Daemon::start(bpftune, &[&link.a, &link.b, &near.a, &near.b], &[])?;
        let on = measure()?;
        changes += daemon.changes()?.0;
        drop(daemon);
        throughput.push(on.0 / off.0);
        connections.push(on.1 / off.1);
    }
    let detail = |ratios: &[f64]| json!({ "on_over_off": ratios });
    Ok(vec![
        at_most(
            "buffers right: changes in 7 runs",
            changes as f64,
            0.0,
            "",
            json!(null),
        ),
        at_least(
            "buffers right: throughput on / off (median of 7 pairs)",
            median(&throughput),
            0.97,
            "",
            detail(&throughput),
        ),
        at_least(
            "buffers right: connections/s on / off (median of 7 pairs)",
            median(&connections),
            0.97,
            "",
            detail(&connections),
        ),
    ])
}

/// Restores a host setting when dropped.
struct BpfStats(String);

impl BpfStats {
    const PATH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn on() -> Option<BpfStats> {
        let before = fs::read_to_string(Self::PATH).ok()?;
        fs::write(Self::PATH, "1").ok()?;
        Some(BpfStats(before))
    }
}

impl Drop for BpfStats {
    fn drop(&mut self) {
        let _ = fs::write(Self::PATH, &self.0);
    }
}

fn number(path: &str, key: &str) -> Option<u64> {
    fs::read_to_string(path)
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix(key))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

/// Runs of a BPF program and the nanoseconds they took.
#[derive(Clone, Copy)]
struct Runs {
    count: u64,
    nanoseconds: u64,
}

impl Runs {
    /// Of the program that a descriptor's page in /proc is about; `None` where it is about something else.
    fn of(fdinfo: &str) -> Option<(u64, Runs)> {
        let count = number(fdinfo, "run_cnt:")?;
        let nanoseconds = number(fdinfo, "run_time_ns:")?;
        Some((number(fdinfo, "prog_id:")?, Runs { count, nanoseconds }))
    }

    /// Nanoseconds a run since `before`; `None` where it hardly ran: that would be measured cold.
    fn each_since(self, before: Runs) -> Option<f64> {
        let count = self.count - before.count;
        (count > 1000).then(|| (self.nanoseconds - before.nanoseconds) as f64 / count as f64)
    }
}

/// The BPF programs of a process in the order of their loading.
fn programs(pid: u32) -> Vec<Runs> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo"));
    let mut programs: Vec<_> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Runs::of(&entry.path().display().to_string()))
        .collect();
    programs.sort_unstable_by_key(|(id, _)| *id);
    programs.dedup_by_key(|(id, _)| *id);
    programs.into_iter().map(|(_, runs)| runs).collect()
}

/// A tracepoint of the tuner with the BPF program on it.
const EVENTS: [(&std::ffi::CStr, &str); 2] = [
    (c"tcp_rcv_space_adjust", "receive_space"),
    (c"tcp_probe", "send_space"),
];

/// Costs of one program over a window, and of an empty program on the same tracepoint in the same window.
type Pair = (f64, f64);

/// One window of a daemon of our own beside empty programs, attached after it or before it, at each of [`EVENTS`].
/// Programs of a tracepoint run in the order of their attaching, and the first finds the processor's caches cold.
fn window(
    bpftune: &Path,
    link: &Link,
    transfer: &Transfer,
    daemon_first: bool,
) -> Result<(Vec<Option<Pair>>, f64)> {
    let start = || daemon::Daemon::start(bpftune, &[&link.a, &link.b], &[]);
    let attach = || -> Result<Vec<EmptyProgram>> {
        EVENTS
            .iter()
            .map(|(tracepoint, _)| EmptyProgram::attach(tracepoint))
            .collect()
    };
    let (daemon, empty) = if daemon_first {
        let daemon = start()?;
        (daemon, attach()?)
    } else {
        let empty = attach()?;
        (start()?, empty)
    };
    // Tuners load before the admin watch, and libbpf loads an object's programs in their order.
    let status = daemon.status()?;
    let names: Vec<_> = status["hooks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|hook| hook["owner"] != "admin-watch")
        .filter_map(|hook| hook["name"].as_str())
        .collect();
    let runs = || -> Vec<Option<(Runs, Runs)>> {
        let programs = programs(daemon.pid());
        EVENTS
            .iter()
            .zip(&empty)
            .map(|((_, name), empty)| {
                let at = names.iter().position(|hook| hook == name)?;
                let floor = Runs::of(&format!("/proc/self/fdinfo/{}", empty.descriptor()))?.1;
                Some((*programs.get(at)?, floor))
            })
            .collect()
    };
    std::thread::sleep(Duration::from_millis(200));
    let before = runs();
    let rate = transfer.measure(Duration::from_secs(2));
    let pairs = before
        .into_iter()
        .zip(runs())
        .map(|(before, after)| {
            let (before, after) = (before?, after?);
            Some((after.0.each_since(before.0)?, after.1.each_since(before.1)?))
        })
        .collect();
    Ok((pairs, rate))
}

/// What each event costs while the link carries what it can, by the kernel's own statistics: as they report it,
/// with our program first on its tracepoint; what they report of a program that does nothing in its place; and
/// the difference between the two, each taken once first and once second.
fn cost_of_events(bpftune: &Path, link: &Link) -> Result<Vec<Row>> {
    const ROUNDS: usize = 9;
    let Some(_stats) = BpfStats::on() else {
        return Ok(Vec::new());
    };
    let mut found: [Vec<(Pair, Pair)>; EVENTS.len()] = Default::default();
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let transfer = Transfer::start(&link.a, &link.b, link.addr_b().into())?;
        std::thread::sleep(Duration::from_secs(1));
        let (ours_first, rate) = window(bpftune, link, &transfer, true)?;
        rates.push(rate);
        let (empty_first, rate) = window(bpftune, link, &transfer, false)?;
        rates.push(rate);
        transfer.stop()?;
        for ((found, ours_first), empty_first) in found.iter_mut().zip(ours_first).zip(empty_first)
        {
            found.extend(ours_first.zip(empty_first));
        }
    }
    let mut rows = Vec::new();
    for ((_, name), found) in EVENTS.iter().zip(found).filter(|(_, f)| !f.is_empty()) {
        let of = |pick: fn(&(Pair, Pair)) -> f64| -> Vec<f64> { found.iter().map(pick).collect() };
        let (reported, empty) = (of(|f| f.0.0), of(|f| f.1.1));
        let own = of(|(a, b)| (a.0 - a.1 + b.0 - b.1) / 2.0);
        rows.push(at_most(
            format!(
                "BPF cost of an event, {name}, as bpf_stats reports (median of {})",
                found.len()
            ),
            median(&reported),
            100.0,
            "ns",
            json!({ "runs": reported, "mbit_per_s": rates }),
        ));
        let told = |what: &str, values: Vec<f64>, goal: &str| Row {
            name: format!("{name}: {what}"),
            value: median(&values),
            unit: "ns",
            goal: goal.to_owned(),
            met: true,
            detail: json!({ "runs": values }),
        };
        rows.push(told(
            "a program that does nothing in its place",
            empty,
            "the measuring's own part",
        ));
        rows.push(told("its own part", own, "told only"));
    }
    Ok(rows)
}

fn cost(bpftune: &Path) -> Result<Vec<Row>> {
    let link = Link::new(Shape::new(Duration::from_millis(10)))?;
    set_buffers(&link, LARGE)?;
    let all: [&Netns; 2] = [&link.a, &link.b];
    let mut starts = Vec::new();
    for _ in 0..5 {
        starts.push(
            daemon::Daemon::start(bpftune, &all, &[])?
                .ready_after
                .as_secs_f64()
                * 1e3,
        );
    }
    let daemon = daemon::Daemon::start(bpftune, &all, &[])?;
    let status = format!("/proc/{}/status", daemon.pid());
    let wakeups = || number(&status, "voluntary_ctxt_switches:").unwrap_or(u64::MAX);
    let cpu = || -> f64 {
        let stat =
            fs::read_to_string(format!("/proc/{}/schedstat", daemon.pid())).unwrap_or_default();
        stat.split(' ')
            .next()
            .and_then(|ns| ns.parse::<f64>().ok())
            .unwrap_or(f64::NAN)
            / 1e6
    };
    std::thread::sleep(Duration::from_secs(1));
    let (woken, used) = (wakeups(), cpu());
    std::thread::sleep(Duration::from_secs(30));
    let (woken, used) = ((wakeups() - woken) as f64 / 30.0, cpu() - used);
    let rss = number(&status, "VmRSS:").unwrap_or(u64::MAX) as f64 / 1024.0;
    let peak = number(&status, "VmHWM:").unwrap_or(u64::MAX) as f64 / 1024.0;
    let maps = daemon.status()?["map_bytes"].as_f64().unwrap_or(f64::NAN) / 1048576.0;
    let mut rows = vec![
        at_most(
            "start to ready (median of 5)",
            median(&starts),
            300.0,
            "ms",
            json!(starts),
        ),
        at_most("idle: wakeups", woken, 1.0, "/s", json!(null)),
        at_most("idle: processor time in 30 s", used, 1.0, "ms", json!(null)),
        at_most(
            "resident memory",
            rss,
            10.0,
            "MiB",
            json!({ "peak_mib": peak }),
        ),
        at_most("BPF maps", maps, 4.0, "MiB", json!(null)),
    ];
    drop(daemon);
    rows.extend(cost_of_events(bpftune, &link)?);
    Ok(rows)
}
