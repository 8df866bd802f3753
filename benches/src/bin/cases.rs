//! The cases of `lab::cases`, one at a time, for those who count instructions or compare commits.

use std::{
    io::{self, BufRead},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};
use lab::{
    Error, Result,
    cases::{CASES, Case},
};

/// Small things that are measured, for `cargo xtask bench instructions` and `--compare`
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// The names of the cases that are counted in instructions
    Counted,
    /// Does so many operations of a case within the function `counted_case`
    Count {
        /// Which
        name: String,
        /// How many
        operations: usize,
    },
    /// Reads names from standard input and answers with nanoseconds an operation, or why there are none
    Serve {
        /// How long each answer measures
        #[arg(long, default_value_t = 30)]
        milliseconds: u64,
    },
}

fn find(name: &str) -> Result<&'static Case> {
    CASES
        .iter()
        .find(|case| case.name == name)
        .ok_or_else(|| Error::other(format!("no case {name}"), "`cases counted` names them"))
}

/// What callgrind looks for: it counts within this only.
#[unsafe(no_mangle)]
#[inline(never)]
fn counted_case(run: &mut dyn FnMut()) {
    run();
}

fn count(name: &str, operations: usize) -> Result<()> {
    let mut run = find(name)?.ready()?;
    // What is done only the first time is not of interest.
    run(operations / 10 + 1)?;
    let mut result = Ok(Duration::ZERO);
    counted_case(&mut || result = run(operations));
    result.map(drop)
}

fn serve(length: Duration) -> Result<()> {
    let mut ready = std::collections::HashMap::new();
    for line in io::stdin().lock().lines() {
        let line = line.map_err(Error::doing("cannot read standard input"))?;
        let answer = (|| -> Result<f64> {
            if !ready.contains_key(&line) {
                let mut run = find(&line)?.ready()?;
                // As many as fill the time; this warms up as well.
                let (mut count, begin) = (8, std::time::Instant::now());
                run(count)?;
                loop {
                    let before = begin.elapsed();
                    run(count)?;
                    let took = begin.elapsed() - before;
                    if took * 2 > length {
                        let fit = count as f64 * length.as_secs_f64() / took.as_secs_f64();
                        count = (fit as usize).max(1);
                        break;
                    }
                    count *= 2;
                }
                ready.insert(line.clone(), (run, count));
            }
            let (run, count) = ready.get_mut(&line).expect("put there above");
            Ok(run(*count)?.as_nanos() as f64 / *count as f64)
        })();
        match answer {
            Ok(nanoseconds) => println!("{nanoseconds}"),
            Err(error) => println!("error: {error}"),
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let result = match Args::parse().verb {
        Verb::Counted => {
            for case in CASES.iter().filter(|case| case.counted) {
                println!("{}\t{}", case.name, case.about);
            }
            Ok(())
        }
        Verb::Count { name, operations } => count(&name, operations),
        Verb::Serve { milliseconds } => serve(Duration::from_millis(milliseconds)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cases: {error}");
            ExitCode::FAILURE
        }
    }
}
