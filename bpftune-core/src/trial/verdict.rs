//! From windows to a verdict and its figures.

use super::{Guard, Harm, Measure, Outcome, Plan, Side, record::GuardRecord};
use crate::stats::{Direction, Effect, Role, Rule, Samples, judge};

/// What the windows say of a change, and of each guard.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Findings {
    pub(super) outcome: Outcome,
    pub(super) guards: Vec<GuardRecord>,
}

/// Judges the sides. An early look finds harm or nothing, at a much stricter level.
pub(super) fn find(plan: &Plan, without: &Side, with: &Side, early: bool) -> Findings {
    let among = plan.guards.len().max(1) as f64;
    let rule = Rule {
        windows: if early { usize::MAX } else { 1 },
        alpha: plan.alpha / among,
        early: Rule::default().early / among,
    };
    let none = Vec::new();
    let guards: Vec<GuardRecord> = plan
        .guards
        .iter()
        .enumerate()
        .map(|(i, guard)| {
            let samples = Samples {
                metric: &guard.metric,
                before: without.windows.get(i).unwrap_or(&none),
                after: with.windows.get(i).unwrap_or(&none),
            };
            let judgement = judge(&rule, plan.layout, &[samples]);
            let mut found = GuardRecord {
                name: guard.metric.name.clone().into_owned(),
                better: guard.metric.better,
                without: without.level(i),
                with: with.level(i),
                shift: judgement.shifts[0].map(Into::into),
                effect: judgement.effect,
                factor: guard.factor,
                unit: guard.unit.clone().into_owned(),
                note: String::new(),
            };
            if with.sample(i, guard) < guard.least {
                found.effect = Effect::Unclear;
                found.note = "too little to judge".into();
            }
            found
        })
        .collect();
    weigh(plan, guards)
}

fn weigh(plan: &Plan, mut guards: Vec<GuardRecord>) -> Findings {
    let doubled = |share: &GuardRecord, measure: &Measure| {
        let useful = |level: f64, lost: Option<f64>| match measure {
            Measure::Share { .. } => level * (1.0 - lost.unwrap_or(0.0)),
            _ => level,
        };
        plan.guards.iter().zip(&guards).any(|(guard, found)| {
            let (Some(without), Some(with)) = (found.without, found.with) else {
                return false;
            };
            let (without, with) = (useful(without, share.without), useful(with, share.with));
            guard.metric.role == Role::Goal
                && match guard.metric.better {
                    Direction::Higher => with >= without * 2.0,
                    Direction::Lower => with * 2.0 <= without,
                }
        })
    };
    let forgiven: Vec<Option<&str>> = plan
        .guards
        .iter()
        .zip(&guards)
        .map(|(guard, found)| {
            let less_than = |times: f64| {
                let (Some(without), Some(with)) = (found.without, found.with) else {
                    return false;
                };
                match guard.metric.better {
                    Direction::Lower => with < without * times,
                    Direction::Higher => with * times > without,
                }
            };
            match guard.harm {
                _ if found.effect != Effect::Worse => None,
                _ if less_than(guard.worse_by) => Some("too small a change to matter"),
                Harm::ProvesNothing => Some("a load that ended would look the same"),
                Harm::PriceUpTo(price)
                    if found.with.is_some_and(|with| with <= price)
                        && doubled(found, &guard.measure) =>
                {
                    Some("the price of more than twice the goal")
                }
                Harm::PriceUpTo(_) | Harm::Counts => None,
            }
        })
        .collect();
    let any = |effect| guards.iter().any(|found| found.effect == effect);
    let harm = guards
        .iter()
        .zip(&forgiven)
        .any(|(found, forgiven)| found.effect == Effect::Worse && forgiven.is_none());
    let outcome = if harm {
        Outcome::Worse
    } else if any(Effect::Better) {
        Outcome::Better
    } else if !guards.is_empty() && guards.iter().all(|found| found.effect == Effect::Same) {
        Outcome::Same
    } else {
        Outcome::Unclear
    };
    let notes: Vec<String> = forgiven
        .into_iter()
        .map(|note| note.unwrap_or_default().to_owned())
        .collect();
    for (found, note) in guards.iter_mut().zip(notes) {
        if !note.is_empty() {
            found.note = note;
        }
    }
    Findings { outcome, guards }
}

impl GuardRecord {
    /// "goodput 10.1 -> 960.3 Mbit/s (+9400 %, surely between ...)".
    pub(super) fn sentence(&self, guard: &Guard) -> String {
        let level =
            |level: Option<f64>| level.map_or("nothing".to_owned(), |level| guard.show(level));
        let mut text = format!(
            "{} {} without, {} with",
            self.name,
            level(self.without),
            level(self.with)
        );
        if let Some(shift) = &self.shift {
            text.push_str(&format!(" ({})", shift.text(guard)));
        }
        if !self.note.is_empty() {
            text.push_str(&format!("; {}", self.note));
        }
        text
    }
}
