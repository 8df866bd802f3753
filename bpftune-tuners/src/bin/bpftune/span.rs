//! Spans of time and moments on the command line: "90s", "10m", "2h", "3d", "@1763900000".

use std::time::Duration;

use bpftune_core::journal::now_ms;

/// A number and a unit.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no span of time: they look like 90s, 10m, 2h or 3d");
    let (number, unit) = text
        .char_indices()
        .last()
        .map(|(at, _)| text.split_at(at))
        .ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// A moment, unix milliseconds: so long ago, or seconds since 1970 after an "@".
pub(crate) fn moment(text: &str) -> Result<i64, String> {
    match text.strip_prefix('@') {
        Some(seconds) => seconds
            .parse::<i64>()
            .ok()
            .and_then(|seconds| seconds.checked_mul(1000))
            .ok_or_else(|| {
                format!("\"{text}\" is no moment: they look like @1763900000 (unix seconds)")
            }),
        None => Ok(now_ms() - span(text)?.as_millis() as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_spans_and_moments() {
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("3d"), Ok(Duration::from_secs(3 * 86400)));
        for wrong in ["", "s", "10", "1.5h", "-1h", "10 m", "10µ", "99999999999d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert_eq!(moment("@5"), Ok(5000));
        assert!(moment("@x").is_err() && moment("@9223372036854775807").is_err());
        let hour = now_ms() - moment("1h").unwrap();
        assert!((3_600_000..3_601_000).contains(&hour));
    }
}
