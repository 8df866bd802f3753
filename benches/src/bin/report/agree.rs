//! Do two runs say the same?

use lab::result::{Part, Results, Row, Verdict};

/// How the verdicts of two runs compare.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// Met in both, or not met in both.
    pub(crate) same: usize,
    /// No verdict in one of them or both.
    pub(crate) open: Vec<String>,
    /// Met in one, not met in the other.
    pub(crate) contradict: Vec<String>,
    /// Parts that were measured once: of one run only, or taken over from it by the other.
    pub(crate) once: usize,
}

/// Of the rows with goals that both have.
pub(crate) fn compare(one: &Results, other: &Results) -> Agreement {
    let mut found = Agreement::default();
    for part in &one.parts {
        let same = |p: &&Part| p.bench == part.bench && p.name == part.name;
        match other.parts.iter().find(same) {
            // A whole part takes as long to the tenth of a second in one run only.
            Some(again) if again.origin != part.origin || again.seconds != part.seconds => {
                for row in part.rows.iter().filter(|row| row.goal.is_some()) {
                    found.add(part, row, again);
                }
            }
            _ => found.once += 1,
        }
    }
    found
}

impl Agreement {
    fn add(&mut self, part: &Part, row: &Row, again: &Part) {
        let is_it = |r: &&Row| r.name == row.name && r.rival_name == row.rival_name;
        let Some(again) = again.rows.iter().find(is_it) else {
            return;
        };
        let said = || {
            let line = lab::result::line;
            let Part { bench, name, .. } = part;
            format!("{bench}, {name}: {} and {}", line(row), line(again))
        };
        match (row.verdict, again.verdict) {
            (Some(Verdict::Open) | None, _) | (_, Some(Verdict::Open) | None) => {
                self.open.push(said());
            }
            (a, b) if a == b => self.same += 1,
            _ => self.contradict.push(said()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two parts with rows of the same names, as two loads of one tuner have them.
    fn run(seconds: f64, figures: [[f64; 3]; 2]) -> Results {
        let mut results = Results::default();
        for (name, figures) in ["few", "many"].into_iter().zip(figures) {
            let mut part = Part {
                name: name.into(),
                seconds,
                ..Part::default()
            };
            for (at, figure) in figures.into_iter().enumerate() {
                let samples = [figure, figure * 1.01, figure * 0.99, figure, figure];
                part.row(Row::sampled(format!("row {at}"), "µs", &samples).at_most(10.0));
            }
            results.put(part);
        }
        results
    }

    #[test]
    fn tells_agreement_from_chance_and_contradiction() {
        let one = run(1.0, [[5.0, 10.0, 5.0], [15.0; 3]]);
        let found = compare(&one, &run(2.0, [[6.0, 9.0, 15.0], [16.0; 3]]));
        assert_eq!(
            (found.same, found.open.len(), found.contradict.len()),
            (4, 1, 1)
        );
        assert!(found.contradict[0].contains("few: | row 2"), "{found:?}");
    }

    #[test]
    fn what_was_measured_once_agrees_with_nothing() {
        let one = run(1.0, [[5.0; 3]; 2]);
        let mut other = run(2.0, [[5.0; 3]; 2]);
        other.parts[0] = one.parts[0].clone();
        let found = compare(&one, &other);
        assert_eq!((found.same, found.once), (3, 1));
        other.parts.truncate(1);
        assert_eq!(compare(&one, &other).once, 2);
    }
}
