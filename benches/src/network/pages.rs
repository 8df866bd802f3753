//! Scenarios as pages show them: a line each, and how the figure moved.

use bpftune_core::stats::median;
use serde::Deserialize;

use super::{Run, SETTINGS, Setting, report::names};
use crate::result::{Curve, Goal, Part, Row, Verdict, shown};

/// A Markdown table with a line a scenario: the figure in each setting, and how the tuner got there. It says whose
/// scenario each is where they are not all of one tuner.
#[must_use]
pub fn scenarios(parts: &[Part]) -> String {
    let mut out = String::from(
        "| load | figure | off | on | by hand | TuneD | good again after | changes, taken back | goals met |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let of_one = parts.iter().all(|part| part.bench == parts[0].bench);
    for part in parts {
        let Some((what, unit)) = metric(part) else {
            continue;
        };
        let whose = if of_one { "" } else { &part.bench };
        let load = format!("{whose} {}", part.name);
        let cells = SETTINGS.map(|setting| {
            in_setting(part, setting).map_or(String::new(), |figure| shown(figure, unit))
        });
        let of = |name: &str| part.rows.iter().find(|row| row.name.starts_with(name));
        let number = |name| of(name).map_or(String::new(), |row| shown(row.ours, &row.unit));
        let again = of(names::GOOD_AGAIN).map_or(String::new(), good_again);
        let taken_back = number(names::REVERSALS);
        let changes = match number(names::LASTING) {
            none if none.is_empty() => format!("{}, {taken_back}", number(names::CHANGES)),
            lasting if taken_back.is_empty() => format!("{lasting} lasting"),
            lasting => format!("{lasting} lasting, {taken_back} taken back"),
        };
        out += &format!(
            "| {} | {what} | {} | {again} | {changes} | {} |\n",
            load.trim(),
            cells.join(" | "),
            goals(&part.rows)
        );
    }
    out
}

/// How the figure moved with the turns of a run, in each setting; nothing where the part is no scenario.
#[must_use]
pub fn curve(part: &Part) -> Option<Curve> {
    let (what, unit) = metric(part)?;
    let detail = part.rows.iter().find_map(|row| row.detail.as_ref())?;
    let runs = Vec::<Run>::deserialize(detail).ok()?;
    let figure = format!("{what}, {unit}");
    let title = format!("{}: {}", part.bench, part.name);
    let mut curve = Curve::new(&title, "seconds from the start of the load", &figure).linear();
    for setting in SETTINGS {
        let of = || runs.iter().filter(|run| run.setting == setting);
        let turns = of().map(|run| run.figures.len()).max().unwrap_or(0);
        for turn in 0..turns {
            let at = |of_run: fn(&Run) -> &[f64]| {
                let values: Vec<f64> = of()
                    .filter_map(|run| of_run(run).get(turn))
                    .copied()
                    .collect();
                median(&values)
            };
            if let (Some(end), Some(figure)) = (at(|run| &run.ends), at(|run| &run.figures)) {
                curve.add(setting.name(), end, figure);
            }
        }
    }
    Some(curve)
}

/// What the scenario measures, and its unit: of the first figure, which is that with the tuner on.
fn metric(part: &Part) -> Option<(&str, &str)> {
    let first = part.rows.first()?;
    let what = first.name.strip_suffix(names::ON)?;
    Some((what, &first.unit))
}

/// The figure in a setting, wherever a row has it.
fn in_setting(part: &Part, setting: Setting) -> Option<f64> {
    let rival = |name| {
        let row = part
            .rows
            .iter()
            .find(|row| row.rival_name.as_deref() == Some(name))?;
        row.rival
    };
    match setting {
        Setting::On => Some(part.rows.first()?.ours),
        Setting::Off => rival(names::TUNER_OFF),
        Setting::ByHand => rival(names::BY_HAND),
        Setting::TuneD => {
            let row = part
                .rows
                .iter()
                .find(|row| row.name.contains(names::TUNED))?;
            Some(row.ours)
        }
    }
}

fn good_again(row: &Row) -> String {
    match row.ours {
        never if never >= super::NEVER => "never".into(),
        // Within the first turn, or not once worse.
        0.0 => "at once".into(),
        seconds => shown(seconds, &row.unit),
    }
}

/// "all 5", or how many and what of the others is the matter.
fn goals(rows: &[Row]) -> String {
    let with_goal: Vec<&Row> = rows.iter().filter(|row| row.goal.is_some()).collect();
    let met = |row: &&&Row| row.verdict == Some(Verdict::Met);
    let count = with_goal.iter().filter(met).count();
    if count == with_goal.len() {
        return format!("all {count}");
    }
    let others = with_goal.iter().filter(|row| !met(row)).map(|row| {
        let is = row.ratio.map_or(row.ours, |ratio| ratio.value);
        let goal = match row.goal {
            Some(Goal::AtMost(most)) => format!("at most {}", shown(most, "")),
            Some(Goal::AtLeast(least)) => format!("at least {}", shown(least, "")),
            None => String::new(),
        };
        let beside = row.rival_name.as_deref().filter(|_| row.ratio.is_some());
        let beside = beside.map_or(String::new(), |name| format!(" by {name}"));
        let verdict = if row.verdict == Some(Verdict::NotMet) {
            "**not met**"
        } else {
            "no verdict"
        };
        format!("{verdict}: {}{beside} {} ({goal})", row.name, shown(is, ""))
    });
    let others: Vec<String> = others.collect();
    format!("{count} of {}; {}", with_goal.len(), others.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> Part {
        let mut part = Part {
            bench: "tcp-listen".into(),
            name: "burst".into(),
            ..Part::default()
        };
        let runs = [
            Run::each_second(Setting::Off, &[10.0, 11.0]),
            Run::each_second(Setting::On, &[10.0, 90.0, 99.0]),
            Run::each_second(Setting::On, &[12.0, 90.0, 101.0]),
        ];
        let five = |value: f64| vec![value; 5];
        let row = |rival: &str, value| {
            let name = format!("served{}", names::ON);
            Row::compared(name, "/s", &five(100.0), (rival, &five(value))).at_least(0.9)
        };
        part.row(row(names::BY_HAND, 100.0).detail(&runs));
        part.row(row(names::TUNER_OFF, 10.0));
        let tuned = format!("served{}network-throughput", names::TUNED);
        part.row(Row::compared(
            tuned,
            "/s",
            &five(50.0),
            (names::BY_HAND, &five(100.0)),
        ));
        part.row(Row::figure(names::GOOD_AGAIN, "s", 12.0, 5).at_most(10.0));
        part.row(Row::count(names::CHANGES, "", 2.0));
        part.row(Row::count(names::REVERSALS, "", 0.0).at_most(0.0));
        part
    }

    #[test]
    fn a_line_has_every_setting_and_what_was_missed() {
        let text = scenarios(&[part(), Part::default()]);
        let line = text.lines().nth(2).unwrap();
        assert_eq!(
            line,
            "| tcp-listen burst | served | 10 /s | 100 /s | 100 /s | 50 /s | 12 s | 2, 0 | 3 of 4; **not met**: \
             time from onset to good again, slowest 12 (at most 10) |"
        );
        assert_eq!(text.lines().count(), 3, "what is no scenario is left out");
        assert!(scenarios(&[part()]).contains("\n| burst | served |"));
    }

    #[test]
    fn of_a_trap_a_line_has_what_lasts_and_what_was_taken_back() {
        let mut trap = part();
        trap.rows.pop();
        trap.row(Row::count(names::LASTING, "", 0.0).at_most(0.0));
        assert!(scenarios(&[trap.clone()]).contains("| 0 lasting |"));
        trap.row(Row::count(names::REVERSALS, "", 2.0));
        assert!(scenarios(&[trap]).contains("| 0 lasting, 2 taken back |"));
    }

    #[test]
    fn the_curve_is_the_median_of_the_runs() {
        let curve = curve(&part()).unwrap();
        let names: Vec<_> = curve.series.iter().map(|series| &*series.name).collect();
        assert_eq!(names, ["tuner off", "tuner on"]);
        assert_eq!(
            curve.series[1].points,
            [(1.0, 11.0), (2.0, 90.0), (3.0, 100.0)]
        );
        assert!(super::curve(&Part::default()).is_none());
    }
}
