//! Rows as Markdown, which a terminal shows as well.

use super::{Interval, Part, Row, Verdict};

/// A table of all rows.
#[must_use]
pub fn table(parts: &[Part]) -> String {
    let mut out = String::from("| what | figure | goal | met |\n|---|---|---|---|\n");
    for row in parts.iter().flat_map(|part| &part.rows) {
        out += &line(row);
        out.push('\n');
    }
    out
}

/// A row as a line of the table.
#[must_use]
pub fn line(row: &Row) -> String {
    let mut figure = shown(row.ours, &row.unit);
    if let (Some(rival), Some(name)) = (row.rival, &row.rival_name) {
        figure += &format!("; {name}: {}", shown(rival, &row.unit));
    }
    let range = |Interval { low, high, .. }| format!("({} to {})", two(low), two(high));
    if let Some(ratio) = row.ratio {
        figure += &format!("; {} x {}", two(ratio.value), range(ratio));
    } else if let (Some(interval), Some(_)) = (row.interval, row.goal) {
        figure += &format!(" {}", range(interval));
    }
    let met = match (row.verdict, &row.why) {
        (Some(Verdict::Met), _) => "yes".to_owned(),
        (Some(Verdict::NotMet), _) => "**no**".to_owned(),
        (Some(Verdict::Open), Some(why)) => format!("no verdict: {why}"),
        (Some(Verdict::Open), None) => "no verdict".to_owned(),
        (None, _) => String::new(),
    };
    format!("| {} | {figure} | {} | {met} |", row.name, row.goal_text())
}

/// When, by what and on what the parts were made: a sentence or two for each that differs.
#[must_use]
pub fn made(parts: &[Part]) -> String {
    let mut out: Vec<String> = Vec::new();
    let same = |a: &Part, b: &Part| (&a.command, &a.origin) == (&b.command, &b.origin);
    let mut left: Vec<&Part> = parts.iter().collect();
    while let Some(first) = left.first().copied() {
        let (these, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|part| same(part, first));
        left = others;
        let names = if these.len() == parts.len() {
            String::new()
        } else {
            let names: Vec<&str> = these.iter().map(|part| part.name.as_str()).collect();
            format!(" ({})", names.join(", "))
        };
        let kind = if first.quick {
            ", a quick run with few samples,"
        } else {
            ""
        };
        let origin = &first.origin;
        out.push(format!(
            "Made by `{}`{names}{kind} on {}, at commit {}: {}, Linux {}, {}.",
            first.command, origin.date, origin.commit, origin.machine, origin.kernel, first.libc
        ));
    }
    out.push(quiet(parts));
    out.join("\n")
}

/// One line on how quiet the machine was.
pub(super) fn quiet(parts: &[Part]) -> String {
    let seconds: f64 = parts.iter().map(|part| part.seconds).sum();
    let busiest = parts
        .iter()
        .max_by(|a, b| a.busy.others.total_cmp(&b.busy.others));
    let Some(busiest) = busiest else {
        return String::new();
    };
    let mean = parts
        .iter()
        .map(|part| part.busy.others * part.seconds)
        .sum::<f64>()
        / seconds.max(1e-9);
    format!(
        "Other programs kept {mean:.2} processors busy on average, at most {:.2} ({}). It took {seconds:.0} s.",
        busiest.busy.others, busiest.name
    )
}

/// Two digits behind the point, or three that say something.
fn two(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || size >= 1e15 || !value.is_finite() {
        shown(value, "")
    } else if size < 0.01 {
        format!("{value:.5}")
    } else if size < 0.1 {
        format!("{value:.3}")
    } else if size < 10.0 {
        format!("{value:.2}")
    } else {
        shown(value, "")
    }
}

/// A number with its unit, as a person writes it.
#[must_use]
pub fn shown(value: f64, unit: &str) -> String {
    let size = value.abs();
    let number = if !value.is_finite() {
        "none".to_owned()
    } else if size >= 1000.0 {
        grouped(value)
    } else if size >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        let digits = if size < 0.1 { 3 } else { 2 };
        let text = format!("{value:.digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    format!("{number} {unit}").trim().to_owned()
}

/// With a comma before each three digits.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0.0 { format!("-{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_do() {
        for (value, text) in [
            (0.0, "0"),
            (0.3, "0.3"),
            (0.0123, "0.012"),
            (1.25, "1.25"),
            (14.72, "14.7"),
            (128.4, "128"),
            (22_735.2, "22,735"),
            (1_234_567.0, "1,234,567"),
            (-1500.0, "-1,500"),
            (f64::NAN, "none"),
        ] {
            assert_eq!(shown(value, ""), text);
        }
        assert_eq!(shown(3.0, "µs"), "3 µs");
    }

    #[test]
    fn a_line_says_why_there_is_no_verdict() {
        let mut row = Row::sampled("blocked", "µs", &[1.0, 2.0]).at_most(3.0);
        row.judge(None);
        assert_eq!(
            line(&row),
            "| blocked | 1.5 µs (1.00 to 2.00) | at most 3 µs | no verdict: too few samples: 2 of at least 5 |"
        );
    }
}
