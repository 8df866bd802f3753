//! Many processes: nothing is left of them.

use std::{fs, io};

use lab::result::{Part, Row};

use super::Bench;
use crate::rivals::{Ours, What};

/// Children that are over and were not waited for, or that run.
fn children() -> usize {
    // SAFETY: zero is a value of it, and it is writable; nothing is taken away.
    let none = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_ALL, 0, &raw mut info, options) == -1
    };
    usize::from(!none)
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// KiB.
fn resident() -> f64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(f64::NAN)
}

pub(crate) fn run(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let count = bench.pick(30_000, 100_000);
    let mut ours = Ours::new(&What::program(&bench.programs.exit()))?;
    let (ring, plan) = ours.ring();
    ring.many(plan, 2_000, 64)?;
    let (fds, memory) = (descriptors(), resident());
    ring.many(plan, count, 64)?;
    let name = |what: &str| format!("{count} processes on one ring: {what}");
    let figure =
        |what: &str, figure: f64, unit: &str| Row::count(name(what), unit, figure).at_most(0.0);
    let zombies = children();
    let leaked = descriptors() as f64 - fds as f64;
    let grown = (resident() - memory).max(0.0);
    part.row(figure("children left", zombies as f64, ""));
    part.row(figure("descriptors leaked", leaked, ""));
    part.row(figure("resident memory grown", grown, "KiB"));
    Ok(())
}
