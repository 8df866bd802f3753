//! The machine's size and present state, from which bounds are derived.

use std::fs;

use crate::{Error, Result};

/// Memory, processors and TCP's share of them. All sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `MemTotal` of /proc/meminfo.
    pub memory_total: u64,
    /// `MemAvailable` of /proc/meminfo.
    pub memory_available: u64,
    /// Bytes in a page.
    pub page_size: u64,
    /// Online processors.
    pub cpus: usize,
    /// What TCP's socket buffers hold now (`mem` in /proc/net/sockstat).
    pub tcp_memory: u64,
    /// From where TCP is under pressure (the second number of `net.ipv4.tcp_mem`); `u64::MAX` where
    /// it cannot be read (the sysctl exists only in the host's own network namespace).
    pub tcp_memory_pressure: u64,
}

impl Machine {
    /// Reads them; four small files of /proc.
    ///
    /// # Errors
    /// Where /proc is not mounted.
    pub fn now() -> Result<Machine> {
        let read = |path: &str| fs::read_to_string(path).map_err(Error::file("read", path));
        let meminfo = read("/proc/meminfo")?;
        let page_size = page_size();
        let tcp_memory = fs::read_to_string("/proc/net/sockstat")
            .ok()
            .and_then(|text| sockstat_tcp_pages(&text))
            .unwrap_or(0)
            * page_size;
        let tcp_memory_pressure = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem")
            .ok()
            .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
            .map_or(u64::MAX, |pages| pages.saturating_mul(page_size));
        Ok(Machine {
            memory_total: meminfo_bytes(&meminfo, "MemTotal").unwrap_or(0),
            memory_available: meminfo_bytes(&meminfo, "MemAvailable").unwrap_or(0),
            page_size,
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            tcp_memory,
            tcp_memory_pressure,
        })
    }

    /// Whether a quarter of memory is available: tasks that wait for memory then wait for what a control group allows
    /// them, or for pages that are read again, and nothing given back here would help them.
    #[must_use]
    pub fn has_memory_to_spare(&self) -> bool {
        self.memory_available > self.memory_total / 4
    }

    /// The same machine with nothing in use: bounds that depend on what is free are at their widest.
    #[must_use]
    pub fn idle(&self) -> Machine {
        Machine {
            memory_available: self.memory_total,
            tcp_memory: 0,
            ..self.clone()
        }
    }
}

/// Bytes in a page.
pub(crate) fn page_size() -> u64 {
    // SAFETY: sysconf reads a constant and has no preconditions.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

fn meminfo_bytes(text: &str, key: &str) -> Option<u64> {
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    rest.split_ascii_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

fn sockstat_tcp_pages(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|&word| word == "mem")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_machine() {
        let machine = Machine::now().unwrap();
        assert!(machine.memory_total > machine.memory_available);
        assert!(machine.memory_available > 0 && machine.cpus > 0);
        assert!(machine.page_size.is_power_of_two());
    }

    #[test]
    fn a_quarter_available_is_to_spare() {
        let machine = Machine::now().unwrap();
        assert!(machine.idle().has_memory_to_spare());
        let full = Machine {
            memory_available: machine.memory_total / 4,
            ..machine
        };
        assert!(!full.has_memory_to_spare());
    }

    #[test]
    fn parses_the_kernels_words() {
        assert_eq!(
            meminfo_bytes("MemTotal:  10 kB\nMemAvailable: 3 kB\n", "MemAvailable"),
            Some(3072)
        );
        let sockstat =
            "sockets: used 9\nTCP: inuse 2 orphan 0 tw 1 alloc 4 mem 17\nUDP: inuse 0 mem 3\n";
        assert_eq!(sockstat_tcp_pages(sockstat), Some(17));
        assert_eq!(sockstat_tcp_pages("TCP: inuse 2"), None);
    }
}
