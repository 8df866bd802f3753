//! Sizes that may depend on the machine.

use std::{fmt, str::FromStr};

use crate::Machine;

/// A bound or a budget: a number in the tunable's own unit, a size, or a share of the machine's memory.
///
/// ```
/// use bpftune_core::config::Amount;
/// let amount: Amount = "1/64 ram".parse().unwrap();
/// assert_eq!(amount, Amount::Ram { parts: 1, of: 64 });
/// assert_eq!("64MiB".parse(), Ok(Amount::Bytes(64 << 20)));
/// assert_eq!("2%".parse(), Ok(Amount::Ram { parts: 2, of: 100 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// In the tunable's unit, whatever that is.
    Number(i64),
    /// Bytes.
    Bytes(u64),
    /// `parts` of `of` equal parts of `MemTotal`.
    Ram {
        /// Above the line.
        parts: u32,
        /// Below it; not 0, and not less than `parts`.
        of: u32,
    },
}

/// Units of sizes, largest first.
const UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Amount {
    /// In the unit of a tunable: "bytes", "pages", or anything that only a plain number can mean. `None`
    /// where a size or a share makes no sense for that unit.
    #[must_use]
    pub fn in_unit(self, unit: &str, machine: &Machine) -> Option<i64> {
        let bytes = match self {
            Amount::Number(number) => return Some(number),
            Amount::Bytes(_) | Amount::Ram { .. } => self.bytes(machine),
        };
        let number = match unit {
            "bytes" => bytes,
            "pages" => bytes / machine.page_size.max(1),
            _ => return None,
        };
        Some(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// In bytes; a plain number is one of bytes.
    #[must_use]
    pub fn bytes(self, machine: &Machine) -> u64 {
        match self {
            Amount::Number(number) => u64::try_from(number).unwrap_or(0),
            Amount::Bytes(bytes) => bytes,
            Amount::Ram { parts, of } => {
                let share =
                    u128::from(machine.memory_total) * u128::from(parts) / u128::from(of.max(1));
                u64::try_from(share).unwrap_or(u64::MAX)
            }
        }
    }

    pub(super) fn as_toml(&self) -> String {
        match self {
            Amount::Number(number) => number.to_string(),
            _ => format!("\"{self}\""),
        }
    }
}

/// Only amounts of one kind can be compared without a machine.
impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Amount) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Amount::Number(a), Amount::Number(b)) => a.partial_cmp(b),
            (Amount::Bytes(a), Amount::Bytes(b)) => a.partial_cmp(b),
            (Amount::Ram { parts: a, of: c }, Amount::Ram { parts: b, of: d }) => {
                (u64::from(*a) * u64::from(*d)).partial_cmp(&(u64::from(*b) * u64::from(*c)))
            }
            _ => None,
        }
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Amount, String> {
        let bad = || format!("\"{text}\" is no amount");
        let trimmed = text.trim();
        let (share, ram) = match trimmed.strip_suffix("ram") {
            Some(share) => (share.trim_end(), true),
            None => (trimmed, false),
        };
        if let Some((parts, of)) = share.split_once('/').filter(|_| ram) {
            let (parts, of) = (parts.trim(), of.trim());
            return ram_share(
                parts.parse().map_err(|_| bad())?,
                of.parse().map_err(|_| bad())?,
            )
            .ok_or_else(|| format!("\"{text}\" is no part of the memory"));
        }
        if let Some(percent) = share.strip_suffix('%') {
            // Two decimals: "0.25%".
            let (whole, decimals) = percent
                .trim_end()
                .split_once('.')
                .unwrap_or((percent.trim_end(), ""));
            let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
            if whole.is_empty() || !digits(whole) || !digits(decimals) || decimals.len() > 2 {
                return Err(bad());
            }
            let (parts, of) = match decimals {
                "" => (whole.parse().ok(), 100),
                _ => (format!("{whole}{decimals:0<2}").parse().ok(), 10_000),
            };
            return ram_share(parts.ok_or_else(bad)?, of)
                .ok_or_else(|| format!("\"{text}\" is no part of the memory"));
        }
        if ram {
            return Err(bad());
        }
        let end = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let unit = unit.trim_start();
        if unit.is_empty() {
            return i64::try_from(number)
                .map(Amount::Number)
                .map_err(|_| format!("\"{text}\" is too large"));
        }
        let (_, size) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("\"{text}\" has none of the units B, KiB, MiB, GiB, TiB"))?;
        let bytes = number
            .checked_mul(*size)
            .filter(|bytes| i64::try_from(*bytes).is_ok());
        bytes
            .map(Amount::Bytes)
            .ok_or_else(|| format!("\"{text}\" is too large"))
    }
}

fn ram_share(parts: u32, of: u32) -> Option<Amount> {
    (of > 0 && parts <= of).then_some(Amount::Ram { parts, of })
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Amount::Number(number) => write!(f, "{number}"),
            Amount::Bytes(bytes) => {
                let exact = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes % unit == 0;
                let (name, unit) = UNITS.iter().find(exact).copied().unwrap_or(("B", 1));
                write!(f, "{}{name}", bytes / unit)
            }
            Amount::Ram { parts, of: 100 } => write!(f, "{parts}%"),
            Amount::Ram { parts, of } => write!(f, "{parts}/{of} ram"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            memory_total: 64 << 30,
            memory_available: 1 << 30,
            page_size: 4096,
            cpus: 1,
            tcp_memory: 0,
            tcp_memory_pressure: u64::MAX,
        }
    }

    #[test]
    fn means_what_it_says() {
        for (text, unit, number) in [
            ("1/64 ram", "bytes", 1 << 30),
            ("50%", "pages", 8 << 20),
            ("64MiB", "pages", 16384),
            ("12.5% ram", "bytes", 8 << 30),
            ("0B", "bytes", 0),
            ("17", "boolean", 17),
        ] {
            let amount: Amount = text.parse().unwrap();
            assert_eq!(amount.in_unit(unit, &machine()), Some(number), "{text}");
            assert_eq!(
                amount
                    .to_string()
                    .parse::<Amount>()
                    .unwrap()
                    .bytes(&machine()),
                amount.bytes(&machine())
            );
        }
        assert_eq!(Amount::Bytes(1).in_unit("boolean", &machine()), None);
    }

    #[test]
    fn refuses_what_is_no_amount() {
        for text in [
            "",
            "ram",
            "1/0 ram",
            "2/1 ram",
            "101%",
            "-1%",
            "1.234%",
            "64MB",
            "MiB",
            "1/64",
            "9999999TiB",
            "99999999999999999999",
            "1/ ram",
            "%",
            "٣%",
        ] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }
}
