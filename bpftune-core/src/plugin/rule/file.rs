//! The rule file as written, and the rule that it means.

use std::{ops::Range, path::Path, sync::Arc};

use serde::Deserialize;
use toml::Spanned;

use super::{Change, Of, Rule, Want, When};
use crate::{
    config::{Place, Problem},
    learner::{Kind, Spec},
    plugin::{
        Declared, Permitted, Subscription,
        text::{FromWord, Time, word_or_table},
        trial,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    version: Spanned<i64>,
    about: String,
    signal: Spanned<Subscription>,
    when: Option<Spanned<WhenText>>,
    change: ChangeText,
    trial: Option<Spanned<trial::Declared>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhenText {
    of: Option<Spanned<String>>,
    above: Option<f64>,
    below: Option<f64>,
    #[serde(rename = "for")]
    sustained: Option<Time>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeText {
    tunable: Spanned<String>,
    unit: String,
    bounds: Spanned<Vec<(i64, i64)>>,
    number: Option<Spanned<usize>>,
    #[serde(default)]
    want: Want,
    learner: Spanned<LearnerText>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct LearnerText(#[serde(deserialize_with = "word_or_table")] Spec);

impl FromWord for Spec {
    const EXPECTED: &'static str = "a learner such as \"aimd\" or { name = \"step\", rate = 0.25 }";

    fn from_word(word: &str) -> Result<Spec, String> {
        let table = serde_json::json!({ "name": word });
        serde_json::from_value(table).map_err(|error| error.to_string())
    }
}

/// Reads a rule file; `permitted` says which tunables it may change.
///
/// # Errors
/// The first thing that is wrong: its line, and the way out.
///
/// ```
/// use std::path::Path;
/// use bpftune_core::plugin::{Permitted, rule};
/// let text = r#"
/// version = 1
/// about = "more room for connections that wait"
/// [signal]
/// counter = "TcpExt.ListenOverflows"
/// every = "5s"
/// [when]
/// above = 1
/// for = "15s"
/// [change]
/// tunable = "net.core.somaxconn"
/// unit = "connections"
/// bounds = [[128, 65535]]
/// learner = { name = "step", rate = 1.0 }
/// "#;
/// let rule = rule::parse(Path::new("backlog.toml"), text, &Permitted::default()).unwrap();
/// assert!(rule.when.holds(2.0) && !rule.when.holds(1.0));
/// ```
pub fn parse(path: &Path, text: &str, permitted: &Permitted) -> Result<Rule, Problem> {
    let file: Arc<Path> = Arc::from(path);
    let at = |span: Range<usize>, why: &str| {
        // Said as "what is wrong: the way out".
        Problem::at(Place::new(&file, text, span), why)
    };
    let RuleText {
        version,
        about,
        signal,
        when,
        change,
        trial,
    } = toml::from_str(text)
        .map_err(|error: toml::de::Error| at(error.span().unwrap_or_default(), error.message()))?;
    if *version.get_ref() != 1 {
        let why = "rule files of this version are not known here: write version = 1";
        return Err(at(version.span(), why));
    }
    let trial_span = trial.as_ref().map(Spanned::span);
    let tunable = Declared {
        name: change.tunable.get_ref().clone(),
        unit: change.unit,
        about: about.clone(),
        bounds: change.bounds.get_ref().clone(),
        trial: trial.map(Spanned::into_inner).unwrap_or_default(),
    };
    if let (Some(span), Err(why)) = (trial_span, tunable.trial.check(&tunable.name)) {
        return Err(at(span, &why));
    }
    tunable
        .check(permitted)
        .map_err(|why| at(change.tunable.span(), &why))?;
    let numbers = tunable.bounds.len();
    let number = match &change.number {
        Some(number) if *number.get_ref() >= numbers => {
            let why = format!("number counts from 0, and bounds has {numbers} of them");
            return Err(at(number.span(), &why));
        }
        Some(number) => *number.get_ref(),
        None => numbers - 1,
    };
    let learner_span = change.learner.span();
    let LearnerText(learner) = change.learner.into_inner();
    learner
        .check()
        .map_err(|why| at(learner_span.clone(), &why))?;
    let signal_span = signal.span();
    let signal = signal.into_inner();
    let when_span = when.as_ref().map_or(signal_span.clone(), Spanned::span);
    let when = condition(&signal, when.map(Spanned::into_inner))
        .map_err(|(span, why)| at(span.unwrap_or(when_span.clone()), &why))?;
    let compares = when.above.is_some() || when.below.is_some();
    if !compares
        && !matches!(signal, Subscription::Pressure { .. })
        && matches!(learner.takes(), Kind::Pressure | Kind::Need)
    {
        let why = format!(
            "[when] needs above or below: learner \"{}\" goes on as long as the condition holds",
            learner.name()
        );
        return Err(at(when_span, &why));
    }
    if matches!(signal, Subscription::Timer(_)) {
        let why = "a rule looks at a counter, a scenario or pressure: only processes take a timer";
        return Err(at(signal_span, why));
    }
    if matches!(signal, Subscription::Pressure { .. }) && learner.takes() != Kind::Pressure {
        let why = "pressure has no number to learn from: use learner \"step\" or \"aimd\"";
        return Err(at(learner_span, why));
    }
    Ok(Rule {
        about,
        signal,
        when,
        change: Change {
            tunable,
            number,
            want: change.want,
            learner,
        },
    })
}

type Wrong = (Option<Range<usize>>, String);

fn condition(signal: &Subscription, when: Option<WhenText>) -> Result<When, Wrong> {
    let Some(WhenText {
        of,
        above,
        below,
        sustained,
    }) = when
    else {
        return Ok(When::default());
    };
    if let (Some(above), Some(below)) = (above, below)
        && above >= below
    {
        return Err((None, format!("nothing is above {above} and below {below}")));
    }
    if matches!(signal, Subscription::Pressure { .. })
        && (of.is_some() || above.is_some() || below.is_some())
    {
        let why = "pressure has no number to compare: stall and window say how much; [when] takes only for";
        return Err((None, why.into()));
    }
    let span = of.as_ref().map(Spanned::span);
    let of = match (of.as_ref().map(|of| of.get_ref().as_str()), signal) {
        (None | Some("rate"), _) => Of::Rate,
        (Some("value"), Subscription::Counter { .. }) => Of::Value,
        (Some(figure), Subscription::Scenario(_)) => Of::Figure(figure.to_owned()),
        (Some(_), _) => return Err((span, "of a counter there is \"rate\" or \"value\"".into())),
    };
    Ok(When {
        of,
        above,
        below,
        sustained: sustained.map_or_else(Default::default, |time| time.0),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"
version = 1
about = "more room for connections that wait"
[signal]
counter = "TcpExt.ListenOverflows"
every = "5s"
[when]
above = 1
for = "15s"
[change]
tunable = "net.core.somaxconn"
unit = "connections"
bounds = [[128, 65535]]
learner = { name = "step", rate = 1.0 }
[trial]
guards = ["goodput", { counter = "TcpExt.ListenDrops", margin = 1.0 }]
windows_after = 20
"#;

    fn read(text: &str) -> Result<Rule, Problem> {
        parse(Path::new("r.toml"), text, &Permitted::default())
    }

    #[test]
    fn a_good_file() {
        let rule = read(GOOD).unwrap();
        assert_eq!(rule.when.sustained, Duration::from_secs(15));
        assert_eq!(rule.change.learner.name(), "step");
        let plan = rule.change.tunable.plan();
        assert_eq!((plan.guards.len(), plan.trial.count), (2, 20));
        let word = GOOD.replace("{ name = \"step\", rate = 1.0 }", "\"aimd\"");
        assert_eq!(read(&word).unwrap().change.learner.name(), "aimd");
    }

    #[test]
    fn faults_have_their_line_and_a_way_out() {
        for (from, to, line, hint) in [
            ("every = \"5s\"", "every = \"5 parsecs\"", 6, "\"5s\""),
            ("every = \"5s\"", "evry = \"5s\"", 6, "every"),
            ("every = \"5s\"", "", 4, "every is missing"),
            (
                "TcpExt.ListenOverflows",
                "/etc/shadow.x",
                5,
                "Tcp.RetransSegs",
            ),
            ("net.core.somaxconn", "kernel.core_pattern", 11, "[plugins]"),
            ("[[128, 65535]]", "[[65535, 128]]", 11, "no number between"),
            ("rate = 1.0", "rate = 100.0", 14, "between 0.001 and 4"),
            ("\"step\"", "\"stairs\"", 14, "hill-climb"),
            ("rate = 1.0", "speed = 1.0", 14, "speed"),
            ("version = 1", "version = 2", 2, "version = 1"),
            ("above = 1\n", "above = \"much\"\n", 8, "f64"),
            ("above = 1\n", "", 7, "above or below"),
            (
                "above = 1\n",
                "above = 1\nbelow = 1\n",
                7,
                "nothing is above 1",
            ),
            ("above = 1\n", "above = 1\nof = \"size\"\n", 9, "\"value\""),
            ("\"goodput\"", "\"speed\"", 16, "retransmits"),
            ("windows_after = 20", "windows_after = 0", 15, "1 to 64"),
            ("unit = ", "number = 1\nunit = ", 12, "counts from 0"),
            ("[when]", "[wenn]", 7, "when"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let problem = read(&GOOD.replacen(from, to, 1)).unwrap_err();
            let text = problem.line();
            let place = problem.place.as_ref().map(|place| place.line);
            assert!(place == Some(line) && text.contains(hint), "{to}: {text}");
        }
    }

    #[test]
    fn pressure_is_a_condition_of_its_own() {
        let text = GOOD
            .replace(
                "counter = \"TcpExt.ListenOverflows\"\nevery = \"5s\"",
                "pressure = \"memory\"",
            )
            .replace("above = 1\n", "");
        assert!(read(&text).is_ok(), "{:?}", read(&text));
        let compared = text.replace("[when]", "[when]\nabove = 1");
        assert!(read(&compared).unwrap_err().line().contains("stall"));
        let learned = text.replace("\"step\", rate = 1.0", "\"hill-climb\"");
        assert!(read(&learned).unwrap_err().line().contains("aimd"));
        let timer = text.replace("pressure = \"memory\"", "timer = \"5s\"");
        assert!(read(&timer).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in "(version = 1\n)?(\\[(signal|when|change)\\]\n)?.*") {
            let _ = read(&text);
        }

        #[test]
        fn any_cut_of_a_good_file_is_refused_or_read(cut in 0..GOOD.len()) {
            let _ = read(&GOOD[..cut]);
        }
    }
}
