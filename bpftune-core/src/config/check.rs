//! What no single key can tell: whether keys fit each other, and the tuners and tunables that there are.

use super::{Loaded, Place, Problem, Problems, schema, section_name};
use crate::{Machine, Tunable, Tuner, near::nearest};

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

/// What there is to configure.
pub struct Known<'a> {
    /// The tuners that run or could run.
    pub tuners: Vec<&'a dyn Tuner>,
    /// Whether there may be others, plugins, whose names and tunables are not known: then unknown names are let through
    /// unless they are nearly those of known ones.
    pub others: bool,
    /// The machine that the bounds are for.
    pub machine: &'a Machine,
}

impl Loaded {
    /// Whether the files fit these tuners, their tunables and this machine.
    ///
    /// # Errors
    /// Everything that does not fit.
    pub fn check(&self, known: &Known<'_>) -> Result<(), Problems> {
        let tunables: Vec<Tunable> = known
            .tuners
            .iter()
            .flat_map(|tuner| tuner.tunables())
            .collect();
        let mut against = Against {
            loaded: self,
            known,
            tunables,
            problems: Vec::new(),
        };
        against.tuners();
        against.tunables();
        against.selections();
        if against.problems.is_empty() {
            Ok(())
        } else {
            Err(Problems(against.problems))
        }
    }
}

struct Against<'a> {
    loaded: &'a Loaded,
    known: &'a Known<'a>,
    tunables: Vec<Tunable>,
    problems: Vec<Problem>,
}

impl Against<'_> {
    fn at(&mut self, place: Option<Place>, message: String, hint: String) {
        if let Some(place) = place {
            self.problems.push(Problem::at(place, message).hint(hint));
        }
    }

    /// What to say of an unknown name; `None` where it may be a plugin's.
    fn hint(&self, name: &str, names: &[&str], what: &str) -> Option<String> {
        match nearest(name, names.iter().copied()) {
            Some(near) => Some(format!("did you mean \"{near}\"?")),
            None if self.known.others => None,
            None => Some(format!("the {what} are {}", names.join(", "))),
        }
    }

    fn tuners(&mut self) {
        let tuners = self.known.tuners.clone();
        let names: Vec<&str> = tuners.iter().map(|tuner| tuner.name()).collect();
        for (name, section) in &self.loaded.config.tuner {
            let in_file = section_name("tuner", name);
            match tuners.iter().find(|tuner| tuner.name() == name) {
                None => {
                    if let Some(hint) = self.hint(name, &names, "tuners") {
                        let place = self.loaded.origin(&in_file, "").cloned();
                        self.at(place, format!("unknown tuner \"{name}\""), hint);
                    }
                }
                Some(tuner) => {
                    if let Some(learner) = &section.learner
                        && let Err(why) = tuner.check_learner(&learner.0)
                    {
                        let place = self.loaded.origin(&in_file, "learner").cloned();
                        self.at(place, why, "docs/learners.md has the learners".into());
                    }
                    if let Some(aim) = section.aim
                        && let Err(why) = tuner.check_aim(aim)
                    {
                        let place = self.loaded.origin(&in_file, "aim").cloned();
                        let hint = "docs/tuners has a page for each tuner with its keys";
                        self.at(place, why, hint.into());
                    }
                }
            }
        }
    }

    fn tunables(&mut self) {
        let names: Vec<String> = self.tunables.iter().map(|t| t.name.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for (glob, section) in &self.loaded.config.tunable {
            let in_file = section_name("tunable", glob.as_str());
            let fitting: Vec<Tunable> = self
                .tunables
                .iter()
                .filter(|t| t.is_meant_by(glob))
                .cloned()
                .collect();
            if fitting.is_empty() {
                let what = if glob.is_exact() {
                    "unknown tunable"
                } else {
                    "no tunable fits"
                };
                if let Some(hint) = self.hint(glob.as_str(), &names, "tunables") {
                    let place = self.loaded.origin(&in_file, "").cloned();
                    self.at(place, format!("{what} \"{glob}\""), hint);
                }
                continue;
            }
            for tunable in &fitting {
                self.bounds(&in_file, glob.is_exact(), section, tunable);
            }
        }
    }

    /// Whether `min` and `max` can be meant for this tunable on this machine.
    fn bounds(&mut self, in_file: &str, exact: bool, section: &schema::Tunable, tunable: &Tunable) {
        let machine = self.known.machine;
        // With nothing in use: what is possible at all, not what is just now.
        let ranges = tunable.bound.ranges(&machine.idle());
        let Some(&(low, high)) = ranges.last() else {
            let key = ["min", "max"]
                .into_iter()
                .find(|key| self.loaded.origin(in_file, key).is_some());
            if let (Some(words), Some(key), true) = (tunable.bound.words(), key, exact) {
                let place = self.loaded.origin(in_file, key).cloned();
                let what = format!("{key} makes no sense: {} is no number", tunable.name);
                self.at(place, what, format!("it is one of {}", words.join(", ")));
            }
            return;
        };
        let mut resolved = [None, None];
        for (i, (key, amount)) in [("min", section.min), ("max", section.max)]
            .into_iter()
            .enumerate()
        {
            let Some(amount) = amount else { continue };
            let place = self.loaded.origin(in_file, key).cloned();
            let Some(number) = amount.in_unit(&tunable.unit, machine) else {
                // A pattern takes in what it fits.
                if exact {
                    let what = format!(
                        "{key} {amount} makes no sense: {} is in {}",
                        tunable.name, tunable.unit
                    );
                    self.at(place, what, "write a plain number".into());
                }
                continue;
            };
            resolved[i] = Some(number);
            let beyond = number < low || number > high;
            // A pattern's maximum may lie above one tunable's own: the lower of the two holds. A minimum above it
            // would leave nothing.
            if beyond
                && (exact || (key == "min" && number > high) || (key == "max" && number < low))
            {
                let what = format!(
                    "{key} {amount} is {number}, outside of what {} allows",
                    tunable.name
                );
                let hint = format!("on this machine from {low} to {high} {}", tunable.unit);
                self.at(place, what, hint);
            }
        }
        if let [Some(min), Some(max)] = resolved
            && min > max
        {
            let place = self.loaded.later(in_file, "min", "max");
            let what = format!(
                "min is {min} and above max, which is {max}, for {}",
                tunable.name
            );
            self.at(place, what, format!("change min or max in [{in_file}]"));
        }
    }

    /// A pattern that means nothing protects nothing.
    fn selections(&mut self) {
        let names: Vec<String> = self.tunables.iter().map(|t| t.name.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let schema::Governor { allow, deny, .. } = &self.loaded.config.governor;
        for (key, globs) in [("allow", allow), ("deny", deny)] {
            for glob in globs.iter().filter(|glob| glob.as_str() != "*") {
                if self.tunables.iter().any(|t| t.is_meant_by(glob)) {
                    continue;
                }
                if let Some(hint) = self.hint(glob.as_str(), &names, "tunables") {
                    let place = self.loaded.origin("governor", key).cloned();
                    self.at(place, format!("{key}: no tunable fits \"{glob}\""), hint);
                }
            }
        }
    }
}
