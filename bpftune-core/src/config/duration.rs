//! Times as people write them: "40ms", "10min".

use std::time::Duration;

/// Units with their milliseconds, largest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads one number with one unit.
///
/// # Errors
/// What is wrong with it, for a person.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let bad = || format!("\"{text}\" is no time");
    let number: u64 = number.parse().map_err(|_| bad())?;
    let unit = unit.trim();
    if unit.is_empty() {
        return Err(format!("\"{text}\" has no unit"));
    }
    let (_, ms) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(bad)?;
    number
        .checked_mul(*ms)
        .filter(|ms| *ms <= 3650 * 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("\"{text}\" is more than ten years"))
}

/// Writes a time with the largest unit that needs no fraction.
#[must_use]
pub(crate) fn text(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let exact = |(_, unit): &&(&str, u64)| ms >= *unit && ms % unit == 0;
    let (name, unit) = UNITS.iter().find(exact).copied().unwrap_or(("s", 1000));
    format!("{}{name}", ms / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for written in ["0s", "40ms", "1500ms", "60s", "90s", "10min", "1h", "90d"] {
            let duration = parse(written).unwrap();
            assert_eq!(parse(&text(duration)).unwrap(), duration, "{written}");
        }
        assert_eq!(text(Duration::from_secs(60)), "1min");
        assert_eq!(text(Duration::ZERO), "0s");
    }

    #[test]
    fn refuses_with_the_reason() {
        for (written, reason) in [
            ("60", "no unit"),
            ("", "no time"),
            ("-1s", "no time"),
            ("5 parsecs", "no time"),
            ("99999999999999999999s", "no time"),
            ("99999d", "ten years"),
        ] {
            let error = parse(written).unwrap_err();
            assert!(error.contains(reason), "{written}: {error}");
        }
    }
}
