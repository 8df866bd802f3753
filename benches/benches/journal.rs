//! What a journal's commit costs beside the least that any durable record costs on the same disk: 4 KiB and
//! fdatasync(2).
//!
//! `cargo xtask bench journal` runs it. The two take turns, so that whatever else the disk does meets both. Groups show
//! what several changes in one turn of the engine cost together.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use bpftune_core::{
    Knob, NetnsCookie, Value,
    journal::{Journal, NewDecision},
    stats::quantile,
};
use clap::Parser;
use serde_json::json;

/// The goal: p99 of a commit over p99 of the bare write.
const GOAL: f64 = 1.5;
/// Rounds that are not counted.
const WARM_UP: usize = 50;
/// The bare write goes round in a file of this many blocks, as a write-ahead log does: nothing grows.
const BLOCKS: u64 = 1024;
const BLOCK: usize = 4096;

/// A journal's commit beside a bare 4 KiB write and fdatasync, in turn on the same disk
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench journal")]
struct Args {
    /// A fifth of the rounds
    #[arg(long)]
    quick: bool,
    /// Print JSON only
    #[arg(long)]
    json: bool,
    /// On which disk
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench-journal"))]
    dir: PathBuf,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// Times in microseconds.
struct Row {
    group: usize,
    bare: Vec<f64>,
    commit: Vec<f64>,
}

fn at(times: &[f64], share: f64) -> f64 {
    quantile(times, share).unwrap_or(f64::NAN)
}

struct Bare {
    file: File,
    turn: u64,
}

impl Bare {
    fn new(path: PathBuf) -> io::Result<Bare> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(path)?;
        for block in 0..BLOCKS {
            file.write_all_at(&[1; BLOCK], block * BLOCK as u64)?;
        }
        file.sync_all()?;
        Ok(Bare { file, turn: 0 })
    }

    fn write(&mut self) -> io::Result<Duration> {
        let block = [self.turn as u8; BLOCK];
        let start = Instant::now();
        self.file
            .write_all_at(&block, self.turn % BLOCKS * BLOCK as u64)?;
        self.file.sync_data()?;
        self.turn += 1;
        Ok(start.elapsed())
    }
}

fn measure(args: &Args, group: usize) -> Result<Row, Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(&args.dir)?;
    let mut bare = Bare::new(dir.path().join("bare"))?;
    let mut journal = Journal::open(&dir.path().join("state"))?;
    journal.begin_run("auto", "bench")?;
    let rounds = if args.quick { 400 } else { 2000 };
    let knobs: Vec<Knob> = (0..group as u64)
        .map(|netns| Knob {
            tunable: "net.ipv4.tcp_rmem".into(),
            netns: NetnsCookie(netns),
        })
        .collect();
    let (old, new) = (
        Value::new([4096, 131_072, 131_072]),
        Value::new([4096, 131_072, 6_291_456]),
    );
    // As long as the daemon's sentences.
    let reason = "net.ipv4.tcp_rmem in /run/netns/web raised from \"4096 131072 131072\" to \"4096 131072 6291456\" \
                  because 10.0.0.1:443 from 10.0.0.2:40000 fills its window each round trip: 49.8 Mbit/s over a round \
                  trip of 20.1 ms";
    let decisions: Vec<NewDecision<'_>> = knobs
        .iter()
        .map(|knob| NewDecision {
            tuner: "tcp-buffer",
            scenario: "receive-limited",
            knob,
            place: "/run/netns/web",
            old: &old,
            new: &new,
            reason,
            signal: None,
            reverts: None,
        })
        .collect();
    let mut row = Row {
        group,
        bare: Vec::new(),
        commit: Vec::new(),
    };
    for round in 0..rounds + WARM_UP {
        // Who goes first takes turns too.
        let mut taken = [Duration::ZERO; 2];
        for turn in [round % 2, (round + 1) % 2] {
            taken[turn] = if turn == 0 {
                bare.write()?
            } else {
                let start = Instant::now();
                let ids = journal.intend_all(&decisions)?;
                let took = start.elapsed();
                // As the engine does after the write.
                journal.applied_all(&ids)?;
                journal.rest()?;
                took
            };
        }
        if round >= WARM_UP {
            row.bare.push(taken[0].as_secs_f64() * 1e6);
            row.commit.push(taken[1].as_secs_f64() * 1e6);
        }
    }
    Ok(row)
}

fn run(args: &Args) -> Result<bool, Box<dyn std::error::Error>> {
    fs::create_dir_all(&args.dir)?;
    let mut rows = Vec::new();
    for group in [1, 8, 64] {
        rows.push(measure(args, group)?);
    }
    // The goal is a single change's; a group's figures show what sharing saves.
    let ratio = |row: &Row| at(&row.commit, 0.99) / at(&row.bare, 0.99);
    let met = ratio(&rows[0]) <= GOAL;
    if args.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "changes": row.group, "rounds": row.bare.len(), "p99_ratio": ratio(row),
                    "bare_us": { "p50": at(&row.bare, 0.5), "p99": at(&row.bare, 0.99) },
                    "commit_us": { "p50": at(&row.commit, 0.5), "p99": at(&row.commit, 0.99) },
                })
            })
            .collect();
        println!(
            "{}",
            json!({ "goal_p99_ratio": GOAL, "met": met, "rows": rows })
        );
        return Ok(met);
    }
    println!(
        "{:>8} {:>11} {:>11} {:>11} {:>11} {:>10} {:>10}",
        "changes", "bare p50", "commit p50", "bare p99", "commit p99", "p99 ratio", "us/change"
    );
    for row in &rows {
        println!(
            "{:>8} {:>8.0} us {:>8.0} us {:>8.0} us {:>8.0} us {:>10.2} {:>10.0}",
            row.group,
            at(&row.bare, 0.5),
            at(&row.commit, 0.5),
            at(&row.bare, 0.99),
            at(&row.commit, 0.99),
            ratio(row),
            at(&row.commit, 0.5) / row.group as f64,
        );
    }
    println!(
        "{} rounds each, in turn, in {}; goal for one change: p99 at most {GOAL} x the bare write: {}",
        rows[0].bare.len(),
        args.dir.display(),
        if met { "met" } else { "NOT met" }
    );
    Ok(met)
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench journal: {error}");
            ExitCode::FAILURE
        }
    }
}
