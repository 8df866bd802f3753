//! System calls, counted by strace(1) in a process of its own.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

use lab::result::{Part, Row};

use super::Bench;
use crate::rivals::{Ours, PosixSpawn, Rival, Std, Tokio, What};

/// What runs under strace: so many processes by this rival.
pub(crate) fn once(kind: &str, program: &Path, count: usize) -> io::Result<()> {
    let what = What::program(program);
    match kind {
        "ring" => Ours::new(&what)?.many(count, 64)?,
        "ours" => {
            let mut ours = Ours::new(&what)?;
            for _ in 0..count {
                ours.blocked()?;
            }
            return Ok(());
        }
        "std" => Std::new(&what).many(count, 64)?,
        "posix_spawn" => PosixSpawn::new(&what)?.many(count, 64)?,
        "tokio" => Tokio::current_thread(&what)?.many(count, 64)?,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    Ok(())
}

type Counts = BTreeMap<String, i64>;

/// Calls by name; with the children's or without.
fn count(bench: &Bench, kind: &str, count: usize, children: bool) -> io::Result<Counts> {
    let file = bench.programs.dir().join("strace");
    let mut command = Command::new("strace");
    command.args(["-c", "-U", "name,calls", "-o"]).arg(&file);
    if children {
        command.arg("-f");
    }
    let status = command
        .arg(std::env::current_exe()?)
        .args(["--calls", kind, "--count", &count.to_string()])
        .arg(bench.programs.exit())
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("strace: {status}")));
    }
    let counts = fs::read_to_string(&file)?;
    let counts = counts.lines().filter_map(|line| {
        let (name, calls) = line.trim().split_once(' ')?;
        Some((name.to_owned(), calls.trim().parse().ok()?))
    });
    Ok(counts.filter(|(name, _)| name != "total").collect())
}

/// The difference of a long run and a short one, by spawn.
fn each(bench: &Bench, kind: &str, children: bool) -> io::Result<BTreeMap<String, f64>> {
    let (few, many) = bench.pick((50, 150), (100, 500));
    let short = count(bench, kind, few, children)?;
    let mut long = count(bench, kind, many, children)?;
    for (name, calls) in short {
        *long.entry(name).or_default() -= calls;
    }
    let spawns = (many - few) as f64;
    Ok(long
        .into_iter()
        .map(|(name, calls)| (name, calls as f64 / spawns))
        .filter(|(_, calls)| *calls > 0.005)
        .collect())
}

fn list(calls: &BTreeMap<String, f64>) -> String {
    let mut calls: Vec<_> = calls.iter().collect();
    calls.sort_by(|a, b| b.1.total_cmp(a.1));
    let words: Vec<_> = calls
        .iter()
        .map(|(name, calls)| format!("{name} {calls:.1}"))
        .collect();
    words.join(", ")
}

pub(crate) fn run(bench: &Bench, part: &mut Part) -> io::Result<()> {
    if Command::new("strace").arg("-V").output().is_err() {
        part.note("system calls: skipped, strace is not installed (Debian package strace)");
        return Ok(());
    }
    for (kind, name) in [
        ("ring", "uring-process on a ring"),
        ("ours", "uring-process, blocking"),
        ("std", "std::process"),
        ("posix_spawn", "posix_spawn"),
        ("tokio", "tokio, current thread"),
    ] {
        let own = each(bench, kind, false)?;
        let all = each(bench, kind, true)?;
        let (sum, whole) = (own.values().sum::<f64>(), all.values().sum::<f64>());
        let row = Row::count(
            format!("system calls of a spawn, {name}: the caller's"),
            "",
            sum,
        );
        let row = row.beside("with the child's", whole);
        part.row(match kind {
            "ring" | "ours" => row.at_most(8.0),
            _ => row,
        });
        let note = format!(
            "system calls of a spawn, {name}: caller {}; caller and child {}",
            list(&own),
            list(&all)
        );
        part.note(note);
    }
    Ok(())
}
