//! The kernel's own statistics of BPF programs.

use std::fs;

use crate::idle::number;

/// Restores a host setting when dropped.
pub(crate) struct BpfStats(String);

impl BpfStats {
    const PATH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    /// `None` where it cannot be set.
    pub(crate) fn on() -> Option<BpfStats> {
        let before = fs::read_to_string(Self::PATH).ok()?;
        fs::write(Self::PATH, "1").ok()?;
        Some(BpfStats(before))
    }
}

impl Drop for BpfStats {
    fn drop(&mut self) {
        let _ = fs::write(Self::PATH, &self.0);
    }
}

/// Runs of a BPF program and the nanoseconds they took.
#[derive(Clone, Copy)]
pub(crate) struct Runs {
    count: u64,
    nanoseconds: u64,
}

impl Runs {
    /// Of the program that a descriptor's page in /proc is about; `None` where it is about something else.
    pub(crate) fn of(fdinfo: &str) -> Option<(u64, Runs)> {
        let count = number(fdinfo, "run_cnt:")?;
        let nanoseconds = number(fdinfo, "run_time_ns:")?;
        Some((number(fdinfo, "prog_id:")?, Runs { count, nanoseconds }))
    }

    /// Nanoseconds a run since `before`; `None` where it hardly ran: that would be measured cold.
    pub(crate) fn each_since(self, before: Runs) -> Option<f64> {
        let count = self.count - before.count;
        (count > 1000).then(|| (self.nanoseconds - before.nanoseconds) as f64 / count as f64)
    }
}

/// The BPF programs of a process in the order of their loading.
pub(crate) fn programs(pid: u32) -> Vec<Runs> {
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

/// Name and section of each hook of a daemon that is on, in the order of [`programs`]: tuners load before the admin watch,
/// and libbpf loads an object's programs in their order.
pub(crate) fn hooks(status: &serde_json::Value) -> Vec<(String, String)> {
    let text = |hook: &serde_json::Value, key| hook[key].as_str().unwrap_or_default().to_owned();
    status["hooks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|hook| hook["owner"] != "admin-watch" && hook["off"].is_null())
        .map(|hook| (text(hook, "name"), text(hook, "section")))
        .collect()
}
