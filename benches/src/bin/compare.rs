//! Two builds of the same cases in turn: what became slower?
//!
//! `cargo xtask bench --compare REV` runs it.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitCode, Stdio},
};

use bpftune_core::stats::{Shift, paired_shift};
use clap::Parser;
use lab::{
    Error, Result,
    cases::CASES,
    result::{median, shown},
};
use serde_json::json;

/// Each end of an interval is wrong this often; over all cases less than one run in ten is.
const ALPHA: f64 = 0.005;
/// A change of less is none: where code happens to lie in memory does as much.
const MARGIN: f64 = 0.03;

/// Runs the cases of two builds in turn and says what became slower
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench --compare REV")]
struct Args {
    /// `cases` of the commit compared with
    #[arg(long)]
    before: PathBuf,
    /// `cases` as it is now
    #[arg(long)]
    after: PathBuf,
    /// What the commit compared with is called
    #[arg(long)]
    name: String,
    /// Fewer rounds
    #[arg(long)]
    quick: bool,
    /// Print JSON only
    #[arg(long)]
    json: bool,
}

/// A build's `cases serve`.
struct Server {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Server {
    fn start(program: &Path) -> Result<Server> {
        let failed = || Error::doing::<std::io::Error>(format!("cannot run {}", program.display()));
        let mut child = Command::new(program)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed())?;
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Ok(Server { child, answers })
    }

    /// Nanoseconds an operation; or why there are none.
    fn ask(&mut self, case: &str) -> Result<Result<f64, String>> {
        let ask = self.child.stdin.as_mut().expect("piped");
        let mut line = String::new();
        writeln!(ask, "{case}")
            .and_then(|()| self.answers.read_line(&mut line))
            .map_err(Error::doing("a build's cases do not answer"))?;
        let line = line.trim();
        Ok(line.parse().map_err(|_| line.to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Found {
    before: Vec<f64>,
    after: Vec<f64>,
    /// Why one of them has no figure.
    skipped: Option<String>,
}

/// The change as a share: 0.1 is a tenth slower.
fn change(found: &Found) -> Option<Shift> {
    let logs: Vec<f64> = found
        .before
        .iter()
        .zip(&found.after)
        .map(|(before, after)| (after / before).ln())
        .collect();
    paired_shift(&logs, ALPHA).map(|shift| Shift {
        estimate: shift.estimate.exp_m1(),
        low: shift.low.exp_m1(),
        high: shift.high.exp_m1(),
    })
}

fn verdict(change: Option<Shift>) -> &'static str {
    match change {
        Some(shift) if shift.low > MARGIN => "SLOWER",
        Some(shift) if shift.high < -MARGIN => "faster",
        Some(shift) if shift.low >= -MARGIN && shift.high <= MARGIN => "the same",
        Some(_) => "no verdict",
        None => "no verdict: skipped",
    }
}

fn measure(args: &Args) -> Result<Vec<Found>> {
    // Processes anew each few rounds: where one happens to have its memory must not decide.
    let (lives, rounds) = if args.quick { (4, 3) } else { (10, 4) };
    let mut found: Vec<Found> = CASES.iter().map(|_| Found::default()).collect();
    for life in 0..lives {
        eprintln!("round {} of {}", life * rounds + 1, lives * rounds);
        let (mut before, mut after) = (Server::start(&args.before)?, Server::start(&args.after)?);
        for round in 0..=rounds {
            for (case, found) in CASES.iter().zip(&mut found) {
                if found.skipped.is_some() {
                    continue;
                }
                let mut both = [Ok(0.0), Ok(0.0)];
                let first = round % 2;
                for turn in [first, 1 - first] {
                    let server = if turn == 0 { &mut before } else { &mut after };
                    both[turn] = server.ask(case.name)?;
                }
                match both {
                    // The first round warms up.
                    [Ok(_), Ok(_)] if round == 0 => {}
                    [Ok(before), Ok(after)] => {
                        found.before.push(before);
                        found.after.push(after);
                    }
                    [Err(why), _] => found.skipped = Some(format!("{}: {why}", args.name)),
                    [_, Err(why)] => found.skipped = Some(format!("now: {why}")),
                }
            }
        }
    }
    Ok(found)
}

fn run(args: &Args) -> Result<ExitCode> {
    let found = measure(args)?;
    let mut slower = 0;
    let mut rows = Vec::new();
    println!(
        "| what | {} | now | change | verdict |\n|---|---|---|---|---|",
        args.name
    );
    for (case, found) in CASES.iter().zip(&found) {
        let change = change(found);
        let verdict = verdict(change);
        slower += usize::from(verdict == "SLOWER");
        let (before, after) = (median(&found.before), median(&found.after));
        let range = change.map_or(String::new(), |shift| {
            let percent = |share: f64| format!("{:+.1} %", share * 100.0);
            let (low, high) = (percent(shift.low), percent(shift.high));
            format!("{} ({low} to {high})", percent(shift.estimate))
        });
        let range = found.skipped.as_ref().unwrap_or(&range);
        let (a, b) = (shown(before, "ns"), shown(after, "ns"));
        println!("| {} | {a} | {b} | {range} | {verdict} |", case.about);
        rows.push(json!({
            "name": case.name, "about": case.about, "before_ns": before, "after_ns": after, "verdict": verdict,
            "change": change.map(|shift| json!({ "value": shift.estimate, "low": shift.low, "high": shift.high })),
            "samples": found.before.len(), "skipped": found.skipped,
        }));
    }
    if args.json {
        println!(
            "{:#}",
            json!({ "before": args.name, "margin": MARGIN, "cases": rows })
        );
    }
    if slower > 0 {
        eprintln!(
            "{slower} became slower by more than {:.0} %",
            MARGIN * 100.0
        );
    }
    Ok(ExitCode::from(u8::from(slower > 0)))
}

fn main() -> ExitCode {
    run(&Args::parse()).unwrap_or_else(|error| {
        eprintln!("bench --compare: {error}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(factor: f64) -> Found {
        let before: Vec<f64> = (0..16).map(|at| 100.0 + f64::from(at % 5)).collect();
        let after = before.iter().enumerate().map(|(at, value)| {
            let noise = 1.0 + ((at * 7) % 11) as f64 / 1000.0;
            value * factor * noise
        });
        Found {
            after: after.collect(),
            before,
            skipped: None,
        }
    }

    #[test]
    fn tells_slower_from_faster_and_the_same() {
        for (factor, expected) in [(1.2, "SLOWER"), (0.8, "faster"), (1.0, "the same")] {
            assert_eq!(verdict(change(&found(factor))), expected, "{factor}");
        }
        assert_eq!(verdict(change(&found(1.03))), "no verdict");
        assert_eq!(verdict(change(&Found::default())), "no verdict: skipped");
    }
}
