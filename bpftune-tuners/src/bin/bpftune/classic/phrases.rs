//! The peer's log phrases, for scripts that look for them.

use std::collections::{BTreeMap, HashMap};

use bpftune_core::{
    control::{Decision, Event},
    sysctl,
};

/// What was changed in a place, for the summary.
struct Sum {
    scenario: String,
    times: u64,
    original: String,
    current: String,
}

/// Turns events into the peer's lines, and at its end into the peer's summary.
pub(super) struct Phrases {
    /// A sentence on each tunable.
    abouts: HashMap<String, String>,
    sums: BTreeMap<(String, String), Sum>,
}

impl Phrases {
    pub(super) fn new(abouts: HashMap<String, String>) -> Phrases {
        Phrases {
            abouts,
            sums: BTreeMap::new(),
        }
    }

    pub(super) fn of(&mut self, event: &Event) -> Vec<String> {
        match (event.kind.as_str(), &event.decision) {
            ("applied", Some(decision)) => self.applied(decision),
            ("restored", Some(d)) => vec![format!(
                "Rolling back sysctl values for '{}' from ({}) to original values ({})...",
                d.tunable, d.old, d.new
            )],
            ("hands-off", _) => vec![format!("modified sysctl: {}", event.text)],
            _ => Vec::new(),
        }
    }

    fn applied(&mut self, d: &Decision) -> Vec<String> {
        let sum = self
            .sums
            .entry((d.tunable.clone(), d.place.clone()))
            .or_insert_with(|| Sum {
                scenario: d.scenario.clone(),
                times: 0,
                original: d.old.clone(),
                current: String::new(),
            });
        sum.times += 1;
        sum.current.clone_from(&d.new);
        let about = self.abouts.get(&d.tunable).map_or("", String::as_str);
        let numbers = if d.old.contains(' ') {
            "(min default max)"
        } else {
            ""
        };
        // "... raised from X to Y because REASON".
        let reason = d
            .reason
            .split_once(" because ")
            .map_or(d.reason.as_str(), |(_, why)| why);
        vec![
            format!(
                "Scenario '{}' occurred for tunable '{}' in {} ns. {about}",
                d.scenario,
                d.tunable,
                ns(&d.place)
            ),
            format!(
                "Due to {reason} change {}{numbers} from ({}) -> ({})",
                d.tunable, d.old, d.new
            ),
        ]
    }

    fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((tunable, place), sum) in &self.sums {
            let about = self.abouts.get(tunable).map_or("", String::as_str);
            lines.push(format!(
                "Summary: scenario '{}' occurred {} times for tunable '{tunable}' in {} ns. {about}",
                sum.scenario,
                sum.times,
                ns(place)
            ));
            lines.push(format!(
                "sysctl '{tunable}' changed from ({}) -> ({})",
                sum.original, sum.current
            ));
            let (tunable, current) = sysctl::spelled(tunable, &sum.current);
            if place == "host" {
                lines.push(format!("sysctl -w {tunable}=\"{current}\""));
            } else {
                lines.push(format!(
                    "nsenter --net={place} sysctl -w {tunable}=\"{current}\""
                ));
            }
        }
        lines
    }
}

fn ns(place: &str) -> &'static str {
    if place == "host" {
        "global"
    } else {
        "non-global"
    }
}

impl Drop for Phrases {
    fn drop(&mut self) {
        for line in self.summary() {
            tracing::info!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(old: &str, new: &str) -> Decision {
        Decision {
            id: 1,
            at_unix_ms: 0,
            tuner: "tcp-buffer".into(),
            scenario: "receive-limited".into(),
            tunable: "net.ipv4.tcp_rmem".into(),
            netns: 1,
            place: "host".into(),
            verdict: "applied".into(),
            old: old.into(),
            new: new.into(),
            reason:
                "net.ipv4.tcp_rmem in host raised from \"1\" to \"2\" because the window is full"
                    .into(),
            note: String::new(),
            outcome: String::new(),
            signal: None,
            reverts: None,
            trial: None,
        }
    }

    #[test]
    fn two_lines_a_change_and_a_summary() {
        let about = ("net.ipv4.tcp_rmem".to_owned(), "Sizes buffers.".to_owned());
        let mut phrases = Phrases::new(HashMap::from([about]));
        let mut say = |kind: &str, old: &str, new: &str| {
            phrases.of(&Event {
                decision: Some(decision(old, new)),
                ..Event::new(kind, "")
            })
        };
        assert_eq!(
            say("applied", "4096 131072 200", "4096 131072 400"),
            [
                "Scenario 'receive-limited' occurred for tunable 'net.ipv4.tcp_rmem' in global ns. Sizes buffers.",
                "Due to the window is full change net.ipv4.tcp_rmem(min default max) from (4096 131072 200) -> \
                 (4096 131072 400)",
            ]
        );
        say("applied", "4096 131072 400", "4096 131072 800");
        assert_eq!(
            say("restored", "4096 131072 800", "4096 131072 200"),
            [
                "Rolling back sysctl values for 'net.ipv4.tcp_rmem' from (4096 131072 800) to original values \
              (4096 131072 200)..."
            ]
        );
        assert_eq!(
            phrases.summary(),
            [
                "Summary: scenario 'receive-limited' occurred 2 times for tunable 'net.ipv4.tcp_rmem' in global ns. \
                 Sizes buffers.",
                "sysctl 'net.ipv4.tcp_rmem' changed from (4096 131072 200) -> (4096 131072 800)",
                "sysctl -w net.ipv4.tcp_rmem=\"4096 131072 800\"",
            ]
        );
    }
}
