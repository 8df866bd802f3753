//! What holds for one tunable: the most specific word about each figure, and where it is said.

use std::time::Duration;

use super::{Glob, Lever, Mode, Policy, selection::Unselected};
use crate::config::{Amount, schema, section_name};

/// A figure with the key that sets it.
#[derive(Clone, Debug)]
pub(super) struct Set<T> {
    pub(super) value: T,
    pub(super) lever: Lever,
}

/// Worked out once for each tunable, so that a decision only looks. Those of a device are worked out when they are
/// needed: devices come and go, and decisions on them are few.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) mode: Set<Mode>,
    pub(super) cool_down: Set<Duration>,
    pub(super) hysteresis: Set<Duration>,
    pub(super) changes_per_hour: Set<usize>,
    pub(super) reversals_per_hour: Set<usize>,
    pub(super) rest_after_harm: Set<Duration>,
    pub(super) min: Option<Set<Amount>>,
    pub(super) max: Option<Set<Amount>>,
    /// Where it is said that it stays as it is.
    pub(super) denied: Option<Lever>,
}

impl Limits {
    /// For a tunable of this name and owner.
    pub(super) fn new(policy: &Policy, name: &str, owner: &str) -> Limits {
        let mut fitting: Vec<(&Glob, &schema::Tunable)> = policy
            .tunable
            .iter()
            .filter(|(glob, _)| glob.matches(name))
            .collect();
        fitting.sort_by_key(|(glob, _)| std::cmp::Reverse(glob.rank()));
        let find = Find {
            policy,
            fitting,
            tuner: policy.tuner.get_key_value(owner),
        };
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let mut mode = find.figure("mode", policy.mode, |t| t.mode, |t| t.mode);
        let canary = policy
            .canary
            .map(|mode| (mode, policy.origins.lever("canary", "percent")));
        for (most, lever) in policy.most.clone().into_iter().chain(canary) {
            if most < mode.value {
                mode = Set { value: most, lever };
            }
        }
        let denied = policy.tunables.check(name).err().map(|why| {
            let key = match why {
                Unselected::Denied => "deny",
                Unselected::NotAllowed => "allow",
            };
            policy.origins.lever("governor", key)
        });
        Limits {
            mode,
            cool_down: find.figure(
                "cool_down",
                policy.cool_down,
                |t| t.cool_down,
                |t| t.cool_down,
            ),
            hysteresis: find.figure(
                "hysteresis",
                policy.hysteresis,
                |t| t.hysteresis,
                |t| t.hysteresis,
            ),
            changes_per_hour: find.figure(
                "changes_per_hour",
                policy.changes_per_hour,
                |t| t.changes_per_hour.map(count),
                |t| t.changes_per_hour.map(count),
            ),
            reversals_per_hour: find.figure(
                "reversals_per_hour",
                policy.reversals_per_hour,
                |t| t.reversals_per_hour.map(count),
                |t| t.reversals_per_hour.map(count),
            ),
            rest_after_harm: find.figure(
                "rest_after_harm",
                policy.rest_after_harm,
                |t| t.rest_after_harm,
                |t| t.rest_after_harm,
            ),
            min: find.of_tunable("min", |t| t.min),
            max: find.of_tunable("max", |t| t.max),
            denied,
        }
    }
}

/// The sections that have a word in it, the most specific first.
struct Find<'a> {
    policy: &'a Policy,
    fitting: Vec<(&'a Glob, &'a schema::Tunable)>,
    tuner: Option<(&'a String, &'a schema::Tuner)>,
}

impl Find<'_> {
    fn of_tunable<T>(
        &self,
        key: &str,
        get: impl Fn(&schema::Tunable) -> Option<T>,
    ) -> Option<Set<T>> {
        self.fitting.iter().find_map(|(glob, section)| {
            let lever = || {
                self.policy
                    .origins
                    .lever(&section_name("tunable", glob.as_str()), key)
            };
            get(section).map(|value| Set {
                value,
                lever: lever(),
            })
        })
    }

    fn figure<T>(
        &self,
        key: &str,
        default: T,
        of_tunable: impl Fn(&schema::Tunable) -> Option<T>,
        of_tuner: impl Fn(&schema::Tuner) -> Option<T>,
    ) -> Set<T> {
        self.of_tunable(key, of_tunable)
            .or_else(|| {
                let (name, section) = self.tuner?;
                let lever = self.policy.origins.lever(&section_name("tuner", name), key);
                of_tuner(section).map(|value| Set { value, lever })
            })
            .unwrap_or_else(|| Set {
                value: default,
                lever: self.policy.origins.lever("governor", key),
            })
    }
}
