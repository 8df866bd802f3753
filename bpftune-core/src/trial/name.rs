//! Counters by name, as rule files and plugins write them.

use std::{fmt, str::FromStr};

use super::{Counter, Resource};

/// One name of each kind, for hints.
const EXAMPLES: &str = "TcpExt.ListenDrops, Tcp.RetransSegs, devices.dropped, sockets.TCP.tw, softnet.handled, \
                        softnet.dropped, softnet.squeezed, vmstat.pgscan_direct, meminfo.MemAvailable, pressure.memory.some, cpu.busy";

impl Counter {
    /// Whether each network namespace has its own.
    #[must_use]
    pub fn is_of_netns(&self) -> bool {
        matches!(
            self,
            Counter::Net { .. } | Counter::Sockets { .. } | Counter::DeviceDrops | Counter::Own(_)
        )
    }

    /// Whether it only grows, so that its growth is of interest and not its size.
    #[must_use]
    pub fn grows(&self) -> bool {
        !matches!(
            self,
            Counter::MemInfo(_) | Counter::Sockets { .. } | Counter::Own(_)
        )
    }
}

/// ```
/// use bpftune_core::trial::Counter;
/// let counter: Counter = "TcpExt.ListenDrops".parse().unwrap();
/// assert_eq!(counter, Counter::net("TcpExt", "ListenDrops"));
/// assert_eq!(counter.to_string(), "TcpExt.ListenDrops");
/// assert!("passwd.root".parse::<Counter>().unwrap_err().contains("cpu.busy"));
/// ```
impl FromStr for Counter {
    type Err = String;

    /// No text names another file than those of [`Counter`].
    fn from_str(text: &str) -> Result<Counter, String> {
        let wrong = || format!("{text:?} is no counter: write such as {EXAMPLES}");
        let (group, name) = text.split_once('.').ok_or_else(wrong)?;
        let word = |word: &str, more: &[u8]| {
            let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || more.contains(&c);
            (1..=64).contains(&word.len()) && word.bytes().all(plain)
        };
        let owned = || name.to_owned().into();
        match group {
            "devices" if name == "dropped" => Ok(Counter::DeviceDrops),
            "cpu" if name == "busy" => Ok(Counter::CpuBusy),
            "softnet" if name == "handled" => Ok(Counter::SoftnetHandled),
            "softnet" if name == "dropped" => Ok(Counter::SoftnetDrops),
            "softnet" if name == "squeezed" => Ok(Counter::SoftnetSqueezes),
            "vmstat" if word(name, b"") => Ok(Counter::VmStat(owned())),
            // "Active(anon)".
            "meminfo" if word(name, b"()") => Ok(Counter::MemInfo(owned())),
            "sockets" => {
                let (group, name) = name.split_once('.').ok_or_else(wrong)?;
                if !word(group, b"") || !word(name, b"") {
                    return Err(wrong());
                }
                Ok(Counter::Sockets {
                    group: group.to_owned().into(),
                    name: name.to_owned().into(),
                })
            }
            "pressure" => {
                let (resource, kind) = name.split_once('.').ok_or_else(wrong)?;
                let all = [Resource::Cpu, Resource::Memory, Resource::Io];
                let resource = all.into_iter().find(|one| one.word() == resource);
                let full = match kind {
                    "some" => false,
                    "full" => true,
                    _ => return Err(wrong()),
                };
                resource
                    .map(|resource| Counter::Stall { resource, full })
                    .ok_or_else(wrong)
            }
            _ if group.starts_with(|c: char| c.is_ascii_uppercase())
                && word(group, b"")
                && word(name, b"") =>
            {
                Ok(Counter::Net {
                    group: group.to_owned().into(),
                    name: owned(),
                })
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Counter::Net { group, name } => write!(f, "{group}.{name}"),
            Counter::Sockets { group, name } => write!(f, "sockets.{group}.{name}"),
            Counter::DeviceDrops => f.write_str("devices.dropped"),
            Counter::Stall { resource, full } => {
                let kind = if *full { "full" } else { "some" };
                write!(f, "pressure.{}.{kind}", resource.word())
            }
            Counter::CpuBusy => f.write_str("cpu.busy"),
            Counter::SoftnetHandled => f.write_str("softnet.handled"),
            Counter::SoftnetDrops => f.write_str("softnet.dropped"),
            Counter::SoftnetSqueezes => f.write_str("softnet.squeezed"),
            Counter::VmStat(name) => write!(f, "vmstat.{name}"),
            Counter::MemInfo(name) => write!(f, "meminfo.{name}"),
            Counter::Own(name) => write!(f, "own.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_example_is_read_and_written_alike() {
        for name in EXAMPLES.split(", ") {
            let counter: Counter = name.parse().unwrap();
            assert_eq!(counter.to_string(), name);
        }
    }

    #[test]
    fn names_no_other_file() {
        for name in [
            "",
            "shadow.x",
            "/etc/passwd.x",
            "pressure.../../etc.some",
            "pressure.memory",
            "pressure.memory.most",
            "vmstat.",
            "vmstat.a b",
            "Tcp",
            "TcpExt.\n",
            "devices.x",
            "own.latency",
        ] {
            assert!(name.parse::<Counter>().is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back(text in ".{0,80}") {
            if let Ok(counter) = text.parse::<Counter>() {
                prop_assert_eq!(counter.to_string(), text);
            }
        }
    }
}
