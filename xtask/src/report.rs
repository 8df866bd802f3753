//! `report`: what was measured, as pages.

use std::process::Command;

use crate::{
    process::{Result, cargo, check, target_dir},
    setup,
};

/// `only_check`: nothing is written; docs/ that differ from the results beside them are an error.
pub(crate) fn run(only_check: bool) -> Result {
    setup::ensure()?;
    check(cargo().args(["build", "--package", "lab", "--bin", "report"]))?;
    let mut report = Command::new(target_dir()?.join("debug/report"));
    check(report.args(only_check.then_some("--check")))
}
