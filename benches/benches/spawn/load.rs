//! How busy the machine was with other work.

use std::{fs, time::Instant};

/// Processor time of everybody and of this process with its children, since the start.
pub(crate) struct Load {
    since: Instant,
    busy: f64,
    own: f64,
}

impl Load {
    pub(crate) fn start() -> Self {
        Self {
            since: Instant::now(),
            busy: busy(),
            own: own(),
        }
    }

    /// Processors that others kept busy on average.
    pub(crate) fn of_others(&self) -> f64 {
        let others = (busy() - self.busy) - (own() - self.own);
        (others / self.since.elapsed().as_secs_f64()).max(0.0)
    }
}

/// Seconds of all processors that were not idle, from /proc/stat.
fn busy() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> = text
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|word| word.parse().ok())
        .collect();
    // Without idle and iowait.
    (ticks.iter().sum::<f64>() - ticks.iter().skip(3).take(2).sum::<f64>()) / 100.0
}

fn own() -> f64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN]
        .map(|who| {
            // SAFETY: zero is a value of it, and it is writable for the time of the call.
            let usage = unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                libc::getrusage(who, &raw mut usage);
                usage
            };
            let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
            seconds(usage.ru_utime) + seconds(usage.ru_stime)
        })
        .iter()
        .sum()
}
