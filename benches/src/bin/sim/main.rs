//! The simulator: learners, trials and fleets against their goals, without a kernel.

mod plot;
mod plots;
mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use bpftune_core::{
    Knob, Value,
    sim::{Event, Host, Setup, replay},
};
use bpftune_tuners::tcp_buffer::TcpBuffer;
use clap::Parser;

/// Runs tuners, governor, learners and trials on simulated time, and holds the results against the goals. Exits with 1 where
/// one is missed.
#[derive(Parser)]
struct Args {
    /// Print the figures as JSON only
    #[arg(long)]
    json: bool,
    /// Scenarios, and trials of each kind
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
    seeds: u64,
    /// Hosts of the fleet
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    hosts: u64,
    /// Give a recording (a line of JSON a signal) to tcp-buffer and show what it does
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "hosts", "plots"])]
    replay: Option<PathBuf>,
    /// Draw a plot of each learner into this directory, and run nothing else
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "seeds", "hosts"])]
    plots: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = if let Some(file) = &args.replay {
        replayed(file, args.json).map(|()| true)
    } else if let Some(dir) = &args.plots {
        plots::draw(dir).map(|()| true)
    } else {
        report::run(args.seeds, args.hosts as usize, args.json)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::from(2)
        }
    }
}

/// A recording, and what a tuner does about it.
fn values(file: &Path, tuner: TcpBuffer) -> Result<(Vec<replay::Recorded>, Vec<Event>), String> {
    let text =
        fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
    let recording = replay::read(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    let first = recording
        .first()
        .ok_or_else(|| format!("{} holds no signal", file.display()))?;
    let start = |tunable: &str, scenario: &str| {
        let limit = recording
            .iter()
            .find(|line| line.signal.scenario == scenario)
            .and_then(|line| line.signal.figure("limit"))
            .unwrap_or(1e6) as i64;
        let knob = Knob {
            tunable: tunable.to_owned(),
            netns: first.signal.netns,
        };
        (knob, Value::new([4096, limit.min(131_072), limit]))
    };
    let knobs = [
        start("net.ipv4.tcp_rmem", "receive-limited"),
        start("net.ipv4.tcp_wmem", "send-limited"),
    ];
    let mut host =
        Host::new(Setup::default(), Box::new(tuner), knobs).map_err(|e| e.to_string())?;
    let events = replay::replay(&mut host, &recording);
    Ok((recording, events))
}

fn replayed(file: &Path, json: bool) -> Result<(), String> {
    let (recording, events) = values(file, TcpBuffer::default())?;
    let mut lines = Vec::new();
    for event in &events {
        if let Event::Changed { at, knob, old, new } = event {
            lines.push(serde_json::json!({
                "seconds": at.as_secs_f64(),
                "tunable": knob.tunable,
                "old": old.to_string(),
                "new": new.to_string(),
            }));
            if !json {
                println!(
                    "{:8.3} s  {}: {old} -> {new}",
                    at.as_secs_f64(),
                    knob.tunable
                );
            }
        }
    }
    if json {
        println!(
            "{}",
            serde_json::json!({"signals": recording.len(), "changes": lines})
        );
    } else {
        println!("{} signals, {} changes", recording.len(), lines.len());
    }
    Ok(())
}
