//! The time as the governor is told it: it looks at no clock itself.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A minute of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    /// Monday is 0.
    pub day: u8,
    /// Minutes after midnight, below 1440.
    pub minute: u16,
}

impl WallTime {
    /// Of a number of seconds since 1970 as they are counted at UTC; add the zone's offset for another.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> WallTime {
        // 1970-01-01 was a Thursday.
        let day = (seconds.div_euclid(86_400) + 3).rem_euclid(7);
        let minute = seconds.rem_euclid(86_400) / 60;
        WallTime {
            day: day as u8,
            minute: minute as u16,
        }
    }
}

/// A moment on each of the clocks that rules go by.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For rests and limits.
    pub instant: Instant,
    /// For windows in UTC.
    pub utc: WallTime,
    /// For windows in local time.
    pub local: WallTime,
}

impl Moment {
    /// Now, on this host.
    #[must_use]
    pub fn now() -> Moment {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
        let utc = WallTime::from_seconds(seconds);
        Moment {
            instant: Instant::now(),
            utc,
            local: local(seconds).unwrap_or(utc),
        }
    }
}

/// For simulations and tests without windows: the week's clocks stand at 1970-01-01, a Thursday, 00:00.
impl From<Instant> for Moment {
    fn from(instant: Instant) -> Moment {
        let wall = WallTime::from_seconds(0);
        Moment {
            instant,
            utc: wall,
            local: wall,
        }
    }
}

/// In the host's time zone; the C library knows it.
fn local(seconds: i64) -> Option<WallTime> {
    let time = libc::time_t::try_from(seconds).ok()?;
    // SAFETY: all bytes zero is a valid `tm`: integers, and a pointer that may be null.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right type; localtime_r keeps neither.
    let done = unsafe { libc::localtime_r(&raw const time, &raw mut parts) };
    if done.is_null() {
        return None;
    }
    // Sunday is 0 there.
    Some(WallTime {
        day: u8::try_from((parts.tm_wday + 6) % 7).ok()?,
        minute: u16::try_from(parts.tm_hour * 60 + parts.tm_min).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_days() {
        for (seconds, day, minute) in [
            (0, 3, 0),
            (-1, 2, 1439),
            (4 * 86_400 + 61, 0, 1),
            // 2026-11-25 19:14:07 UTC, a Wednesday.
            (1_795_634_047, 2, 19 * 60 + 14),
        ] {
            assert_eq!(
                WallTime::from_seconds(seconds),
                WallTime { day, minute },
                "{seconds}"
            );
        }
    }

    #[test]
    fn local_time_is_utc_shifted_by_quarters() {
        let now = Moment::now();
        let minutes = |at: WallTime| i32::from(at.day) * 1440 + i32::from(at.minute);
        let shift = (minutes(now.local) - minutes(now.utc)).rem_euclid(7 * 1440);
        assert_eq!(shift % 15, 0, "{now:?}");
    }
}
