//! Every chore of the workspace. `cargo xtask --help` lists them.

mod bench;
mod lint;
mod needs;
mod new_tuner;
mod process;
mod report;
mod run;
mod sanitize;
mod setup;
mod targets;
mod test;
mod vm;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Every chore of the workspace.
#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    after_help = "\
Examples:
  cargo xtask demo                 see the effect, in under a minute
  cargo xtask run                  tune this host, now; Ctrl-C restores every value
  cargo xtask run --mode advise    only say what it would change
  cargo xtask test                 every test; those that need root SKIP without it"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what building and testing need (Debian, Ubuntu), or name it (others)
    Setup {
        /// Only say what is missing
        #[arg(long)]
        check: bool,
    },
    /// Build the daemon and run it on this host, in the foreground
    Run {
        /// Arguments of `bpftune run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// See the effect on two network namespaces of the demo's own
    Demo {
        /// Arguments of the demo: --json, --reverse, --rate MBIT, --rtt MS
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run a tuner's scenarios and report figures against goals
    Lab {
        /// Arguments of the lab: a tuner's name, --json
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run learners, trials and fleets on simulated time against their goals
    Sim {
        /// Arguments of the simulator: --json, --seeds N, --hosts N, --replay FILE, --plots DIR
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure against goals, rivals in turn; count instructions; compare with another commit
    Bench(bench::Verb),
    /// Write the tables and plots of docs/ and one HTML page from what bench and lab have found
    Report {
        /// Only compare docs/ with the results behind it
        #[arg(long)]
        check: bool,
    },
    /// Make a tuner that works and has tests, to begin with: docs/tutorial-tuner.md
    NewTuner {
        /// Its name: lower case letters, digits and hyphens
        name: String,
        /// What it is made of
        #[arg(long)]
        kind: new_tuner::Kind,
        /// Where its folder goes [default: here]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Run every test
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// The tests of uring-process under AddressSanitizer and valgrind, where those are there
    Sanitize,
    /// Formatting, clippy, rustdoc, supported Rust version, layering, licence lines
    Lint,
    /// Compile the uring crates for every target that they promise
    Targets,
    /// A kernel with the process operation, in a virtual machine
    #[command(subcommand)]
    Vm(vm::Verb),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup { check } => setup::command(check),
        Verb::Run { args } => run::daemon(&args),
        Verb::Demo { args } => run::lab("demo", &args),
        Verb::Lab { args } => run::lab("lab", &args),
        Verb::Sim { args } => run::sim(&args),
        Verb::Bench(verb) => bench::run(&verb),
        Verb::Report { check } => report::run(check),
        Verb::NewTuner { name, kind, dir } => new_tuner::run(&name, kind, dir.as_deref()),
        Verb::Test { filter } => test::run(filter.as_deref()),
        Verb::Sanitize => sanitize::run(),
        Verb::Lint => lint::run(),
        Verb::Targets => targets::run(),
        Verb::Vm(verb) => vm::run(&verb),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
