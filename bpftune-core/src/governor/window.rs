//! Maintenance windows: when changes may be made.

use std::{fmt, str::FromStr};

use super::clock::WallTime;

/// Whose hours a window means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Zone {
    /// The host's time zone.
    #[default]
    Local,
    /// UTC.
    Utc,
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Zone::Local => "local",
            Zone::Utc => "utc",
        })
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Zone, String> {
        match text {
            "local" => Ok(Zone::Local),
            "utc" => Ok(Zone::Utc),
            _ => Err(format!("\"{text}\" is no zone")),
        }
    }
}

/// Days and hours of each week. Hours that end before they begin go on into the next day.
///
/// ```
/// use bpftune_core::governor::{Window, WallTime};
/// let night: Window = "mon-fri 22:00-06:00".parse().unwrap();
/// let at = |day, hour: u16| WallTime { day, minute: hour * 60 };
/// assert!(night.contains(at(0, 23)));
/// assert!(night.contains(at(5, 5)), "Friday's night goes on into Saturday");
/// assert!(!night.contains(at(5, 23)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// One bit a day, Monday the lowest.
    days: u8,
    /// Minutes after midnight.
    from: u16,
    /// Minutes after midnight, 24:00 allowed; not `from`.
    to: u16,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY: u16 = 24 * 60;

impl Window {
    /// Whether this minute is inside; the end is not.
    #[must_use]
    pub fn contains(&self, at: WallTime) -> bool {
        let on = |day: u8| self.days & (1 << (day % 7)) != 0;
        if self.from < self.to {
            on(at.day) && (self.from..self.to).contains(&at.minute)
        } else {
            (on(at.day) && at.minute >= self.from) || (on(at.day + 6) && at.minute < self.to)
        }
    }
}

fn day(text: &str) -> Result<usize, String> {
    DAYS.iter()
        .position(|day| text.eq_ignore_ascii_case(day))
        .ok_or_else(|| format!("\"{text}\" is no day: mon, tue, wed, thu, fri, sat, sun"))
}

fn days(text: &str) -> Result<u8, String> {
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        // "sat-mon" goes around the end of the week.
        let count = (last + 7 - first) % 7;
        for i in 0..=count {
            days |= 1 << ((first + i) % 7);
        }
    }
    Ok(days)
}

fn minute(text: &str) -> Result<u16, String> {
    let bad = || format!("\"{text}\" is no time of day such as 22:00");
    let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    match (number(hour), number(minute)) {
        (Some(hour), Some(minute)) if minute < 60 && hour * 60 + minute <= DAY => {
            Ok(hour * 60 + minute)
        }
        _ => Err(bad()),
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Window, String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (on, hours) = match words[..] {
            [hours] if hours.contains(':') => (0b111_1111, Some(hours)),
            [on] => (days(on)?, None),
            [on, hours] => (days(on)?, Some(hours)),
            _ => return Err(format!("\"{text}\" is no window")),
        };
        let (from, to) = match hours {
            None => (0, DAY),
            Some(hours) => {
                let (from, to) = hours.split_once('-').ok_or_else(|| {
                    format!("\"{hours}\" is no range of hours such as 22:00-06:00")
                })?;
                (minute(from)?, minute(to)?)
            }
        };
        if from == to || from == DAY {
            return Err(format!("\"{text}\" is empty"));
        }
        Ok(Window { days: on, from, to })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = DAYS
            .iter()
            .enumerate()
            .filter(|(i, _)| self.days & (1 << i) != 0);
        let names: Vec<&str> = names.map(|(_, name)| *name).collect();
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(
            f,
            "{} {}-{}",
            names.join(","),
            time(self.from),
            time(self.to)
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(day: u8, minute: u16) -> WallTime {
        WallTime { day, minute }
    }

    #[test]
    fn edges() {
        let window: Window = "sat,sun 08:00-24:00".parse().unwrap();
        assert!(!window.contains(at(5, 479)) && window.contains(at(5, 480)));
        assert!(window.contains(at(6, DAY - 1)) && !window.contains(at(0, 0)));
        let around: Window = "sun 23:00-01:00".parse().unwrap();
        assert!(
            around.contains(at(0, 59)) && !around.contains(at(0, 60)) && !around.contains(at(6, 0))
        );
        let week: Window = "fri-mon".parse().unwrap();
        assert!(week.contains(at(0, 5)) && !week.contains(at(1, 5)) && week.contains(at(4, 0)));
        let daily: Window = "02:00-03:00".parse().unwrap();
        assert!((0..7).all(|day| daily.contains(at(day, 150))));
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, reason) in [
            ("", "no window"),
            ("funday 10:00-11:00", "no day"),
            ("mon 10-11", "no time of day"),
            ("mon 10:00", "no range"),
            ("mon 10:00-10:00", "empty"),
            ("mon 24:01-25:00", "no time of day"),
            ("mon 10:00-11:00 UTC", "no window"),
            ("mon 1:00-2:00", "no time of day"),
        ] {
            let error = text.parse::<Window>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_reads(days in 1u8..128, from in 0..DAY, to in 1..=DAY) {
            prop_assume!(from != to);
            let window = Window { days, from, to };
            prop_assert_eq!(window.to_string().parse::<Window>().unwrap(), window);
        }
    }
}
