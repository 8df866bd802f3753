//! `cargo xtask test`: runs every test and counts them, skipped ones too.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use crate::{
    process::{Result, cargo, check, is_root, shown},
    setup,
};

/// These use namespaces, sysctls and real traffic: one test at a time.
const ALONE: [&str; 2] = ["lab", "bpftune-tuners"];

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
    skips: Vec<String>,
}

impl Tally {
    /// Adds what a line of libtest's output says.
    fn read(&mut self, line: &str) {
        if let Some(reason) = line.trim_start().strip_prefix("SKIP: ") {
            self.skips.push(reason.to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |word: &str| {
            let words: Vec<&str> = result.split([' ', ';']).collect();
            let at = words.iter().position(|w| *w == word)?;
            words[at.checked_sub(1)?].parse::<usize>().ok()
        };
        self.passed += count("passed").unwrap_or(0);
        self.failed += count("failed").unwrap_or(0);
        self.ignored += count("ignored").unwrap_or(0);
    }

    /// A test that said SKIP returned without failing, so libtest counts it as passed: it is not.
    fn line(&self) -> String {
        let passed = self.passed.saturating_sub(self.skips.len());
        format!(
            "{passed} passed, {} failed, {} skipped",
            self.failed,
            self.ignored + self.skips.len()
        )
    }
}

pub(crate) fn run(filter: Option<&str>) -> Result {
    setup::ensure()?;
    if !is_root() {
        println!(
            "not root: tests that need it will SKIP; `sudo -E $(which cargo) xtask test` runs them too"
        );
    }
    // The lab's tests start the daemon that lies beside them.
    check(cargo().args(["build", "--package", "bpftune-tuners", "--bins"]))?;
    let mut tally = Tally::default();
    let mut failed = Vec::new();
    let mut shared = vec!["test", "--workspace", "--no-fail-fast"];
    for name in ALONE {
        shared.extend(["--exclude", name]);
    }
    let mut alone = vec!["test", "--no-fail-fast"];
    for name in ALONE {
        alone.extend(["--package", name]);
    }
    for (mut args, threads) in [(shared, None), (alone, Some("--test-threads=1"))] {
        args.extend(filter);
        // libtest shows what a passing test printed only so, and the SKIP lines are among it.
        args.extend(["--", "--show-output"]);
        args.extend(threads);
        run_one(&args, &mut tally).unwrap_or_else(|error| failed.push(error));
    }
    println!();
    for skip in &tally.skips {
        println!("SKIP: {skip}");
    }
    for error in &failed {
        println!("{error}");
    }
    // What could not even be built or run has failed too.
    if !failed.is_empty() && tally.failed == 0 {
        tally.failed = failed.len();
    }
    println!("{}", tally.line());
    if tally.failed > 0 {
        // The line above is to be the last.
        std::process::exit(1);
    }
    Ok(())
}

fn run_one(args: &[&str], tally: &mut Tally) -> Result {
    let mut command = cargo();
    command.args(args).stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot run `{}`: {error}", shown(&command)))?;
    let out = child.stdout.take().ok_or("no output")?;
    for line in BufReader::new(out)
        .split(b'\n')
        .map_while(std::result::Result::ok)
    {
        let line = String::from_utf8_lossy(&line);
        tally.read(&line);
        println!("{line}");
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("`{}` failed", shown(&command))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_libtest_says() {
        let mut tally = Tally::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "SKIP: not root",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "running 4 tests",
        ] {
            tally.read(line);
        }
        assert_eq!(tally.line(), "14 passed, 2 failed, 2 skipped");
        assert_eq!(tally.skips, ["not root"]);
    }
}
