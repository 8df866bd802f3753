//! What there is to hear: the `[signal]` of a rule, the `subscribe` of a process.

use std::time::Duration;

use serde::Deserialize;

use super::text::{Time, counter};
use crate::trial::{Counter, Resource};

/// Something to hear. What is read at intervals is read by the daemon, which wakes for it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Fields")]
pub enum Subscription {
    /// Other tuners' signals of a scenario: `scenario = "receive-limited"`.
    Scenario(String),
    /// A counter: `counter = "TcpExt.ListenDrops"`, `every = "5s"`.
    Counter {
        /// Which.
        counter: Counter,
        /// Time between two samples.
        every: Duration,
        /// Only after such a signal of another tuner, where it came from, and for how long: `while`, `for`.
        only_while: Option<(String, Duration)>,
    },
    /// Tasks that stall: `pressure = "memory"`, `stall = "200ms"`, `window = "2s"`.
    Pressure {
        /// For what.
        resource: Resource,
        /// Some task, so long,
        stall: Duration,
        /// of so long.
        window: Duration,
    },
    /// Time: `timer = "60s"`.
    Timer(Duration),
}

/// Shortest time between two samples.
const SHORTEST: Duration = Duration::from_secs(1);
/// And longest.
const LONGEST: Duration = Duration::from_secs(86_400);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    scenario: Option<String>,
    #[serde(default, deserialize_with = "some_counter")]
    counter: Option<Counter>,
    every: Option<Time>,
    #[serde(rename = "while")]
    only_while: Option<String>,
    #[serde(rename = "for")]
    how_long: Option<Time>,
    pressure: Option<Resource>,
    stall: Option<Time>,
    window: Option<Time>,
    timer: Option<Time>,
}

fn some_counter<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Counter>, D::Error> {
    counter(deserializer).map(Some)
}

fn interval(what: &str, time: Duration) -> Result<Duration, String> {
    if (SHORTEST..=LONGEST).contains(&time) {
        Ok(time)
    } else {
        Err(format!("{what} is \"1s\" to \"1d\""))
    }
}

impl TryFrom<Fields> for Subscription {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Subscription, String> {
        let Fields {
            scenario,
            counter,
            every,
            only_while,
            how_long,
            pressure,
            stall,
            window,
            timer,
        } = fields;
        let for_counters = every.is_some() || only_while.is_some() || how_long.is_some();
        let for_pressure = stall.is_some() || window.is_some();
        match (scenario, counter, pressure, timer) {
            (Some(scenario), None, None, None) if !for_counters && !for_pressure => {
                Ok(Subscription::Scenario(scenario))
            }
            (None, Some(counter), None, None) if !for_pressure => {
                let every = every.ok_or(
                    "every is missing: how often to read the counter, such as every = \"5s\"",
                )?;
                let only_while = match (only_while, how_long) {
                    (Some(scenario), time) => {
                        let time = time.map_or(Duration::from_secs(10), |time| time.0);
                        Some((scenario, interval("for", time)?))
                    }
                    (None, Some(_)) => return Err("for is of use only beside while".into()),
                    (None, None) => None,
                };
                Ok(Subscription::Counter {
                    counter,
                    every: interval("every", every.0)?,
                    only_while,
                })
            }
            (None, None, Some(resource), None) if !for_counters => {
                let stall = stall.map_or(Duration::from_millis(200), |time| time.0);
                let window = window.map_or(Duration::from_secs(2), |time| time.0);
                if !window.as_millis().is_multiple_of(2000) || !(2..=10).contains(&window.as_secs()) {
                    return Err("window is 2, 4, 6, 8 or 10 seconds, such as \"2s\"".into());
                }
                if stall.is_zero() || stall >= window {
                    return Err("stall is more than nothing and less than window".into());
                }
                Ok(Subscription::Pressure {
                    resource,
                    stall,
                    window,
                })
            }
            (None, None, None, Some(timer)) if !for_counters && !for_pressure => {
                Ok(Subscription::Timer(interval("timer", timer.0)?))
            }
            _ => Err("there is one of: scenario; counter, with every, while and for; pressure, with stall and \
                      window; timer"
                .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Subscription, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn one_thing_with_what_belongs_to_it() {
        for json in [
            r#"{"scenario": "receive-limited"}"#,
            r#"{"counter": "TcpExt.ListenDrops", "every": "5s"}"#,
            r#"{"counter": "TcpExt.ListenDrops", "every": "5s", "while": "receive-limited", "for": "10s"}"#,
            r#"{"pressure": "memory"}"#,
            r#"{"pressure": "io", "stall": "1s", "window": "10s"}"#,
            r#"{"timer": "1h"}"#,
        ] {
            assert!(read(json).is_ok(), "{json}: {:?}", read(json));
        }
        for (json, hint) in [
            (r#"{}"#, "there is one of"),
            (r#"{"scenario": "x", "every": "5s"}"#, "there is one of"),
            (r#"{"counter": "TcpExt.ListenDrops"}"#, "every is missing"),
            (
                r#"{"counter": "TcpExt.ListenDrops", "every": "10ms"}"#,
                "\"1s\" to \"1d\"",
            ),
            (
                r#"{"counter": "TcpExt.ListenDrops", "every": "5s", "for": "5s"}"#,
                "beside while",
            ),
            (
                r#"{"counter": "/etc/shadow.x", "every": "5s"}"#,
                "TcpExt.ListenDrops",
            ),
            (r#"{"pressure": "memory", "window": "3s"}"#, "\"2s\""),
            (
                r#"{"pressure": "memory", "stall": "2s"}"#,
                "less than window",
            ),
            (r#"{"pressure": "sleep"}"#, "cpu"),
            (r#"{"timer": "5"}"#, "no unit"),
            (r#"{"timer": "5s", "scenario": "x"}"#, "there is one of"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(hint), "{json}: {error}");
        }
    }
}
