//! How busy the machine was with other work.

use std::{fs, time::Instant};

use serde::{Deserialize, Serialize};

/// More processors than this taken by others, and times say nothing.
const OTHERS: f64 = 0.3;
/// The same for the hypervisor.
const STOLEN: f64 = 0.1;

/// What others did while something was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Busy {
    /// Processors that others kept busy on average, from /proc/stat without this process, its children, and the kernel's
    /// threads for softirqs, which hand on the packets that we send.
    pub others: f64,
    /// Processors that the hypervisor gave to somebody else.
    pub stolen: f64,
    /// Share of the time in which some task waited for a processor (PSI); ours are among them. `None`: no PSI.
    pub pressure: Option<f64>,
    /// Load average of a minute at the end; ours are in it.
    pub load_average: f64,
}

impl Busy {
    /// Why times taken then are no ground for a verdict; `None` where the machine was quiet.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        if self.others > OTHERS {
            let others = self.others;
            Some(format!(
                "busy machine: others kept {others:.2} processors busy"
            ))
        } else if self.stolen > STOLEN {
            let stolen = self.stolen;
            Some(format!(
                "busy machine: the hypervisor took {stolen:.2} processors"
            ))
        } else {
            None
        }
    }
}

/// The counters at a moment.
pub struct Load {
    since: Instant,
    busy: f64,
    stolen: f64,
    own: f64,
    softirqs: f64,
    waited: Option<f64>,
}

impl Load {
    /// Begins to look.
    #[must_use]
    pub fn start() -> Load {
        let (busy, stolen) = processors();
        Load {
            since: Instant::now(),
            busy,
            stolen,
            own: own(),
            softirqs: softirqs(),
            waited: waited(),
        }
    }

    /// What others did since. Children count as ours once they were waited for.
    #[must_use]
    pub fn stop(&self) -> Busy {
        let seconds = self.since.elapsed().as_secs_f64().max(1e-3);
        let (busy, stolen) = processors();
        let not_others = (own() - self.own) + (softirqs() - self.softirqs) + (stolen - self.stolen);
        let others = (busy - self.busy) - not_others;
        let pressure = self.waited.zip(waited());
        Busy {
            others: hundredths(others / seconds),
            stolen: hundredths((stolen - self.stolen) / seconds),
            pressure: pressure.map(|(before, after)| hundredths((after - before) / seconds)),
            load_average: load_average(),
        }
    }
}

fn hundredths(value: f64) -> f64 {
    (value.max(0.0) * 100.0).round() / 100.0
}

/// Seconds of all processors that were not idle, and those of them that were stolen, from /proc/stat.
fn processors() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guests are in user.
    let ticks: Vec<f64> = text
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|word| word.parse().ok())
        .collect();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    let stolen = ticks.get(7).copied().unwrap_or(0.0);
    ((ticks.iter().sum::<f64>() - idle) / 100.0, stolen / 100.0)
}

/// Seconds of this process and of the children that it has waited for.
fn own() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN]
        .into_iter()
        .filter_map(|who| getrusage(who).ok())
        .map(|usage| seconds(usage.user_time()) + seconds(usage.system_time()))
        .sum()
}

/// Seconds of the threads ksoftirqd/N. What they do on behalf of others is little beside what those do themselves.
fn softirqs() -> f64 {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .filter_map(|entry| softirq_seconds(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .sum()
}

/// Of the text of /proc/PID/stat: `None` where it is another thread's.
fn softirq_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.split_once(" (ksoftirqd/")?;
    let mut fields = rest.split_once(") ")?.1.split(' ');
    // utime and stime: the 14th and 15th of the line, of which two are left out here.
    let ticks = |field: Option<&str>| field?.parse::<f64>().ok();
    let user = ticks(fields.nth(11))?;
    Some((user + ticks(fields.next())?) / 100.0)
}

/// Seconds in which some task waited for a processor, from /proc/pressure/cpu.
fn waited() -> Option<f64> {
    let text = fs::read_to_string("/proc/pressure/cpu").ok()?;
    let total = text.lines().next()?.rsplit_once("total=")?.1;
    Some(total.trim().parse::<f64>().ok()? / 1e6)
}

fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn threads_for_softirqs_are_told_by_their_name() {
        let line =
            |name| format!("22 ({name}) R 2 0 0 0 -1 69238848 0 0 0 0 7 20595 0 0 20 0 1 0 13 0 0");
        assert_eq!(softirq_seconds(&line("ksoftirqd/1")), Some(206.02));
        assert_eq!(softirq_seconds(&line("ksoftirqd")), None);
        assert_eq!(softirq_seconds(&line("lab")), None);
        assert_eq!(softirq_seconds("22 (ksoftirqd/1) R 2"), None);
    }

    #[test]
    fn own_work_is_not_others() {
        let load = Load::start();
        let own_before = own();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {}
        assert!(own() - own_before > 0.1);
        let busy = load.stop();
        let processors = std::thread::available_parallelism().unwrap().get() as f64;
        assert!(busy.others <= processors - 0.3, "{busy:?}");
    }

    #[test]
    fn says_when_it_was_busy() {
        assert_eq!(Busy::default().why(), None);
        let others = Busy {
            others: 0.5,
            ..Busy::default()
        };
        let stolen = Busy {
            stolen: 0.5,
            ..Busy::default()
        };
        assert!(others.why().unwrap().contains("others"));
        assert!(stolen.why().unwrap().contains("hypervisor"));
    }
}
