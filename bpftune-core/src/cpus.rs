//! Sets of processors, in the two ways in which the kernel writes them.

use std::{collections::BTreeSet, fmt, fs, path::Path};

use crate::Error;

/// Processors by number. It prints as the kernel's lists do, "0-3,8", and an empty one as "none".
///
/// ```
/// use bpftune_core::Cpus;
/// let cpus: Cpus = "0-2,33".parse().unwrap();
/// assert_eq!(cpus.mask(), "00000002,00000007");
/// assert_eq!(Cpus::of_mask("00000002,00000007\n").unwrap(), cpus);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cpus(BTreeSet<u32>);

/// More than any Linux can be built for (CONFIG_NR_CPUS): a guard against a list such as "0-4294967295".
const MOST: u32 = 1 << 16;

impl Cpus {
    /// Of the kernel's hexadecimal words, the highest first, as in `rps_cpus` (Documentation/core-api/cpu_hotplug.rst).
    ///
    /// # Errors
    /// [`Error::Value`] where the text is none.
    pub fn of_mask(text: &str) -> Result<Cpus, Error> {
        let bad = || Error::Value {
            text: text.to_owned(),
        };
        let words: Vec<&str> = text.trim().split(',').collect();
        if words.len() > MOST as usize / 32 {
            return Err(bad());
        }
        let mut cpus = BTreeSet::new();
        for (first, word) in (0u32..).step_by(32).zip(words.iter().rev()) {
            // A sign is no digit of a mask, though Rust would take it.
            if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(bad());
            }
            let word = u32::from_str_radix(word, 16).map_err(|_| bad())?;
            cpus.extend(
                (0..32)
                    .filter(|bit| word >> bit & 1 == 1)
                    .map(|bit| first + bit),
            );
        }
        Ok(Cpus(cpus))
    }

    /// As a mask in the kernel's words.
    #[must_use]
    pub fn mask(&self) -> String {
        let words = self.0.last().map_or(1, |last| last / 32 + 1);
        let word = |at: u32| {
            let bits = self.0.range(at * 32..(at + 1) * 32);
            bits.fold(0u32, |word, cpu| word | 1 << (cpu % 32))
        };
        let words: Vec<String> = (0..words)
            .rev()
            .map(|at| format!("{:08x}", word(at)))
            .collect();
        words.join(",")
    }

    /// As the kernel's list; nothing where it is empty.
    #[must_use]
    pub fn list(&self) -> String {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for &cpu in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        let texts: Vec<String> = ranges
            .into_iter()
            .map(|(first, last)| match last - first {
                0 => first.to_string(),
                _ => format!("{first}-{last}"),
            })
            .collect();
        texts.join(",")
    }

    /// The list that a file holds, such as /sys/devices/system/cpu/isolated; empty where there is no such file.
    #[must_use]
    pub fn in_file(path: &Path) -> Cpus {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.parse().unwrap_or_default()
    }

    /// Those of this host that are online.
    #[must_use]
    pub fn online() -> Cpus {
        Cpus::in_file(Path::new("/sys/devices/system/cpu/online"))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Whether all of them are among others.
    #[must_use]
    pub fn is_within(&self, others: &Cpus) -> bool {
        self.0.is_subset(&others.0)
    }

    /// Those that others have too.
    #[must_use]
    pub fn and(&self, others: &Cpus) -> Cpus {
        Cpus(&self.0 & &others.0)
    }

    /// Those that others have not.
    #[must_use]
    pub fn without(&self, others: &Cpus) -> Cpus {
        Cpus(&self.0 - &others.0)
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<u32> for Cpus {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Cpus {
        Cpus(cpus.into_iter().collect())
    }
}

impl std::str::FromStr for Cpus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Cpus, Error> {
        let bad = || Error::Value {
            text: text.to_owned(),
        };
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed == "none" {
            return Ok(Cpus::default());
        }
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse::<u32>().ok().filter(|_| digits);
            number.filter(|number| *number < MOST).ok_or_else(bad)
        };
        let mut cpus = BTreeSet::new();
        for range in trimmed.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(bad());
            }
            cpus.extend(first..=last);
        }
        Ok(Cpus(cpus))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.list())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_ways_of_writing_are_read_back(cpus in prop::collection::btree_set(0u32..300, 0..40)) {
            let cpus: Cpus = cpus.into_iter().collect();
            prop_assert_eq!(&Cpus::of_mask(&cpus.mask()).unwrap(), &cpus);
            prop_assert_eq!(&cpus.to_string().parse::<Cpus>().unwrap(), &cpus);
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".*") {
            let _ = (Cpus::of_mask(&text), text.parse::<Cpus>());
        }

        #[test]
        fn text_of_digits_is_read_without_panic(text in "[0-9a-f,-]{0,30}") {
            let _ = (Cpus::of_mask(&text), text.parse::<Cpus>());
        }
    }

    #[test]
    fn masks_are_as_the_kernel_shows_them() {
        for (mask, list) in [
            ("0\n", "none"),
            ("3\n", "0-1"),
            ("ff", "0-7"),
            ("00000000,80000001", "0,31"),
            ("1,00000000", "32"),
        ] {
            assert_eq!(Cpus::of_mask(mask).unwrap().to_string(), list, "{mask:?}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "x", "1,,2", "+1", "100000000", "-"] {
            assert!(Cpus::of_mask(text).is_err(), "{text:?}");
        }
        for text in ["x", "1,,2", "+1", "3-1", "0-4294967295", "1-", "-"] {
            assert!(text.parse::<Cpus>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn this_host_has_some() {
        let online = Cpus::online();
        assert!(!online.is_empty());
        assert!(Cpus::in_file(Path::new("/no/such/file")).is_empty());
    }
}
