//! `report`: what was measured, as pages.

use std::{path::Path, process::Command};

use crate::{
    process::{Result, cargo, check, target_dir},
    setup,
};

/// `only_check`: nothing is written; docs/ that differ from the results beside them are an error. `agree`: another
/// run's file, whose verdicts must not contradict the last run's.
pub(crate) fn run(only_check: bool, agree: Option<&Path>) -> Result {
    setup::ensure()?;
    check(cargo().args(["build", "--package", "lab", "--bin", "report"]))?;
    let mut report = Command::new(target_dir()?.join("debug/report"));
    report.args(only_check.then_some("--check"));
    if let Some(file) = agree {
        report.arg("--agree").arg(file);
    }
    check(&mut report)
}
