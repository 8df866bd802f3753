//! How a change is tried, as plugins and rule files write it.

use std::time::Duration;

use serde::Deserialize;

use super::text::{FromWord, Time, counter, word_or_table};
use crate::{
    stats::{Direction, Metric, Role, Scale},
    trial::{Counter, Guard, Harm, Measure, Plan, Resource, Windows},
};

/// `[trial]` of a rule, `trial` of a process's tunable. What is unset is as in the default of that tunable.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Declared {
    guards: Option<Vec<Either>>,
    windows_before: Option<usize>,
    each_before: Option<Time>,
    settle: Option<Time>,
    windows_after: Option<usize>,
    each_after: Option<Time>,
}

/// A guard by name, or of a counter.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
struct Either(#[serde(deserialize_with = "word_or_table")] Watched);

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "OfCounter")]
struct Watched(Guard);

/// A counter's growth a second, or its size where it is one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfCounter {
    #[serde(deserialize_with = "counter")]
    counter: Counter,
    #[serde(default = "lower")]
    better: Direction,
    /// In the counter's unit, a second where it grows.
    margin: f64,
    #[serde(default = "guard")]
    role: Role,
}

fn lower() -> Direction {
    Direction::Lower
}

fn guard() -> Role {
    Role::Guard
}

impl From<OfCounter> for Watched {
    fn from(of: OfCounter) -> Watched {
        let OfCounter {
            counter,
            better,
            margin,
            role,
        } = of;
        let unit = if counter.grows() { "/s" } else { "" };
        Watched(Guard {
            metric: Metric {
                name: counter.to_string().into(),
                better,
                scale: Scale::Absolute,
                role,
                margin,
            },
            measure: if counter.grows() {
                Measure::PerSecond(vec![counter])
            } else {
                Measure::Level(counter)
            },
            least: 0.0,
            worse_by: 1.0,
            harm: Harm::Counts,
            factor: 1.0,
            unit: unit.into(),
        })
    }
}

impl FromWord for Watched {
    const EXPECTED: &'static str = "the name of a guard, or { counter = ..., margin = ... }";

    fn from_word(word: &str) -> Result<Watched, String> {
        let named = NAMED.iter().find(|(name, _)| *name == word);
        named.map(|(_, make)| Watched(make())).ok_or_else(|| {
            let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
            format!(
                "{word:?} is no guard: there are {}, and {{ counter = \"TcpExt.ListenDrops\", margin = 1.0 }}",
                names.join(", ")
            )
        })
    }
}

/// Guards by name. Stalls of a twentieth of the time and a quarter of a processor are what nobody minds.
type Named = (&'static str, fn() -> Guard);
const NAMED: [Named; 6] = [
    ("goodput", Guard::goodput),
    ("retransmits", Guard::retransmits),
    ("drops", || Guard::drops(10.0)),
    ("memory-stalls", || Guard::stall(Resource::Memory, 0.05)),
    ("io-stalls", || Guard::stall(Resource::Io, 0.05)),
    ("cpu", || Guard::cpu(0.25)),
];

/// Longest trial.
const LONGEST: Duration = Duration::from_secs(3600);

impl Declared {
    /// Whether its numbers make sense.
    ///
    /// # Errors
    /// What does not, and the way out.
    pub(super) fn check(&self, tunable: &str) -> Result<(), String> {
        let plan = self.plan(tunable);
        if plan.guards.is_empty() || plan.guards.len() > 16 {
            return Err("guards has 1 to 16 of them: leave it out for the usual ones".into());
        }
        if let Some(guard) = plan
            .guards
            .iter()
            .find(|g| !(0.0..=1e15).contains(&g.metric.margin))
        {
            return Err(format!("margin of {} is 0 or more", guard.metric.name));
        }
        for (which, windows) in [("before", plan.baseline), ("after", plan.trial)] {
            if !(1..=64).contains(&windows.count) {
                return Err(format!("windows_{which} is 1 to 64"));
            }
            if windows.length < Duration::from_millis(10) {
                return Err(format!("each_{which} is \"10ms\" or more"));
            }
        }
        let long = |windows: Windows| windows.length * windows.count as u32;
        if long(plan.baseline) + plan.settle + long(plan.trial) > LONGEST {
            return Err("a trial lasts an hour at most, windows and settle together".into());
        }
        Ok(())
    }

    /// As the framework knows it.
    #[must_use]
    pub(super) fn plan(&self, tunable: &str) -> Plan {
        let Declared {
            guards,
            windows_before,
            each_before,
            settle,
            windows_after,
            each_after,
        } = self;
        let usual = usual(tunable);
        let windows = |count: Option<usize>, each: Option<Time>, usual: Windows| Windows {
            count: count.unwrap_or(usual.count),
            length: each.map_or(usual.length, |each| each.0),
        };
        Plan {
            guards: guards.as_ref().map_or(usual.guards, |guards| {
                guards
                    .iter()
                    .map(|Either(Watched(guard))| guard.clone())
                    .collect()
            }),
            baseline: windows(*windows_before, *each_before, usual.baseline),
            settle: settle.map_or(usual.settle, |settle| settle.0),
            trial: windows(*windows_after, *each_after, usual.trial),
            ..Plan::default()
        }
    }
}

/// Networks show what they do within a moment; memory takes its time.
fn usual(tunable: &str) -> Plan {
    if tunable.starts_with("net.") {
        return Plan::default();
    }
    let windows = Windows {
        count: 10,
        length: Duration::from_secs(1),
    };
    Plan {
        guards: vec![
            Guard::stall(Resource::Memory, 0.05),
            Guard::stall(Resource::Io, 0.05),
            Guard::cpu(0.25),
        ],
        baseline: windows,
        settle: Duration::from_secs(5),
        trial: windows,
        ..Plan::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Declared, String> {
        let read: Declared = toml::from_str(text).map_err(|error| error.to_string())?;
        read.check("net.core.somaxconn").map(|()| read)
    }

    #[test]
    fn what_is_unset_is_as_usual() {
        let plan = Declared::default().plan("net.core.somaxconn");
        assert_eq!(plan, Plan::default());
        let memory = Declared::default().plan("vm.swappiness");
        assert_eq!(memory.guards.len(), 3);
        Declared::default().check("vm.swappiness").unwrap();
    }

    #[test]
    fn guards_by_name_and_by_counter() {
        let text = r#"
            guards = ["goodput", { counter = "TcpExt.ListenDrops", margin = 2.0 },
                      { counter = "meminfo.MemAvailable", better = "higher", margin = 1000, role = "goal" }]
            windows_after = 20
            each_after = "50ms"
        "#;
        let plan = read(text).unwrap().plan("net.core.somaxconn");
        assert_eq!(plan.trial.count, 20);
        assert_eq!(plan.guards[0], Guard::goodput());
        assert_eq!(plan.guards[1].metric.better, Direction::Lower);
        assert_eq!(plan.guards[2].metric.role, Role::Goal);
        assert!(matches!(plan.guards[2].measure, Measure::Level(_)));
    }

    #[test]
    fn nonsense_is_refused_with_the_way_out() {
        for (text, hint) in [
            ("guards = []", "1 to 16"),
            ("guards = [\"speed\"]", "goodput"),
            ("guards = [7]", "name of a guard"),
            ("guards = [{ counter = \"x\", margin = 1.0 }]", "no counter"),
            ("guards = [{ counter = \"cpu.busy\" }]", "margin"),
            (
                "guards = [{ counter = \"cpu.busy\", margin = -1.0 }]",
                "0 or more",
            ),
            ("windows_after = 0", "1 to 64"),
            ("each_after = \"1ms\"", "\"10ms\" or more"),
            ("settle = \"2h\"", "an hour"),
            ("setle = \"2s\"", "setle"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
