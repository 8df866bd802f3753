//! `bench --compare REV`: both built, run in turn.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::as_root;
use crate::{
    process::{Result, cargo, check, root, shown, target_dir},
    setup,
};

/// A checkout of a commit, removed with its registration when dropped.
struct Checkout(PathBuf);

impl Checkout {
    fn new(rev: &str) -> Result<Checkout> {
        let commit = git(&[
            "rev-parse",
            "--verify",
            "--quiet",
            &format!("{rev}^{{commit}}"),
        ])
        .map_err(|_| format!("{rev} is no commit here: `git log` names them"))?;
        let path =
            std::env::temp_dir().join(format!("compare-{}-{}", commit.trim(), std::process::id()));
        let place = path.display().to_string();
        git(&[
            "worktree",
            "add",
            "--quiet",
            "--detach",
            &place,
            commit.trim(),
        ])?;
        Ok(Checkout(path))
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let place = self.0.display().to_string();
        if git(&["worktree", "remove", "--force", &place]).is_err() {
            let _ = fs::remove_dir_all(&self.0);
            let _ = git(&["worktree", "prune"]);
        }
    }
}

fn git(args: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    command.args(args).current_dir(root());
    let output = command
        .output()
        .map_err(|error| format!("cannot run `{}`: {error}", shown(&command)))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let why = String::from_utf8_lossy(&output.stderr);
        Err(format!("`{}`: {}", shown(&command), why.trim()))
    }
}

/// `cases` of a checkout; the same flags and profile for both.
pub(super) fn build(dir: &Path, target: &Path) -> Result<PathBuf> {
    let mut command = cargo();
    command.current_dir(dir).env("CARGO_TARGET_DIR", target);
    command.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "lab",
        "--bin",
        "cases",
    ]);
    check(&mut command)?;
    Ok(target.join("release/cases"))
}

pub(crate) fn run(rev: &str, quick: bool, args: &[String]) -> Result {
    setup::ensure()?;
    let checkout = Checkout::new(rev)?;
    if !checkout.0.join("benches/src/bin/cases.rs").exists() {
        return Err(format!(
            "{rev} has no benches/src/bin/cases.rs: it is older than what can be compared"
        ));
    }
    let target = target_dir()?;
    // Kept: the next comparison builds only what differs.
    let before = build(&checkout.0, &target.join("compare"))?;
    let after = build(&root(), &target)?;
    let mut compare = cargo();
    check(compare.args(["build", "--release", "--package", "lab", "--bin", "compare"]))?;
    let mut command = as_root(&target.join("release/compare"));
    command
        .arg("--before")
        .arg(before)
        .arg("--after")
        .arg(after);
    command
        .args(["--name", rev])
        .args(quick.then_some("--quick"));
    check(command.args(args))
}
