//! Reading counters: those of /proc, and a tuner's own.

use std::{collections::HashMap, fs, time::Instant};

use super::{Counter, Resource};

/// Reads a counter of the calling thread's namespace, or of the host.
pub trait Meter {
    /// Its number now; `None` where this kernel has no such counter.
    fn read(&mut self, counter: &Counter) -> Option<f64>;
}

/// The counters at one moment, in the order that they were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When they were read.
    pub at: Instant,
    /// Not a number where there is no such counter.
    pub values: Vec<f64>,
}

impl Snapshot {
    /// Reads them all.
    pub fn read(counters: &[Counter], meter: &mut dyn Meter) -> Snapshot {
        Snapshot {
            at: Instant::now(),
            values: counters
                .iter()
                .map(|counter| meter.read(counter).unwrap_or(f64::NAN))
                .collect(),
        }
    }
}

/// Reads /proc; each file once in its life, so make one for each snapshot.
#[derive(Debug, Default)]
pub struct ProcMeter {
    files: HashMap<&'static str, Option<String>>,
}

impl ProcMeter {
    fn text(&mut self, path: &'static str) -> Option<&str> {
        self.files
            .entry(path)
            .or_insert_with(|| fs::read_to_string(path).ok())
            .as_deref()
    }
}

const SNMP: &str = "/proc/thread-self/net/snmp";
const NETSTAT: &str = "/proc/thread-self/net/netstat";
const SOCKSTAT: &str = "/proc/thread-self/net/sockstat";
const DEV: &str = "/proc/thread-self/net/dev";
const SOFTNET: &str = "/proc/net/softnet_stat";

impl Meter for ProcMeter {
    fn read(&mut self, counter: &Counter) -> Option<f64> {
        match counter {
            Counter::Net { group, name } => {
                let file = if group.ends_with("Ext") {
                    NETSTAT
                } else {
                    SNMP
                };
                paired(self.text(file)?, group, name)
            }
            Counter::Sockets { group, name } => worded(self.text(SOCKSTAT)?, group, name),
            Counter::DeviceDrops => device_drops(self.text(DEV)?),
            Counter::Stall { resource, full } => {
                let path = match resource {
                    Resource::Cpu => "/proc/pressure/cpu",
                    Resource::Memory => "/proc/pressure/memory",
                    Resource::Io => "/proc/pressure/io",
                };
                stalled(self.text(path)?, *full)
            }
            Counter::CpuBusy => busy(self.text("/proc/stat")?),
            Counter::SoftnetHandled => softnet(self.text(SOFTNET)?, 0),
            Counter::SoftnetDrops => softnet(self.text(SOFTNET)?, 1),
            Counter::SoftnetSqueezes => softnet(self.text(SOFTNET)?, 2),
            Counter::VmStat(name) => {
                let line = |line: &str| line.strip_prefix(name.as_ref())?.trim().parse().ok();
                self.text("/proc/vmstat")?.lines().find_map(line)
            }
            Counter::MemInfo(name) => size(self.text("/proc/meminfo")?, name),
            Counter::Own(_) => None,
        }
    }
}

/// Of a file of paired lines: names first, numbers below.
fn paired(text: &str, group: &str, name: &str) -> Option<f64> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names
        .split_ascii_whitespace()
        .position(|word| word == name)?;
    numbers.split_ascii_whitespace().nth(at)?.parse().ok()
}

/// Of a file of lines with words before their numbers: "TCP: inuse 2 orphan 0 tw 1".
fn worded(text: &str, group: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(group)?.strip_prefix(':'))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|&word| word == name)?;
    words.next()?.parse().ok()
}

/// The fourth number of each device is what it dropped of what came, the twelfth of what went.
fn device_drops(text: &str) -> Option<f64> {
    let mut sum = 0.0;
    for line in text.lines().skip(2) {
        let numbers: Vec<f64> = line
            .split_once(':')?
            .1
            .split_ascii_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        sum += numbers.get(3)? + numbers.get(11)?;
    }
    Some(sum)
}

/// A column of every processor's row, together; the numbers are hexadecimal.
fn softnet(text: &str, column: usize) -> Option<f64> {
    let each = text.lines().map(|line| {
        let word = line.split_ascii_whitespace().nth(column)?;
        u64::from_str_radix(word, 16).ok()
    });
    each.sum::<Option<u64>>().map(|sum| sum as f64)
}

/// "MemFree:   7 kB": its number.
fn size(text: &str, name: &str) -> Option<f64> {
    let line = |line: &str| {
        let rest = line.strip_prefix(name)?.strip_prefix(':')?;
        rest.split_ascii_whitespace().next()?.parse().ok()
    };
    text.lines().find_map(line)
}

/// The total of a PSI file's line, in seconds.
pub(crate) fn stalled(text: &str, full: bool) -> Option<f64> {
    let kind = if full { "full " } else { "some " };
    let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
    let total: f64 = line.split_once("total=")?.1.trim().parse().ok()?;
    Some(total / 1e6)
}

/// user, nice, system, (idle, iowait,) irq, softirq, steal, in ticks of a hundredth of a second on every Linux.
fn busy(text: &str) -> Option<f64> {
    let numbers: Vec<f64> = text
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_ascii_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let ticks: f64 = [0, 1, 2, 5, 6, 7]
        .iter()
        .map(|&i| numbers.get(i).copied().unwrap_or(0.0))
        .sum();
    Some(ticks / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_shows() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 5 7\n";
        assert_eq!(paired(text, "IpExt", "OutOctets"), Some(7.0));
        assert_eq!(paired(text, "IpExt", "Missing"), None);
        let sockstat =
            "sockets: used 9\nTCP: inuse 2 orphan 0 tw 17 alloc 4 mem 1\nTCP6: inuse 3\n";
        assert_eq!(worded(sockstat, "TCP", "tw"), Some(17.0));
        assert_eq!(worded(sockstat, "TCP6", "inuse"), Some(3.0));
        assert_eq!(worded(sockstat, "UDP", "inuse"), None);
        let psi = "some avg10=0.00 avg60=0.55 total=1500000\nfull avg10=0.00 total=500000\n";
        assert_eq!(
            (stalled(psi, false), stalled(psi, true)),
            (Some(1.5), Some(0.5))
        );
        assert_eq!(busy("cpu  100 0 50 900 7 1 2 3 0 0\ncpu0 1\n"), Some(1.56));
        let dev = "Inter-|\n face |\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 0 0 0 0\n  eth0:1 2 3 5 0 0 0 0 0 0 0 6 0 0 0 0\n";
        assert_eq!(device_drops(dev), Some(27.0));
        let rows = "0a 00 0f\n01 02 01\n";
        assert_eq!(
            (softnet(rows, 1), softnet(rows, 2)),
            (Some(2.0), Some(16.0))
        );
        let rows = "0000000a 00000010 0\n00000001 00000001 0\n";
        assert_eq!(softnet(rows, 1), Some(17.0));
        let meminfo = "MemTotal: 9 kB\nMemFree:   7 kB\n";
        assert_eq!(size(meminfo, "MemFree"), Some(7.0));
        assert_eq!(size(meminfo, "Mem"), None);
    }

    #[test]
    fn this_kernel_has_them_all() {
        let mut meter = ProcMeter::default();
        for counter in [
            Counter::net("IpExt", "InOctets"),
            Counter::net("Tcp", "OutSegs"),
            Counter::net("TcpExt", "TCPLostRetransmit"),
            Counter::sockets("TCP", "tw"),
            Counter::DeviceDrops,
            Counter::CpuBusy,
            Counter::SoftnetHandled,
            Counter::SoftnetDrops,
            Counter::SoftnetSqueezes,
            Counter::VmStat("oom_kill".into()),
            Counter::MemInfo("MemAvailable".into()),
        ] {
            assert!(meter.read(&counter).is_some(), "{counter:?}");
        }
        assert_eq!(meter.read(&Counter::net("Tcp", "Nothing")), None);
    }
}
