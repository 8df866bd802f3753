//! `bench instructions`: counts them by callgrind and holds them to a baseline.
//!
//! Unlike times they are the same on a busy machine. They depend on the compiler, so the baseline says which one it
//! is of, and with another there is no verdict.

use std::{fs, path::Path, process::Command};

use serde_json::{Map, Value as Json, json};

use super::compare;
use crate::{
    needs::{Need, Probe},
    process::{Result, root, shown, target_dir},
    setup,
};

const BASELINE: &str = "benches/instructions.json";
/// More by this share fails.
const MOST: f64 = 0.03;
const OPERATIONS: u64 = 200;

const NEEDS: &[Need] = &[Need {
    probe: Probe::Program("valgrind"),
    what_for: "count instructions",
    packages: ["valgrind"; 4],
}];

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .map_err(|error| format!("cannot run `{}`: {error}", shown(command)))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let why = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "`{}` failed ({}):\n{why}",
            shown(command),
            output.status
        ))
    }
}

/// Compiler and target, by which counts can be compared.
fn toolchain() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = output(Command::new(rustc).arg("-vV"))?;
    let field = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        value.unwrap_or_default().trim().to_owned()
    };
    Ok(format!(
        "rustc {} ({}), {}",
        field("release: "),
        field("commit-hash: ").get(..9).unwrap_or_default(),
        field("host: ")
    ))
}

/// Instructions of one operation.
fn count(program: &Path, name: &str) -> Result<f64> {
    let file = std::env::temp_dir().join(format!("callgrind-{name}-{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command
        .args([
            "--tool=callgrind",
            "--quiet",
            "--toggle-collect=*counted_case*",
        ])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["count", name, &OPERATIONS.to_string()])
        // Looking a variable up passes by all others, so there are none but these.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        // The C library chooses its copying by the processor; this choice all have.
        .env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX2,-AVX,-AVX512F,-ERMS,-FSRM",
        )
        .env("LC_ALL", "C");
    output(&mut command)?;
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let _ = fs::remove_file(&file);
    let total = total(&text).ok_or_else(|| format!("callgrind counted nothing for {name}"))?;
    Ok(total as f64 / OPERATIONS as f64)
}

/// The sum in a file of callgrind's.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        line.strip_prefix("totals:")
            .or(line.strip_prefix("summary:"))
    })?;
    line.split_whitespace()
        .next()?
        .parse()
        .ok()
        .filter(|total| *total > 0)
}

/// Says each case beside the baseline; those that are worse, or why there is no verdict.
fn judge(now: &Map<String, Json>, baseline: &Json, toolchain: &str) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut faults) = (Vec::new(), Vec::new());
    let of = baseline["toolchain"].as_str().unwrap_or("none");
    let comparable = of == toolchain;
    for (name, found) in now {
        let found = found.as_f64().unwrap_or(f64::NAN);
        let before = baseline["cases"][name].as_f64();
        let verdict = match before {
            _ if !comparable => format!("no verdict: the baseline is of {of}"),
            None => {
                faults.push(format!("{name} has no baseline"));
                "NEW".into()
            }
            Some(before) => {
                let change = found / before - 1.0;
                if change > MOST + 1e-9 {
                    faults.push(format!("{name}: {:+.1} % instructions", change * 100.0));
                }
                // 3 % of 1000 are not more than 3 %, whatever the division makes of it.
                let word = if change > MOST + 1e-9 {
                    "MORE"
                } else {
                    "holds"
                };
                format!("{before:.1} before, {:+.2} %: {word}", change * 100.0)
            }
        };
        lines.push(format!("{name:12} {found:>9.1} instructions; {verdict}"));
    }
    if comparable && let Some(cases) = baseline["cases"].as_object() {
        let gone = cases.keys().filter(|name| !now.contains_key(*name));
        faults.extend(gone.map(|name| format!("{name} is in the baseline and not counted")));
    }
    (lines, faults)
}

pub(crate) fn run(accept: bool) -> Result {
    setup::ensure_all(NEEDS)?;
    setup::ensure()?;
    let program = compare::build(&root(), &target_dir()?)?;
    let names = output(Command::new(&program).arg("counted"))?;
    let mut now = Map::new();
    for line in names.lines() {
        let name = line.split('\t').next().unwrap_or(line);
        now.insert(
            name.to_owned(),
            json!((count(&program, name)? * 10.0).round() / 10.0),
        );
    }
    let toolchain = toolchain()?;
    let path = root().join(BASELINE);
    if accept {
        let baseline = json!({ "toolchain": toolchain, "cases": now });
        let text = format!("{baseline:#}\n");
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{BASELINE} has the counts of {toolchain} now: commit it");
        return Ok(());
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|_| "{}".into());
    let baseline = serde_json::from_str(&text).map_err(|error| format!("{BASELINE}: {error}"))?;
    let (lines, faults) = judge(&now, &baseline, &toolchain);
    println!("{toolchain}\n{}", lines.join("\n"));
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!(
        "more than {:.0} % more instructions than {BASELINE} says:\n  {}\nWhere that is meant: \
         `cargo xtask bench instructions --accept`, and say in the commit what it buys",
        MOST * 100.0,
        faults.join("\n  ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(now: &Json, baseline: &Json) -> usize {
        judge(now.as_object().unwrap(), baseline, "rustc 1").1.len()
    }

    #[test]
    fn more_than_three_percent_fails() {
        let baseline = json!({ "toolchain": "rustc 1", "cases": { "a": 1000, "b": 10 } });
        assert_eq!(faults(&json!({ "a": 1030, "b": 9 }), &baseline), 0);
        assert_eq!(faults(&json!({ "a": 1031, "b": 9 }), &baseline), 1);
        assert_eq!(faults(&json!({ "a": 1000, "c": 9 }), &baseline), 2);
    }

    #[test]
    fn another_compiler_gives_no_verdict() {
        let baseline = json!({ "toolchain": "rustc 2", "cases": { "a": 10 } });
        let now = json!({ "a": 1000 });
        let (lines, faults) = judge(now.as_object().unwrap(), &baseline, "rustc 1");
        assert!(faults.is_empty() && lines[0].contains("no verdict: the baseline is of rustc 2"));
    }

    #[test]
    fn reads_what_callgrind_writes() {
        assert_eq!(
            total("events: Ir\nsummary: 5\nfn=(1)\ntotals: 5\n"),
            Some(5)
        );
        assert_eq!(total("totals: 0\n"), None);
    }
}
