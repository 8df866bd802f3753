//! Pages from what was measured.
//!
//! `docs/results` has the results that the documentation stands on. In a page of docs/, what lies between
//! `<!-- result: KIND FILE/BENCH/PART -->` and `<!-- end of result -->` is made from them and nothing else.

mod agree;
mod docs;
mod html;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use lab::{
    Error, Result,
    network::curve,
    result::{BENCH, Curve, LAB, Part, Results, root},
};

/// Writes docs/ and one HTML page from what bench and lab have found
#[derive(Parser)]
#[command(bin_name = "cargo xtask report")]
struct Args {
    /// Only compare docs/ with the results behind it
    #[arg(long)]
    check: bool,
    /// Only compare verdicts with those of another run's file
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    agree: Option<PathBuf>,
}

/// The kinds of results, by the name that pages call them.
const FILES: [(&str, &str); 2] = [("bench", BENCH), ("lab", LAB)];
const PAGE: &str = "target/report/index.html";

/// Takes what was measured here into docs/results: whole runs only, for few samples make no documentation.
fn take(docs: &Path) -> Result<()> {
    for (name, path) in FILES {
        let kept = docs.join(format!("results/{name}.json"));
        let mut results = Results::read(&kept)?;
        let (quick, whole): (Vec<_>, Vec<_>) = Results::read(&root().join(path))?
            .parts
            .into_iter()
            .partition(|part| part.quick);
        for part in &quick {
            eprintln!(
                "{}: {}: left out of docs/, it was a quick run",
                part.bench, part.name
            );
        }
        for part in whole {
            results.put(part);
        }
        results.write(&kept)?;
    }
    Ok(())
}

/// The plots of parts: those that they have, and those of scenarios' runs.
fn curves(parts: &[Part]) -> Vec<Curve> {
    let of = |part: &Part| part.curves.clone().into_iter().chain(curve(part));
    parts.iter().flat_map(of).collect()
}

/// What lies in docs/results; the faults where `check`.
fn run(check: bool) -> Result<Vec<String>> {
    let docs = root().join("docs");
    if !check {
        take(&docs)?;
    }
    let results: Vec<(&str, Results)> = FILES
        .iter()
        .map(|(name, _)| {
            let path = docs.join(format!("results/{name}.json"));
            Ok((*name, Results::read(&path)?))
        })
        .collect::<Result<_>>()?;
    let faults = docs::update(root(), &results, check)?;
    if !check {
        // The page has the newest of all, quick runs too.
        let mut all = Vec::new();
        for (name, path) in FILES {
            let here = Results::read(&root().join(path))?;
            let kept = results.iter().find(|(other, _)| *other == name);
            let mut shown = kept.map_or_else(Results::default, |(_, kept)| kept.clone());
            here.parts.into_iter().for_each(|part| shown.put(part));
            all.push((name, shown));
        }
        let page = root().join(PAGE);
        let dir = page.parent().unwrap_or(root());
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(&page, html::page(&all)))
            .map_err(Error::doing(format!("cannot write {}", page.display())))?;
        eprintln!("wrote {}", page.display());
    }
    Ok(faults)
}

/// A run's file beside the newest of the same kind.
fn agree(other: &Path) -> Result<Vec<String>> {
    let other = Results::read(other)?;
    let mut here = Results::default();
    for (_, path) in FILES {
        Results::read(&root().join(path))?
            .parts
            .into_iter()
            .for_each(|part| here.put(part));
    }
    let found = agree::compare(&other, &here);
    for line in &found.open {
        println!("no verdict in one: {line}");
    }
    println!(
        "verdicts: {} the same, {} open in one, {} contradict; {} parts were measured once only",
        found.same,
        found.open.len(),
        found.contradict.len(),
        found.once
    );
    Ok(found.contradict)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.agree {
        Some(other) => agree(other),
        None => run(args.check),
    };
    match result {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            for fault in faults {
                eprintln!("report: {fault}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}
