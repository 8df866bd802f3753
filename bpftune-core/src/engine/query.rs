//! The classic queries, answered in text: for scripts written for the peer's `-q`.

use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

use super::Engine;
use crate::{
    Result, Value,
    control::{Query, Tunable},
    sysctl,
};

/// The peer's names have underscores.
fn classic(name: &str) -> String {
    name.replace('-', "_")
}

/// A number, or a list of them.
fn as_json(value: &str) -> Json {
    match value.parse::<Value>() {
        Ok(value) if value.numbers().len() == 1 => json!(value.last()),
        Ok(value) if value.numbers().is_empty() => json!(value.to_string()),
        Ok(value) => json!(value.numbers()),
        Err(_) => json!(value),
    }
}

/// An object with one member a tuner.
fn by_tuner(tunables: &[Tunable], value: impl Fn(&Tunable) -> Json) -> String {
    let mut tuners = Map::new();
    for tunable in tunables {
        let tuner = tuners
            .entry(classic(&tunable.tuner))
            .or_insert_with(|| json!({}));
        tuner[&tunable.name] = value(tunable);
    }
    format!("{}\n", Json::Object(tuners))
}

impl Engine {
    pub(super) fn query(&mut self, query: Query) -> Result<String> {
        let mut text = String::new();
        // Writing to a String cannot fail.
        match query {
            Query::Help => {
                for (word, _) in Query::ALL {
                    let _ = writeln!(text, "{word}");
                }
            }
            Query::Tuners => {
                for t in &self.tuners {
                    let _ = writeln!(text, "{}", classic(t.tuner.name()));
                }
            }
            Query::Tunables => {
                for tunable in self.tunables(None)?.tunables {
                    let _ = writeln!(text, "{} {}", classic(&tunable.tuner), tunable.name);
                }
            }
            Query::Jtunables => {
                text = by_tuner(&self.tunables(None)?.tunables, |tunable| {
                    json!(tunable.about)
                });
            }
            Query::Status => {
                for tunable in self.tunables(None)?.tunables {
                    let current = tunable.current.as_deref().unwrap_or("not here");
                    let tuner = classic(&tunable.tuner);
                    let _ = writeln!(text, "{tuner} {} {current}", tunable.name);
                }
            }
            Query::Jstatus => {
                text = by_tuner(&self.tunables(None)?.tunables, |tunable| {
                    tunable.current.as_deref().map_or(Json::Null, as_json)
                });
            }
            Query::Summary => {
                for d in self.differences_now() {
                    let kind = if sysctl::is_file(&d.tunable) {
                        "file"
                    } else {
                        "sysctl"
                    };
                    let _ = writeln!(
                        text,
                        "{kind} '{}' changed from ({}) -> ({}) in {}",
                        d.tunable, d.before, d.after, d.place
                    );
                }
                if text.is_empty() {
                    text.push_str("nothing is changed\n");
                }
            }
            Query::Rollback => text = self.revert_all()?,
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbers_or_lists() {
        assert_eq!(
            as_json("4096 131072 6291456"),
            json!([4096, 131_072, 6_291_456])
        );
        assert_eq!(as_json("1"), json!(1));
        assert_eq!(as_json("cubic"), json!("cubic"));
    }
}
