//! What the BPF programs of a process cost, by the kernel's own bookkeeping (`kernel.bpf_stats_enabled`, Linux 5.1).
//!
//! The kernel reads the clock around each run, which is part of what it reports: see [`bpf_floor`](crate::bpf_floor).

use std::{fs, time::Duration};

use crate::network::HostValues;

/// The bookkeeping, switched on until dropped.
pub struct BpfStats {
    _on: HostValues,
}

impl BpfStats {
    /// Switches it on; `None` where that is not possible.
    #[must_use]
    pub fn on() -> Option<BpfStats> {
        let mut values = HostValues::default();
        values.set("kernel.bpf_stats_enabled", "1").ok()?;
        Some(BpfStats { _on: values })
    }
}

/// Runs of a BPF program and the nanoseconds they took.
#[derive(Clone, Copy, Debug)]
pub struct Runs {
    /// How often it ran.
    pub count: u64,
    /// How long in all.
    pub nanoseconds: u64,
}

impl Runs {
    /// Of the program that a descriptor's page in /proc is about, with its number; `None` where it is about something
    /// else.
    #[must_use]
    pub fn of(fdinfo: &str) -> Option<(u64, Runs)> {
        let count = number(fdinfo, "run_cnt:")?;
        let nanoseconds = number(fdinfo, "run_time_ns:")?;
        Some((number(fdinfo, "prog_id:")?, Runs { count, nanoseconds }))
    }

    /// Nanoseconds a run since `before`; `None` where it hardly ran: that would be measured cold.
    #[must_use]
    pub fn each_since(self, before: Runs) -> Option<f64> {
        let count = self.count - before.count;
        (count > 1000).then(|| (self.nanoseconds - before.nanoseconds) as f64 / count as f64)
    }
}

/// The BPF programs of a process in the order of their loading.
#[must_use]
pub fn programs(pid: u32) -> Vec<Runs> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo"));
    let mut programs: Vec<_> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Runs::of(&entry.path().display().to_string()))
        .collect();
    programs.sort_unstable_by_key(|(id, _)| *id);
    programs.dedup_by_key(|(id, _)| *id);
    programs.into_iter().map(|(_, runs)| runs).collect()
}

/// How long all BPF programs of a process ran so far while the bookkeeping was on, and how often.
#[must_use]
pub fn total(pid: u32) -> (Duration, u64) {
    let programs = programs(pid);
    let sum = |of: fn(&Runs) -> u64| programs.iter().map(of).sum();
    let nanoseconds = sum(|runs| runs.nanoseconds);
    (Duration::from_nanos(nanoseconds), sum(|runs| runs.count))
}

/// A number behind a key of a page in /proc.
#[must_use]
pub fn number(path: &str, key: &str) -> Option<u64> {
    fs::read_to_string(path)
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix(key))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}
