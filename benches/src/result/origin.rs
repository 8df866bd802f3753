//! Where and when a figure was taken.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// On what machine, of which commit, when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// "virtual machine, 2 processors (AMD EPYC), 24 GiB".
    pub machine: String,
    /// As uname(2) has it.
    pub kernel: String,
    /// Short; "with changes" where files differ from it.
    pub commit: String,
    /// In UTC.
    pub date: String,
}

/// The workspace's root, where this was built.
#[must_use]
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

impl Origin {
    /// Here, now.
    #[must_use]
    pub fn now() -> Origin {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Origin {
            machine: machine(),
            kernel: kernel.trim().into(),
            commit: commit(),
            date: date(SystemTime::now()),
        }
    }
}

fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = value(&cpuinfo, "model name");
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = value(&memory, "MemTotal");
    let kib: f64 = kib
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0.0);
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let kind = if cpuinfo.contains("hypervisor") {
        "virtual machine, "
    } else {
        ""
    };
    format!(
        "{kind}{processors} processors ({model}), {:.0} GiB",
        kib / 1_048_576.0
    )
}

fn value(text: &str, key: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(key));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or(String::new(), |(_, value)| value.trim().to_owned())
}

fn git(args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // As root in somebody else's clone git would refuse; reading a name harms nobody.
    command.args(["-c", "safe.directory=*"]).args(args);
    let output = command.current_dir(root()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn commit() -> String {
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".into());
    match git(&[
        "status",
        "--porcelain",
        "--untracked-files=no",
        "--",
        ".",
        ":!docs",
    ]) {
        Some(changes) if !changes.is_empty() => format!("{commit} with changes"),
        _ => commit,
    }
}

/// "2026-11-25".
fn date(now: SystemTime) -> String {
    let seconds = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    // Days to a civil date: eras of 400 years, years that begin in March.
    let shifted = seconds / 86400 + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_right() {
        let of = |seconds| date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(of(0), "1970-01-01");
        assert_eq!(of(951_782_400), "2000-02-29");
        assert_eq!(of(1_709_251_199), "2024-02-29");
        assert_eq!(of(1_709_251_200), "2024-03-01");
    }
}
