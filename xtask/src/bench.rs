//! `bench`, `report`: build a bench for speed, become it.

use std::path::PathBuf;

use serde_json::Value as Json;

use crate::{
    process::{Result, become_root, cargo, shown},
    setup,
};

/// A bench target of the lab crate.
pub(crate) fn run(name: &str, args: &[String]) -> Result {
    setup::ensure()?;
    become_root(&build(name)?, args)
}

/// Returns the program's path, which cargo tells.
fn build(name: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["bench", "--package", "lab", "--no-run", "--bench", name]);
    command.arg("--message-format=json-render-diagnostics");
    command.stderr(std::process::Stdio::inherit());
    let output = command
        .output()
        .map_err(|error| format!("cannot run `{}`: {error}", shown(&command)))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages.lines().rev().find_map(|line| {
        let message: Json = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == name;
        Some(message["executable"].as_str().filter(|_| is_it)?.into())
    });
    match program {
        Some(program) if output.status.success() => Ok(program),
        _ => Err(format!("`{}` failed ({})", shown(&command), output.status)),
    }
}
