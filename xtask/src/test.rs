//! `cargo xtask test`: runs every test and counts them, skipped ones too.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use crate::{
    needs::{Need, Probe},
    process::{Result, cargo, check, is_root, shown},
    setup,
};

/// These use namespaces, sysctls and real traffic: one test at a time.
const ALONE: [&str; 2] = ["lab", "bpftune-tuners"];

/// Packages with something that is off by default.
pub(crate) const OPTIONAL: [&str; 2] = ["uring-process", "bpftune-tuners"];

/// What test binaries have said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
    skips: Vec<String>,
    /// What went wrong besides tests that failed.
    pub(crate) faults: Vec<String>,
    reading: Reading,
}

/// Where in a test binary's output we are.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reading {
    /// It has begun and not yet given its result.
    running: bool,
    /// The last line about a test.
    last: String,
    /// Among the outputs of tests that passed.
    successes: bool,
    /// The test whose output this is has already said SKIP.
    skipped: bool,
}

impl Tally {
    /// Adds what a line of libtest's output says.
    pub(crate) fn read(&mut self, line: &str) {
        let reading = &mut self.reading;
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.end_of_binary();
            self.reading.running = true;
        } else if line.starts_with("test ") && line.contains(" ... ") {
            line.clone_into(&mut reading.last);
        } else if line == "successes:" {
            reading.successes = true;
        } else if line == "failures:" {
            reading.successes = false;
        } else if line.starts_with("---- ") {
            reading.skipped = false;
        } else if let Some(reason) = line.strip_prefix("SKIP: ") {
            // A test that failed after it said so has failed.
            if reading.successes && !reading.skipped {
                reading.skipped = true;
                self.skips.push(reason.to_owned());
            }
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let count = |word: &str| {
                let words: Vec<&str> = result.split([' ', ';']).collect();
                let at = words.iter().position(|w| *w == word)?;
                words[at.checked_sub(1)?].parse::<usize>().ok()
            };
            self.passed += count("passed").unwrap_or(0);
            self.failed += count("failed").unwrap_or(0);
            self.ignored += count("ignored").unwrap_or(0);
            self.reading = Reading::default();
        }
    }

    /// A binary that began and gave no result has crashed.
    pub(crate) fn end_of_binary(&mut self) {
        let Reading { running, last, .. } = std::mem::take(&mut self.reading);
        if running {
            self.faults.push(format!(
                "a test binary ended without a result (crashed?); the last it said: `{last}`"
            ));
        }
    }

    fn all_well(&self) -> bool {
        self.failed == 0 && self.faults.is_empty()
    }

    /// Says it all, the line last.
    pub(crate) fn report(&self) -> Result {
        println!();
        for skip in &self.skips {
            println!("SKIP: {skip}");
        }
        for fault in &self.faults {
            println!("{fault}");
        }
        println!("{}", self.line());
        if !self.all_well() {
            // The line above is to be the last.
            std::process::exit(1);
        }
        Ok(())
    }

    /// A test that said SKIP returned without failing, so libtest counts it as passed: it is not.
    fn line(&self) -> String {
        let passed = self.passed.saturating_sub(self.skips.len());
        // What could not even be built or run has failed too, once where tests have failed already.
        let failed = self.failed.max(self.faults.len());
        format!(
            "{passed} passed, {failed} failed, {} skipped",
            self.ignored + self.skips.len()
        )
    }
}

pub(crate) fn run(filter: Option<&str>) -> Result {
    let mut tally = Tally::default();
    if let Err(error) = run_all(filter, &mut tally) {
        tally.faults.push(error);
    }
    tally.report()
}

/// What tests use of the machine: a plugin's language, and rules that have connections tracked.
const NEEDS: &[Need] = &[
    Need {
        probe: Probe::Program("python3"),
        what_for: "test plugins in Python",
        packages: ["python3", "python3", "python", "python3"],
    },
    Need {
        probe: Probe::Program("nft"),
        what_for: "test the tuner of connection tracking",
        packages: ["nftables", "nftables", "nftables", "nftables"],
    },
];

fn run_all(filter: Option<&str>, tally: &mut Tally) -> Result {
    setup::ensure()?;
    setup::ensure_all(NEEDS)?;
    if !is_root() {
        println!(
            "not root: tests that need it will SKIP; `sudo -E $(which cargo) xtask test` runs them too"
        );
    }
    // The lab's tests start the daemon that lies beside them.
    check(cargo().args(["build", "--package", "bpftune-tuners", "--bins"]))?;
    let mut shared = vec!["test", "--workspace", "--no-fail-fast"];
    for name in ALONE {
        shared.extend(["--exclude", name]);
    }
    let mut alone = vec!["test", "--no-fail-fast"];
    for name in ALONE {
        alone.extend(["--package", name]);
    }
    let one = Some("--test-threads=1");
    let mut sets = vec![(shared, None), (alone, one)];
    // Once more with what is off by default, when the lab no longer needs the daemon of a default build.
    for package in OPTIONAL {
        let args = vec![
            "test",
            "--no-fail-fast",
            "--package",
            package,
            "--all-features",
        ];
        sets.push((args, one.filter(|_| ALONE.contains(&package))));
    }
    for (mut args, threads) in sets {
        args.extend(filter);
        // libtest shows what a passing test printed only so, and the SKIP lines are among it.
        args.extend(["--", "--show-output"]);
        args.extend(threads);
        if let Err(error) = run_one(&args, tally) {
            tally.faults.push(error);
        }
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
    tally.end_of_binary();
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("`{}` failed", shown(&command))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally.end_of_binary();
        tally
    }

    #[test]
    fn counts_what_libtest_says() {
        let tally = read(
            "running 14 tests\n\
             test a ... ok\n\
             test b ... FAILED\n\
             \n\
             successes:\n\
             \n\
             ---- a stdout ----\n\
             SKIP: not root\n\
             SKIP: no TUN devices\n\
             \n\
             successes:\n    a\n\
             \n\
             failures:\n\
             \n\
             ---- b stdout ----\n\
             SKIP: but then it failed\n\
             \n\
             failures:\n    b\n\
             \n\
             test result: FAILED. 12 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
             running 3 tests\n\
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(tally.line(), "14 passed, 1 failed, 2 skipped");
        assert_eq!(tally.skips, ["not root"]);
        assert!(!tally.all_well());
    }

    #[test]
    fn a_crashed_binary_is_a_failure() {
        let tally = read(
            "running 2 tests\n\
             test a ... ok\n\
             test b ... \n\
             running 1 test\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(tally.line(), "1 passed, 1 failed, 0 skipped");
        assert!(tally.faults[0].contains("test b"), "{:?}", tally.faults);
        assert!(!tally.all_well());
    }

    #[test]
    fn what_could_not_be_built_is_a_failure() {
        let mut tally = read("");
        assert!(tally.all_well());
        tally.faults.push("`cargo test` failed".into());
        assert_eq!(tally.line(), "0 passed, 1 failed, 0 skipped");
        assert!(!tally.all_well());
    }
}
