//! Start, memory, and what the daemon does while nothing goes on.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lab::{
    Error, Result,
    bpf_stats::number,
    daemon::Daemon,
    link::{Link, Shape},
    result::{Part, Row, median},
};

fn resident(pid: u32) -> f64 {
    let kib = number(&format!("/proc/{pid}/status"), "VmRSS:");
    kib.map_or(f64::NAN, |kib| kib as f64 / 1024.0)
}

/// How long the same program takes to be loaded and to say its version.
fn version(bpftune: &Path) -> Result<f64> {
    let begin = Instant::now();
    let mut command = Command::new(bpftune);
    command.arg("--version").stdout(Stdio::null());
    command
        .status()
        .map_err(Error::doing(format!("cannot start {}", bpftune.display())))?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// The memory of a program that does nothing.
fn sleeper() -> Result<f64> {
    let mut child = Command::new("sleep")
        .arg("60")
        .spawn()
        .map_err(Error::doing("cannot start sleep(1)"))?;
    thread::sleep(Duration::from_millis(100));
    let memory = resident(child.id());
    let _ = child.kill();
    let _ = child.wait();
    Ok(memory)
}

pub(crate) fn run(part: &mut Part, bpftune: &Path, quick: bool) -> Result<()> {
    let link = Link::new(Shape::new(Duration::from_millis(10)))?;
    let all = [&link.a, &link.b];
    let (mut starts, mut loads) = (Vec::new(), Vec::new());
    for _ in 0..if quick { 5 } else { 9 } {
        let daemon = Daemon::start(bpftune, &all, &[])?;
        starts.push(daemon.ready_after.as_secs_f64() * 1e3);
        drop(daemon);
        loads.push(version(bpftune)?);
    }
    let limit = "the program loaded, to say its version";
    part.row(Row::sampled("start to ready", "ms", &starts).at_most(300.0));
    part.row(Row::paired(
        "start to ready",
        "ms",
        &starts,
        (limit, &loads),
    ));
    let daemon = Daemon::start(bpftune, &all, &[])?;
    let woken = || {
        let status = format!("/proc/{}/status", daemon.pid());
        number(&status, "voluntary_ctxt_switches:").map_or(f64::NAN, |count| count as f64)
    };
    let used = || -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/schedstat", daemon.pid()));
        let stat = stat.unwrap_or_default();
        let nanoseconds = stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
        nanoseconds.unwrap_or(f64::NAN) / 1e6
    };
    thread::sleep(Duration::from_secs(1));
    let (seconds, windows) = if quick { (5, 5) } else { (30, 10) };
    let (mut wakeups, mut times) = (Vec::new(), Vec::new());
    for _ in 0..windows {
        let before = (woken(), used());
        let length = f64::from(seconds) / f64::from(windows);
        thread::sleep(Duration::from_secs_f64(length));
        wakeups.push((woken() - before.0) / length);
        times.push((used() - before.1) / length);
    }
    let name = |what: &str| format!("idle, {seconds} s: {what}");
    part.row(Row::sampled(name("wakeups"), "/s", &wakeups).at_most(1.0));
    part.row(Row::sampled(name("processor time in a second"), "ms", &times).at_most(0.05));
    let mut memory = Vec::new();
    for _ in 0..5 {
        memory.push(resident(daemon.pid()));
        thread::sleep(Duration::from_millis(20));
    }
    let peak = number(&format!("/proc/{}/status", daemon.pid()), "VmHWM:");
    let row = Row::count("resident memory", "MiB", median(&memory)).at_most(10.0);
    let row = row.detail(serde_json::json!({ "peak_kib": peak }));
    part.row(row.beside("sleep(1)", sleeper()?));
    let maps = daemon.status()?["map_bytes"].as_f64().unwrap_or(f64::NAN) / 1_048_576.0;
    part.row(Row::count("BPF maps", "MiB", maps).at_most(4.0));
    Ok(())
}
