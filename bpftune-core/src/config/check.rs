//! What no single key can tell: whether keys fit each other, and the tuners and tunables that there are.

use super::{Loaded, Problem};

/// What can be checked without knowing any tuner.
pub(super) fn alone(loaded: &Loaded) -> Vec<Problem> {
    let config = &loaded.config;
    let mut problems = Vec::new();
    for (glob, tunable) in &config.tunable {
        let section = super::section_name("tunable", glob.as_str());
        // Amounts of different kinds compare only on a machine: see `against`.
        if let (Some(min), Some(max)) = (tunable.min, tunable.max)
            && min > max
            && let Some(place) = loaded.later(&section, "min", "max")
        {
            let problem = Problem::at(place, format!("min {min} is above max {max}"));
            problems.push(problem.hint(format!("change min or max in [{section}]")));
        }
    }
    let watchdog = &config.watchdog;
    if watchdog.rest > watchdog.longest_rest
        && let Some(place) = loaded.later("watchdog", "rest", "longest_rest")
    {
        problems.push(Problem::at(place, "rest is longer than longest_rest"));
    }
    problems
}
