//! Do two runs say the same?

use lab::result::{Results, Row, Verdict};

/// How the verdicts of two runs compare.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// Met in both, or not met in both.
    pub(crate) same: usize,
    /// No verdict in one of them or both.
    pub(crate) open: Vec<String>,
    /// Met in one, not met in the other.
    pub(crate) contradict: Vec<String>,
}

fn rows(results: &Results) -> impl Iterator<Item = (String, &Row)> {
    results.parts.iter().flat_map(|part| {
        part.rows
            .iter()
            .filter(|row| row.goal.is_some())
            .map(move |row| {
                let rival = row.rival_name.as_deref().unwrap_or_default();
                (format!("{}: {} {rival}", part.bench, row.name), row)
            })
    })
}

/// Of the rows with goals that both have.
pub(crate) fn compare(one: &Results, other: &Results) -> Agreement {
    let mut found = Agreement::default();
    for (name, row) in rows(one) {
        let Some((_, again)) = rows(other).find(|(other, _)| *other == name) else {
            continue;
        };
        let said = format!(
            "{name}: {} and {}",
            lab::result::line(row),
            lab::result::line(again)
        );
        match (row.verdict, again.verdict) {
            (Some(Verdict::Open) | None, _) | (_, Some(Verdict::Open) | None) => {
                found.open.push(said)
            }
            (a, b) if a == b => found.same += 1,
            _ => found.contradict.push(said),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use lab::result::Part;

    use super::*;

    fn run(figures: [f64; 3]) -> Results {
        let mut part = Part::default();
        for (at, figure) in figures.into_iter().enumerate() {
            let samples = [figure, figure * 1.01, figure * 0.99, figure, figure];
            part.row(Row::sampled(format!("row {at}"), "µs", &samples).at_most(10.0));
        }
        let mut results = Results::default();
        results.put(part);
        results
    }

    #[test]
    fn tells_agreement_from_chance_and_contradiction() {
        let found = compare(&run([5.0, 10.0, 5.0]), &run([6.0, 9.0, 15.0]));
        assert_eq!(
            (found.same, found.open.len(), found.contradict.len()),
            (1, 1, 1)
        );
        assert!(found.contradict[0].contains("row 2"));
    }
}
