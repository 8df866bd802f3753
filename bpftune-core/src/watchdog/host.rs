//! Stalls and OOM kills.

use std::{
    fs::File,
    io::{Read, Seek},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Harm, HarmSource};
use crate::{
    Figure, NetnsCookie,
    netns::Namespaces,
    psi,
    trial::{Counter, Meter, ProcMeter, Resource, stalled},
};

/// The kernel looks at so long a time.
const WINDOW: Duration = Duration::from_secs(10);

/// All tasks wait for a resource for too large a share of time. The kernel wakes us by a trigger (PSI, Linux 5.2).
#[derive(Debug)]
pub struct Stalls {
    resource: Resource,
    path: PathBuf,
    /// Share of time.
    threshold: f64,
    trigger: Option<File>,
    /// Of the time before it was armed: see [`lately`].
    before: f64,
    /// Total seconds stalled, at some times within the last window; the oldest first.
    totals: Vec<(Instant, f64)>,
}

impl Stalls {
    /// Of a resource, told of in its file in `directory`.
    #[must_use]
    pub fn new(resource: Resource, directory: &Path, threshold: f64) -> Stalls {
        Stalls {
            resource,
            path: directory.join(resource.word()),
            threshold,
            trigger: None,
            before: 0.0,
            totals: Vec::new(),
        }
    }

    fn open(&self) -> std::io::Result<File> {
        let stall = WINDOW.mul_f64(self.threshold.clamp(0.001, 1.0));
        psi::trigger(&self.path, true, stall, WINDOW)
    }

    fn text(&mut self) -> Option<String> {
        let mut text = String::new();
        match &mut self.trigger {
            Some(file) => file
                .rewind()
                .and_then(|()| file.read_to_string(&mut text))
                .ok()?,
            None => File::open(&self.path)
                .and_then(|mut file| file.read_to_string(&mut text))
                .ok()?,
        };
        Some(text)
    }
}

/// "full avg10=1.00 avg60=0.50 ...": the share of the last minute, or of its last ten seconds where that is more: a load
/// that has begun within it is not the change's doing.
fn lately(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("full "))?;
    let percent = |name| -> Option<f64> {
        let (_, rest) = line.split_once(name)?;
        rest.split(' ').next()?.parse().ok()
    };
    Some(percent("avg10=")?.max(percent("avg60=")?) / 100.0)
}

impl HarmSource for Stalls {
    fn arm(&mut self, now: Instant) {
        self.totals.clear();
        match self.open() {
            Ok(file) => self.trigger = Some(file),
            Err(error) => tracing::debug!("no trigger on {}: {error}", self.path.display()),
        }
        if let Some(text) = self.text() {
            self.before = lately(&text).unwrap_or(0.0);
            self.totals
                .extend(stalled(&text, true).map(|total| (now, total)));
        }
    }

    fn disarm(&mut self) {
        self.trigger = None;
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.trigger.as_ref().map(File::as_fd)
    }

    fn harm(&mut self, now: Instant, _: &[NetnsCookie], _: &mut Namespaces) -> Option<Harm> {
        let total = stalled(&self.text()?, true)?;
        // The newest that is a whole window old stays, so that there is one to compare with.
        while self.totals.len() > 1 && now.duration_since(self.totals[1].0) >= WINDOW {
            self.totals.remove(0);
        }
        self.totals.push((now, total));
        // A trigger comes when a tenth of its window was enough: less than a window is not stretched to one.
        let share = (total - self.totals[0].1)
            / now
                .duration_since(self.totals[0].0)
                .max(WINDOW)
                .as_secs_f64();
        let rose = share >= self.threshold && share >= self.before * 2.0;
        rose.then(|| Harm {
            what: format!(
                "all tasks waited for {} {:.0} % of the last {} s, {:.0} % before the first of the changes",
                self.resource.word(),
                share * 100.0,
                WINDOW.as_secs(),
                self.before * 100.0
            ),
            figures: vec![
                Figure::new("stalled", share * 100.0, "%"),
                Figure::new("stalled_before", self.before * 100.0, "%"),
            ],
        })
    }
}

/// Processes killed for want of memory, on the host or in a control group (/proc/vmstat, Linux 4.13).
#[derive(Debug, Default)]
pub struct OomKills {
    before: Option<f64>,
}

fn oom_kills() -> Option<f64> {
    ProcMeter::default().read(&Counter::VmStat("oom_kill".into()))
}

impl HarmSource for OomKills {
    fn arm(&mut self, _: Instant) {
        self.before = oom_kills();
    }

    fn disarm(&mut self) {}

    fn harm(&mut self, _: Instant, _: &[NetnsCookie], _: &mut Namespaces) -> Option<Harm> {
        let killed = oom_kills()? - self.before?;
        (killed >= 1.0).then(|| Harm {
            what: format!("processes killed for want of memory: {killed}"),
            figures: vec![Figure::new("oom_kills", killed, "")],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_told_from_what_was_bad_before() {
        let dir = tempfile::tempdir().unwrap();
        let write = |avg60: f64, seconds: f64| {
            let us = (seconds * 1e6) as u64;
            let text = format!(
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60={avg60:.2} avg300=0.00 total={us}\n"
            );
            std::fs::write(dir.path().join("memory"), text).unwrap();
        };
        let mut namespaces = Namespaces::new().unwrap();
        let mut harm = |before: f64, seconds: &[(u64, f64)]| {
            let mut stalls = Stalls::new(Resource::Memory, dir.path(), 0.1);
            // A plain file takes the trigger's text as content: written again below.
            write(before * 100.0, 0.0);
            let start = Instant::now();
            stalls.totals.push((start, 0.0));
            stalls.before = before;
            let mut last = None;
            for (at, total) in seconds {
                write(0.0, *total);
                last = stalls.harm(start + Duration::from_secs(*at), &[], &mut namespaces);
            }
            last.map(|harm| harm.what)
        };
        assert_eq!(harm(0.0, &[(1, 0.5), (10, 0.9)]), None, "9 %");
        assert!(harm(0.0, &[(1, 0.5), (5, 1.2)]).unwrap().contains("12 %"));
        assert_eq!(harm(0.2, &[(10, 3.0)]), None, "30 % after 20 %");
        assert!(harm(0.2, &[(10, 5.0)]).is_some());
        assert_eq!(
            harm(0.0, &[(5, 0.9), (20, 1.0), (30, 1.5)]),
            None,
            "old stalls are past"
        );
    }
}
