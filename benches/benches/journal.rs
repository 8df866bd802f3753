//! What a journal's commit costs beside the least that any durable record costs on the same disk: 4 KiB and
//! fdatasync(2).
//!
//! `cargo xtask bench journal` runs it. The two take turns, so that whatever else the disk does meets both. Groups show
//! what several changes in one turn of the engine cost together.

use std::{fs, path::PathBuf, process::ExitCode};

use bpftune_core::stats::quantile;
use clap::Parser;
use lab::{
    Error, Result,
    cases::journal::{Bare, Commits},
    result::{Common, Part, Recorder, Row, root},
};

/// The goal: p99 of a commit over p99 of the bare write.
const GOAL: f64 = 1.5;
/// Rounds that are not counted.
const WARM_UP: usize = 50;
/// Each window's quantiles are a sample.
const WINDOWS: usize = 10;
const LIMIT: &str = "4 KiB and fdatasync";

/// A journal's commit beside a bare 4 KiB write and fdatasync, in turn on the same disk
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench journal")]
struct Args {
    #[command(flatten)]
    common: Common,
    /// On which disk
    #[arg(long, value_name = "DIR", default_value = "target/bench-journal")]
    dir: PathBuf,
}

fn measure(part: &mut Part, args: &Args, group: usize) -> Result<()> {
    let parent = root().join(&args.dir);
    let dir = fs::create_dir_all(&parent)
        .and_then(|()| tempfile::tempdir_in(&parent))
        .map_err(Error::doing(format!(
            "cannot write in {}",
            parent.display()
        )))?;
    let mut bare = Bare::new(dir.path())?;
    let mut commits = Commits::new(dir.path(), group)?;
    let rounds = if args.common.quick { 500 } else { 2000 };
    // Microseconds, bare writes and commits.
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..rounds + WARM_UP {
        // Who goes first takes turns too.
        for turn in [round % 2, (round + 1) % 2] {
            let took = if turn == 0 {
                bare.write()?
            } else {
                commits.commit()?
            };
            if round >= WARM_UP {
                times[turn].push(took.as_secs_f64() * 1e6);
            }
        }
    }
    let [bare, commit] = times.map(|times| {
        let windows = times.chunks(rounds / WINDOWS);
        let of = |share: f64| -> Vec<f64> {
            windows
                .clone()
                .map(|window| quantile(window, share).unwrap_or(f64::NAN))
                .collect()
        };
        (of(0.5), of(0.99))
    });
    let changes = match group {
        1 => "a change".to_owned(),
        group => format!("{group} changes in one"),
    };
    let name = |which: &str| format!("a commit of {changes}: {which}");
    let p99 = Row::paired(name("p99"), "µs", &commit.1, (LIMIT, &bare.1));
    // The goal is a single change's; a group's figures show what sharing saves.
    part.row(if group == 1 { p99.at_most(GOAL) } else { p99 });
    part.row(Row::paired(name("p50"), "µs", &commit.0, (LIMIT, &bare.0)));
    Ok(())
}

fn run(args: &Args) -> Result<ExitCode> {
    let common = &args.common;
    let mut out = Recorder::quiet_stdout()?;
    let mut recorder = common.recorder("journal");
    for (name, group) in [("1 change", 1), ("8 changes", 8), ("64 changes", 64)] {
        if common.wants(name) {
            recorder.part("journal", name, |part| measure(part, args, group))?;
        }
    }
    let missed = recorder.finish(&mut out, common.json)?;
    Ok(ExitCode::from(u8::from(common.strict && missed > 0)))
}

fn main() -> ExitCode {
    run(&Args::parse()).unwrap_or_else(|error| {
        eprintln!("bench journal: {error}");
        ExitCode::FAILURE
    })
}
