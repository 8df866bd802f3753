//! What goes over a plugin's standard streams: JSON, one object a line. docs/plugin-protocol.md is the
//! document for authors; its examples are read by the tests here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Subscription, declare::Declared};
use crate::{
    Figure, Value,
    trial::{Action, Outcome},
};

/// The version that this daemon speaks.
pub const VERSION: u32 = 1;

/// Most bytes of a line, in either direction.
pub const MAX_LINE: usize = 64 << 10;

/// What a plugin says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum FromPlugin {
    /// Its first line.
    Hello(Hello),
    /// A change that it wants.
    Propose(Propose),
}

/// Who a plugin is, what it wants to own and to hear.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The protocol's version that it speaks.
    pub protocol: u32,
    /// Its name: that of its file, without what comes after the last dot.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// What it does, in one sentence.
    pub about: String,
    /// The tunables that it wants to own.
    pub tunables: Vec<Declared>,
    /// What it wants to hear.
    #[serde(default)]
    pub subscribe: Vec<Subscription>,
}

/// A change that a plugin wants.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Propose {
    /// Its own mark of the proposal, given back with the decision.
    pub id: String,
    /// A tunable that it declared.
    pub tunable: String,
    /// A namespace that it was told of.
    pub netns: String,
    /// The wanted numbers.
    pub target: Numbers,
    /// Why: the end of the sentence "... because ".
    pub reason: String,
}

/// The numbers of a value: `[4096, 131072, 6291456]`, at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<i64>")]
pub struct Numbers(Vec<i64>);

impl TryFrom<Vec<i64>> for Numbers {
    type Error = &'static str;

    fn try_from(numbers: Vec<i64>) -> Result<Numbers, &'static str> {
        if numbers.is_empty() || numbers.len() > 8 {
            Err("a value has 1 to 8 numbers")
        } else {
            Ok(Numbers(numbers))
        }
    }
}

impl From<&Numbers> for Value {
    fn from(numbers: &Numbers) -> Value {
        Value::new(numbers.0.clone())
    }
}

/// A tunable's numbers by its name; those that are not there on this kernel or in this namespace are left out.
pub type Values = BTreeMap<String, Vec<i64>>;

/// What the daemon says. `netns` is always text: its number is larger than what JSON keeps exact.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ToPlugin<'a> {
    /// The tunables are the plugin's now.
    Welcome {
        /// [`VERSION`].
        protocol: u32,
        /// The daemon's version.
        daemon: &'a str,
        /// The namespaces that counters are read in and ticks come for.
        netns: Vec<String>,
    },
    /// A signal of another tuner.
    Signal {
        /// What happened.
        scenario: &'a str,
        /// Where.
        netns: String,
        /// To whom.
        subject: &'a str,
        /// How many events it stands for.
        count: u32,
        /// The measured figures.
        figures: &'a [Figure],
        /// The plugin's tunables there, now.
        values: Values,
    },
    /// A counter.
    Sample {
        /// Which.
        counter: String,
        /// Where.
        netns: String,
        /// The counter now.
        value: f64,
        /// Its growth a second since the sample before, where there was one.
        rate: Option<f64>,
        /// The plugin's tunables there, now.
        values: Values,
    },
    /// Tasks stalled.
    Pressure {
        /// For what.
        resource: &'a str,
        /// A namespace that counters are read in.
        netns: String,
        /// The plugin's tunables there, now.
        values: Values,
    },
    /// A tick.
    Timer {
        /// As it was subscribed to, in its shortest form: "1min" for "60s".
        timer: String,
        /// A namespace that it ticks for.
        netns: String,
        /// The plugin's tunables there, now.
        values: Values,
    },
    /// What became of a proposal.
    Decision {
        /// The plugin's mark.
        id: &'a str,
        /// "apply", "advise" or "refuse".
        verdict: &'static str,
        /// The value that was decided on.
        value: Option<Vec<i64>>,
        /// Why it was refused.
        why: Option<String>,
    },
    /// What the trial of a change of the plugin's said.
    Trial {
        /// Of what.
        tunable: &'a str,
        /// Where.
        netns: String,
        /// "better", "worse", "same" or "unclear".
        outcome: Outcome,
        /// "kept" or "reverted".
        action: Action,
        /// For people, with the figures.
        summary: String,
    },
    /// Proposals for this namespace are of no use for a while: refused, paused, or only watched.
    Quiet {
        /// Where.
        netns: String,
        /// How long, milliseconds.
        for_ms: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of the document that begin with the mark of a direction.
    fn documented(mark: &str) -> Vec<&'static str> {
        let text = include_str!("../../../docs/plugin-protocol.md");
        text.lines()
            .filter_map(|line| line.strip_prefix(mark))
            .collect()
    }

    #[test]
    fn what_the_document_shows_is_understood() {
        let lines: Vec<FromPlugin> = documented("> ")
            .into_iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect();
        let shown = |kind: fn(&FromPlugin) -> bool| lines.iter().any(kind);
        assert!(shown(|line| matches!(line, FromPlugin::Hello(_))));
        assert!(shown(|line| matches!(line, FromPlugin::Propose(_))));
    }

    #[test]
    fn what_the_document_shows_is_what_is_said() {
        let values = || Values::from([("net.core.somaxconn".to_owned(), vec![4096])]);
        let netns = || "4026531840".to_owned();
        let figures = [Figure::new("rate", 1.25e8, "B/s")];
        let said = [
            ToPlugin::Welcome {
                protocol: VERSION,
                daemon: "0.1.0",
                netns: vec![netns()],
            },
            ToPlugin::Signal {
                scenario: "receive-limited",
                netns: netns(),
                subject: "10.0.0.1:443 from 10.0.0.2:40000",
                count: 1,
                figures: &figures,
                values: values(),
            },
            ToPlugin::Sample {
                counter: "TcpExt.ListenOverflows".into(),
                netns: netns(),
                value: 512.0,
                rate: Some(12.5),
                values: values(),
            },
            ToPlugin::Pressure {
                resource: "memory",
                netns: netns(),
                values: values(),
            },
            ToPlugin::Timer {
                timer: "1min".into(),
                netns: netns(),
                values: values(),
            },
            ToPlugin::Decision {
                id: "1",
                verdict: "apply",
                value: Some(vec![8192]),
                why: None,
            },
            ToPlugin::Trial {
                tunable: "net.core.somaxconn",
                netns: netns(),
                outcome: Outcome::Better,
                action: Action::Kept,
                summary: "better: goodput +12 %".into(),
            },
            ToPlugin::Quiet {
                netns: netns(),
                for_ms: 10_000,
            },
        ];
        let shown = documented("< ");
        for one in &said {
            let line = serde_json::to_string(one).unwrap();
            assert!(shown.contains(&line.as_str()), "the document lacks {line}");
        }
    }

    #[test]
    fn unknown_fields_are_no_guess() {
        for line in [
            r#"{"type":"propose","id":"1","tunable":"a.b","netns":"1","target":[1],"reason":"r","urgency":"harm"}"#,
            r#"{"type":"propose","id":"1","tunable":"a.b","netns":"1","target":[],"reason":"r"}"#,
            r#"{"type":"propose","id":"1","tunable":"a.b","netns":"1","target":[1e99],"reason":"r"}"#,
            r#"{"type":"write","path":"/etc/passwd"}"#,
            r#"{}"#,
            r#"[]"#,
        ] {
            assert!(serde_json::from_str::<FromPlugin>(line).is_err(), "{line}");
        }
    }
}
