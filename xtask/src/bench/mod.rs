//! `bench`: build benches for speed, run them.

mod compare;
mod instructions;

use std::{path::PathBuf, process::Command};

use clap::Args;
use serde_json::Value as Json;

use crate::{
    process::{Result, cargo, check, is_root, shown},
    run, setup,
};

/// In the order of `all`.
const BENCHES: [&str; 5] = ["spawn", "overhead", "decision", "journal", "scale"];

#[derive(Args)]
pub(crate) struct Verb {
    /// What is measured; `instructions` counts them, and takes no `--quick`
    #[arg(
        default_value = "all",
        value_parser = ["spawn", "overhead", "decision", "journal", "scale", "all", "instructions"]
    )]
    name: String,
    /// Under three minutes for all
    #[arg(long)]
    quick: bool,
    /// Run what can be compared in this commit and now, in turn; says what became slower
    #[arg(long, value_name = "REV")]
    compare: Option<String>,
    /// `instructions`: take what is counted now as the new baseline
    #[arg(long)]
    accept: bool,
    /// More for the bench: --json, --strict, --only TEXT
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(verb: &Verb) -> Result {
    if let Some(rev) = &verb.compare {
        return compare::run(rev, verb.quick, &verb.args);
    }
    if verb.name == "instructions" {
        return instructions::run(verb.accept);
    }
    if verb.accept {
        return Err("--accept is for `bench instructions`".into());
    }
    setup::ensure()?;
    let names: Vec<&str> = BENCHES
        .into_iter()
        .filter(|name| verb.name == "all" || verb.name == *name)
        .collect();
    if names
        .iter()
        .any(|name| ["overhead", "scale"].contains(name))
    {
        run::build_daemon()?;
    }
    let programs = build(&names)?;
    let mut args = verb.args.clone();
    args.extend(verb.quick.then(|| "--quick".to_owned()));
    let mut faults = Vec::new();
    for program in programs {
        let mut command = as_root(&program);
        faults.extend(check(command.args(&args)).err());
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n"))
    }
}

/// Through sudo where we are not root.
fn as_root(program: &std::path::Path) -> Command {
    if is_root() {
        return Command::new(program);
    }
    eprintln!(
        "xtask: {} needs root: running it through sudo",
        program.display()
    );
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    sudo
}

/// Returns the programs' paths, which cargo tells, in the order of the names.
fn build(names: &[&str]) -> Result<Vec<PathBuf>> {
    let mut command = cargo();
    command.args(["bench", "--package", "lab", "--no-run"]);
    for name in names {
        command.args(["--bench", name]);
    }
    command.arg("--message-format=json-render-diagnostics");
    command.stderr(std::process::Stdio::inherit());
    let output = command
        .output()
        .map_err(|error| format!("cannot run `{}`: {error}", shown(&command)))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let path = |name: &str| {
        messages.lines().rev().find_map(|line| {
            let message: Json = serde_json::from_str(line).ok()?;
            let is_it =
                message["target"]["name"] == name && message["target"]["kind"][0] == "bench";
            Some(message["executable"].as_str().filter(|_| is_it)?.into())
        })
    };
    let programs: Vec<PathBuf> = names.iter().filter_map(|name| path(name)).collect();
    if output.status.success() && programs.len() == names.len() {
        Ok(programs)
    } else {
        Err(format!("`{}` failed ({})", shown(&command), output.status))
    }
}
