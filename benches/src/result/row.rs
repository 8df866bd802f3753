//! A figure beside its goal, and the verdict.

use serde::{Deserialize, Serialize};

use super::{
    format::shown,
    interval::{self, Interval},
    load::Busy,
    origin::Origin,
};

/// Below this many samples there is no verdict.
pub const LEAST: usize = 5;

/// Where a figure, or its ratio where it has one, shall lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Goal {
    /// There or below.
    #[serde(rename = "at most")]
    AtMost(f64),
    /// There or above.
    #[serde(rename = "at least")]
    AtLeast(f64),
}

/// Whether a goal is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The whole interval lies on the good side.
    #[serde(rename = "met")]
    Met,
    /// The whole interval lies on the bad side.
    #[serde(rename = "not met")]
    NotMet,
    /// The samples do not tell, or the machine was busy; [`Row::why`] says which.
    #[serde(rename = "no verdict")]
    Open,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// "µs", "/s"; empty for a plain number.
    pub unit: String,
    /// The figure: a median where there are samples.
    pub ours: f64,
    /// Its interval, where it is a median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// What it is compared with.
    pub rival_name: Option<String>,
    /// The other's figure.
    pub rival: Option<f64>,
    /// Ours by the rival's.
    pub ratio: Option<Interval>,
    /// How many samples, of each.
    pub samples: usize,
    /// Not a matter of chance or of time: judged as it is, on a busy machine too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
    /// Of the ratio where there is one, else of the figure.
    pub goal: Option<Goal>,
    /// Where there is a goal.
    pub verdict: Option<Verdict>,
    /// Why there is no verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What lies behind the figure, for machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
    /// On what, when.
    #[serde(flatten)]
    pub origin: Origin,
}

impl Row {
    fn new(name: impl Into<String>, unit: &str, ours: f64, samples: usize) -> Row {
        Row {
            name: name.into(),
            unit: unit.into(),
            ours,
            interval: None,
            rival_name: None,
            rival: None,
            ratio: None,
            samples,
            exact: false,
            goal: None,
            verdict: None,
            why: None,
            detail: None,
            origin: Origin::default(),
        }
    }

    /// The median of samples.
    #[must_use]
    pub fn sampled(name: impl Into<String>, unit: &str, samples: &[f64]) -> Row {
        let found = interval::of_median(samples);
        let mut row = Row::new(name, unit, found.value, samples.len());
        row.interval = Some(found);
        row
    }

    /// A figure that stands for `samples` without an interval, such as the worst of them.
    #[must_use]
    pub fn figure(name: impl Into<String>, unit: &str, figure: f64, samples: usize) -> Row {
        Row::new(name, unit, figure, samples)
    }

    /// Something counted, which no other work on the machine changes.
    #[must_use]
    pub fn count(name: impl Into<String>, unit: &str, count: f64) -> Row {
        let mut row = Row::new(name, unit, count, 1);
        row.exact = true;
        row
    }

    /// Medians of two, and their ratio.
    #[must_use]
    pub fn compared(
        name: impl Into<String>,
        unit: &str,
        ours: &[f64],
        rival: (&str, &[f64]),
    ) -> Row {
        Row::two(name, unit, ours, rival, interval::ratio(ours, rival.1))
    }

    /// As [`Row::compared`], where the i-th of both were taken one after the other.
    ///
    /// # Panics
    /// Where the samples are not pairs.
    #[must_use]
    pub fn paired(name: impl Into<String>, unit: &str, ours: &[f64], rival: (&str, &[f64])) -> Row {
        let ratio = interval::paired_ratio(ours, rival.1);
        Row::two(name, unit, ours, rival, ratio)
    }

    fn two(
        name: impl Into<String>,
        unit: &str,
        ours: &[f64],
        (rival, theirs): (&str, &[f64]),
        ratio: Interval,
    ) -> Row {
        let samples = ours.len().min(theirs.len());
        let mut row = Row::new(name, unit, interval::median(ours), samples);
        row.rival_name = Some(rival.into());
        row.rival = Some(interval::median(theirs));
        row.ratio = Some(ratio);
        row
    }

    /// Another's figure beside it, without a ratio.
    #[must_use]
    pub fn beside(mut self, name: &str, figure: f64) -> Row {
        self.rival_name = Some(name.into());
        self.rival = Some(figure);
        self
    }

    /// What lies behind the figure.
    #[must_use]
    pub fn detail(mut self, detail: impl Serialize) -> Row {
        self.detail = serde_json::to_value(detail).ok();
        self
    }

    /// A goal.
    #[must_use]
    pub fn at_most(mut self, goal: f64) -> Row {
        self.goal = Some(Goal::AtMost(goal));
        self
    }

    /// A goal.
    #[must_use]
    pub fn at_least(mut self, goal: f64) -> Row {
        self.goal = Some(Goal::AtLeast(goal));
        self
    }

    /// "at most 0.3 x"; empty without one.
    #[must_use]
    pub fn goal_text(&self) -> String {
        let unit = if self.ratio.is_some() {
            "x"
        } else {
            &self.unit
        };
        match self.goal {
            None => String::new(),
            Some(Goal::AtMost(goal)) => format!("at most {}", shown(goal, unit)),
            Some(Goal::AtLeast(goal)) => format!("at least {}", shown(goal, unit)),
        }
    }

    /// Sets the verdict. `busy`: of the time in which the samples were taken.
    pub fn judge(&mut self, busy: Option<&Busy>) {
        let Some(goal) = self.goal else {
            (self.verdict, self.why) = (None, None);
            return;
        };
        let judged = self.ratio.or(self.interval).unwrap_or(Interval {
            value: self.ours,
            low: self.ours,
            high: self.ours,
        });
        let sides = match goal {
            Goal::AtMost(goal) => (judged.high <= goal, judged.low > goal),
            Goal::AtLeast(goal) => (judged.low >= goal, judged.high < goal),
        };
        let open = if !(judged.low.is_finite() && judged.high.is_finite()) {
            Some("nothing was measured".to_owned())
        } else if self.exact {
            None
        } else if self.samples < LEAST {
            Some(format!(
                "too few samples: {} of at least {LEAST}",
                self.samples
            ))
        } else {
            busy.and_then(Busy::why)
        };
        (self.verdict, self.why) = match (open, sides) {
            (Some(why), _) => (Some(Verdict::Open), Some(why)),
            (None, (true, _)) => (Some(Verdict::Met), None),
            (None, (_, true)) => (Some(Verdict::NotMet), None),
            _ => (
                Some(Verdict::Open),
                Some("the goal lies within the interval".into()),
            ),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(mut row: Row) -> (Verdict, String) {
        row.judge(None);
        (row.verdict.unwrap(), row.why.unwrap_or_default())
    }

    const ONES: [f64; 7] = [1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0];
    const TWOS: [f64; 7] = [2.0, 2.2, 1.8, 2.0, 2.1, 1.9, 2.0];

    #[test]
    fn a_goal_is_met_missed_or_open() {
        let row = || Row::compared("x", "µs", &ONES, ("y", &TWOS));
        assert_eq!(verdict(row().at_most(0.8)).0, Verdict::Met);
        assert_eq!(verdict(row().at_most(0.2)).0, Verdict::NotMet);
        assert_eq!(verdict(row().at_most(0.5)).0, Verdict::Open);
        assert_eq!(verdict(row().at_least(0.2)).0, Verdict::Met);
        assert_eq!(verdict(row().at_least(0.8)).0, Verdict::NotMet);
        let alone = Row::sampled("x", "µs", &TWOS);
        assert_eq!(verdict(alone.at_most(3.0)).0, Verdict::Met);
    }

    #[test]
    fn few_samples_tell_nothing() {
        let row = Row::compared("x", "µs", &ONES[..4], ("y", &TWOS)).at_most(0.8);
        assert_eq!(
            verdict(row),
            (Verdict::Open, "too few samples: 4 of at least 5".to_owned())
        );
        let nothing = Row::sampled("x", "µs", &[]).at_most(1.0);
        assert_eq!(verdict(nothing).1, "nothing was measured");
    }

    #[test]
    fn a_busy_machine_tells_only_what_is_counted() {
        let busy = Busy {
            others: 1.4,
            ..Busy::default()
        };
        let judged = |mut row: Row| {
            row.judge(Some(&busy));
            row.verdict.unwrap()
        };
        assert_eq!(
            judged(Row::sampled("x", "µs", &ONES).at_most(3.0)),
            Verdict::Open
        );
        assert_eq!(
            judged(Row::count("leaks", "", 0.0).at_most(0.0)),
            Verdict::Met
        );
        assert_eq!(
            judged(Row::count("leaks", "", 1.0).at_most(0.0)),
            Verdict::NotMet
        );
    }

    #[test]
    fn is_read_as_it_was_written() {
        let mut row = Row::compared("x", "µs", &ONES, ("y", &TWOS)).at_most(0.8);
        row.judge(None);
        let text = serde_json::to_string(&row).unwrap();
        for part in [
            r#""goal":{"at most":0.8}"#,
            r#""verdict":"met""#,
            r#""machine""#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
    }
}
