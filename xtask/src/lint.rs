//! `cargo xtask lint`: what every commit must hold.

use std::{fs, process::Command};

use serde_json::Value as Json;

use crate::{
    process::{Result, cargo, check, metadata, root},
    report, setup,
    test::OPTIONAL,
};

pub(crate) fn run() -> Result {
    setup::ensure()?;
    for (component, args) in [
        ("rustfmt", ["fmt", "--version"]),
        ("clippy", ["clippy", "-V"]),
    ] {
        if !cargo()
            .args(args)
            .output()
            .is_ok_and(|output| output.status.success())
        {
            return Err(format!(
                "cargo {} is not here: install it with `rustup component add {component}`",
                args[0]
            ));
        }
    }
    // All of them, so that one run shows every fault.
    let mut faults = vec![check(cargo().args(["fmt", "--all", "--check"]))];
    let optional = OPTIONAL.map(|package| vec!["--package", package, "--all-features"]);
    for scope in [vec!["--workspace"]].into_iter().chain(optional) {
        let mut clippy = cargo();
        clippy.arg("clippy").args(&scope);
        faults.push(check(clippy.args([
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])));
        let mut doc = cargo();
        doc.arg("doc").args(&scope).args(["--no-deps", "--quiet"]);
        faults.push(check(doc.env("RUSTDOCFLAGS", "-D warnings")));
    }
    let mut faults: Vec<String> = faults.into_iter().filter_map(Result::err).collect();
    let metadata = metadata(&[])?;
    faults.extend(supported_rust(&metadata));
    faults.extend(layering(&metadata));
    faults.extend(licence_lines()?);
    faults.extend(report::run(true, None).err());
    for fault in &faults {
        eprintln!("lint: {fault}");
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(format!("{} faults", faults.len()))
    }
}

fn version(text: &str) -> (u32, u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

fn packages(metadata: &Json) -> impl Iterator<Item = &Json> {
    metadata["packages"].as_array().into_iter().flatten()
}

/// Dependencies that declare a newer Rust than the workspace does. Clippy's `incompatible_msrv`
/// covers our own code.
fn supported_rust(metadata: &Json) -> Vec<String> {
    let ours = packages(metadata)
        .filter(|package| package["source"].is_null())
        .filter_map(|package| package["rust_version"].as_str())
        .map(version)
        .min()
        .unwrap_or((0, 0, 0));
    packages(metadata)
        .filter_map(|package| {
            let needs = package["rust_version"].as_str()?;
            (version(needs) > ours).then(|| {
                format!(
                    "{} {} needs Rust {needs}, the workspace promises {}.{}",
                    package["name"], package["version"], ours.0, ours.1
                )
            })
        })
        .collect()
}

/// Who may depend on whom. Nothing here: on nobody of ours. `None`: on all.
fn may_use(package: &str) -> Option<&'static [&'static str]> {
    match package {
        "uring-sys-ext" => Some(&[]),
        "uring-process" => Some(&["uring-sys-ext"]),
        "bpftune-core" => Some(&["uring-process"]),
        "bpftune-tuners" => Some(&["bpftune-core"]),
        "lab" | "xtask" => None,
        _ => Some(&[]),
    }
}

fn layering(metadata: &Json) -> Vec<String> {
    let ours: Vec<&str> = packages(metadata)
        .filter(|p| p["source"].is_null())
        .filter_map(|p| p["name"].as_str())
        .collect();
    let mut faults = Vec::new();
    for package in packages(metadata).filter(|p| p["source"].is_null()) {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = may_use(name) else {
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            if ours.contains(&to) && !allowed.contains(&to) {
                faults.push(format!("{name} must not depend on {to}"));
            }
        }
    }
    faults
}

fn licence_lines() -> Result<Vec<String>> {
    let output = Command::new("git")
        .arg("ls-files")
        .current_dir(root())
        .output();
    let output = output.map_err(|error| format!("cannot run git ls-files: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "git ls-files: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names
        .lines()
        .filter(|name| must_be_gpl(name))
        .filter(|name| !has_gpl_line(&fs::read_to_string(root().join(name)).unwrap_or_default()))
        .map(|name| {
            format!(
                "{name} must say SPDX-License-Identifier: GPL-2.0-only in its first three lines"
            )
        })
        .collect())
}

/// BPF programs, their headers and kernel patches.
fn must_be_gpl(name: &str) -> bool {
    name.ends_with(".bpf.c")
        || name.ends_with(".patch")
        || (name.ends_with(".h") && name.contains("/bpf/"))
}

fn has_gpl_line(text: &str) -> bool {
    text.lines()
        .take(3)
        .any(|line| line.contains("SPDX-License-Identifier: GPL-2.0-only"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, ours: bool, rust: &str, uses: &[&str]) -> Json {
        let uses: Vec<Json> = uses.iter().map(|name| json!({ "name": name })).collect();
        let source = if ours { Json::Null } else { json!("registry") };
        json!({ "name": name, "version": "1.0.0", "source": source, "rust_version": rust, "dependencies": uses })
    }

    #[test]
    fn finds_a_dependency_too_new() {
        let metadata = json!({ "packages": [
            package("bpftune-core", true, "1.89", &[]),
            package("old", false, "1.63", &[]),
            package("same", false, "1.89.0", &[]),
            package("new", false, "1.90", &[]),
            package("patched", false, "1.89.1", &[]),
        ]});
        let faults = supported_rust(&metadata);
        assert!(
            faults.len() == 2 && faults[0].contains("new") && faults[1].contains("patched"),
            "{faults:?}"
        );
    }

    #[test]
    fn finds_an_arrow_that_is_not_allowed() {
        let metadata = json!({ "packages": [
            package("bpftune-core", true, "1.89", &["uring-process", "serde"]),
            package("uring-process", true, "1.89", &["bpftune-core"]),
            package("lab", true, "1.89", &["bpftune-core"]),
            package("serde", false, "1.56", &[]),
        ]});
        assert_eq!(
            layering(&metadata),
            ["uring-process must not depend on bpftune-core"]
        );
    }

    #[test]
    fn finds_a_missing_licence_line() {
        assert!(
            must_be_gpl("bpftune-tuners/src/x/x.bpf.c")
                && must_be_gpl("bpftune-core/bpf/bpftune/event.h")
        );
        assert!(!must_be_gpl("bpftune-core/src/lib.rs"));
        assert!(
            !has_gpl_line("int x;\n") && has_gpl_line("// SPDX-License-Identifier: GPL-2.0-only\n")
        );
    }
}
