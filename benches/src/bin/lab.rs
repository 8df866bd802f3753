//! The scenarios that the documentation's figures come from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use lab::{
    Result,
    bpf_floor::EmptyProgram,
    daemon,
    link::{Link, Shape},
    netns::Netns,
    scenario::{self, Direction, LARGE, compare, next_connection, set_buffers},
    traffic::{Transfer, connections_per_second},
};
use serde_json::{Value as Json, json};

/// Runs a tuner's scenarios on real traffic in namespaces of their own and reports figure and goal.
#[derive(Parser)]
struct Args {
    /// Whose scenarios
    #[arg(default_value = "tcp-buffer", value_parser = ["tcp-buffer"])]
    name: String,
    /// Print JSON only
    #[arg(long)]
    json: bool,
    /// The daemon's binary
    #[arg(long, value_name = "PATH")]
    bpftune: Option<PathBuf>,
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn tcp_buffer(args: &Args) -> Result<Vec<Row>> {
    let bpftune = args.bpftune.clone().map_or_else(daemon::binary, Ok)?;
    let say = |text: &str| eprintln!("lab: {text} ...");
    let mut rows = Vec::new();
    let rtt = Duration::from_millis(10);
    for (direction, name) in [(Direction::AToB, "a to b"), (Direction::BToA, "b to a")] {
        say(&format!("1 Gbit/s, 20 ms, {name}"));
        let runs = (0..3)
            .map(|_| {
                compare(
                    &bpftune,
                    Shape::new(rtt).rate(1_000_000_000),
                    direction,
                    &mut |_| {},
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let of = |pick: fn(&scenario::Comparison) -> f64| median(runs.iter().map(pick).collect());
        rows.push(at_least(
            format!("1 Gbit/s, {name}: share of hand-sized on the running connection"),
            of(|r| r.share_of_hand_sized),
            0.9,
            "",
            json!(runs),
        ));
        rows.push(at_most(
            format!("1 Gbit/s, {name}: time to 90 % of hand-sized"),
            of(|r| r.seconds_to_90_percent.unwrap_or(f64::INFINITY)),
            2.0,
            "s",
            json!(null),
        ));
        rows.push(at_most(
            format!("1 Gbit/s, {name}: reversals (most of 3 runs)"),
            runs.iter().map(|r| r.reversals as f64).fold(0.0, f64::max),
            0.0,
            "",
            json!(null),
        ));
    }
    say("no bound on the rate, 20 ms, next connection");
    let runs = (0..3)
        .map(|_| next_connection(&bpftune, Shape::new(rtt), Direction::AToB))
        .collect::<Result<Vec<_>>>()?;
    rows.push(at_least(
        "no bound: next connection's share of hand-sized",
        median(runs.iter().map(|r| r.share_of_hand_sized).collect()),
        0.85,
        "",
        json!(runs),
    ));
    say("buffers already right");
    rows.extend(already_right(&bpftune)?);
    say("cost of the daemon, 30 s idle");
    rows.extend(cost(&bpftune)?);
    Ok(rows)
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
            median(throughput.clone()),
            0.97,
            "",
            detail(&throughput),
        ),
        at_least(
            "buffers right: connections/s on / off (median of 7 pairs)",
            median(connections.clone()),
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

/// What each event costs while the link carries what it can, by the kernel's own statistics, and beside it
/// what a program that does nothing costs: the statistics' own part.
fn cost_of_events(daemon: &daemon::Daemon, link: &Link) -> Result<Vec<Row>> {
    let Some(_stats) = BpfStats::on() else {
        return Ok(Vec::new());
    };
    // Tuners load before the admin watch, and libbpf loads an object's programs in their order.
    let status = daemon.status()?;
    let (admin, hooks): (Vec<_>, Vec<_>) = status["hooks"]
        .as_array()
        .into_iter()
        .flatten()
        .partition(|hook| hook["owner"] == "admin-watch");
    let hooks: Vec<_> = hooks.into_iter().chain(admin).collect();
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); hooks.len()];
    let (mut floors, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let empty = EmptyProgram::attach(c"tcp_rcv_space_adjust")?;
        let floor = || Runs::of(&format!("/proc/self/fdinfo/{}", empty.descriptor()));
        let transfer = Transfer::start(&link.a, &link.b, link.addr_b().into())?;
        std::thread::sleep(Duration::from_secs(1));
        let (before, floor_before) = (programs(daemon.pid()), floor());
        rates.push(transfer.measure(Duration::from_secs(3)));
        let (after, floor_after) = (programs(daemon.pid()), floor());
        transfer.stop()?;
        for ((costs, before), after) in costs.iter_mut().zip(&before).zip(&after) {
            costs.extend(after.each_since(*before));
        }
        if let (Some((_, before)), Some((_, after))) = (floor_before, floor_after) {
            floors.extend(after.each_since(before));
        }
    }
    let mut rows = Vec::new();
    for (hook, costs) in hooks
        .iter()
        .zip(costs)
        .filter(|(_, costs)| !costs.is_empty())
    {
        let name = hook["name"].as_str().unwrap_or_default();
        rows.push(at_most(
            format!("BPF cost of an event, {name} (median of {})", costs.len()),
            median(costs.clone()),
            100.0,
            "ns",
            json!({ "runs": costs, "mbit_per_s": rates }),
        ));
    }
    if !floors.is_empty() {
        rows.push(Row {
            name: "the same, a program that does nothing".to_owned(),
            value: median(floors.clone()),
            unit: "ns",
            goal: "the measuring's own part".to_owned(),
            met: true,
            detail: json!({ "runs": floors }),
        });
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
            median(starts.clone()),
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
    rows.extend(cost_of_events(&daemon, &link)?);
    Ok(rows)
}
