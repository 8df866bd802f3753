use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::governor::Mode;

mod fit;
mod on_disk;

fn read(text: &str) -> Result<Loaded, Problems> {
    let mut draft = Draft::default();
    draft.add("test.toml", text);
    draft.finish()
}

fn refused(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

/// The default file with nothing behind a #: every key is set.
fn every_key_set() -> String {
    let default = Config::default_file();
    let lines = default.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with("[tuner.") || rest.starts_with("[tunable.") => rest,
        Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| is_key(key)) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

#[test]
fn the_printed_default_is_the_default() {
    let loaded = read(&Config::default_file()).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(read("").unwrap().config, Config::default());
}

#[test]
fn every_key_is_printed_documented_and_read() {
    let loaded = read(&every_key_set()).unwrap();
    let mut keys = BTreeSet::new();
    for section in loaded.config.sections() {
        assert!(!section.docs.is_empty(), "{}", section.name);
        for key in section.section.keys() {
            let name = format!("{}.{}", section.name, key.name);
            assert!(
                key.docs.iter().all(|line| line.starts_with(' ')),
                "{name}: {:?}",
                key.docs
            );
            assert!(
                key.value.is_some(),
                "{name} is not printed as it can be read"
            );
            assert!(
                loaded.origin(&section.name, key.name).is_some(),
                "{name} was not set by the file"
            );
            assert!(!key.expected.is_empty(), "{name}");
            assert!(keys.insert(name));
        }
    }
    // And the two sections with names of their own.
    assert_eq!(loaded.origins.0.len(), keys.len() + 2);
    assert_eq!(
        loaded.config.sections().len(),
        Config::default().sections().len() + 2
    );
}

/// A value of another type than any key has: each key refuses it at its own place, and says what it expects.
#[test]
fn every_key_refuses_a_wrong_type_with_its_place() {
    let loaded = read(&every_key_set()).unwrap();
    for section in loaded.config.sections() {
        for key in section.section.keys() {
            let error = refused(&format!(
                "# one\n[{}]\n{} = 1999-12-31\n",
                section.name, key.name
            ));
            let start = format!(
                "test.toml:3:{}: {}: expected ",
                key.name.len() + 4,
                key.name
            );
            assert!(error.starts_with(&start), "{error}");
            assert!(
                error.contains("found a date") && error.contains(&key.expected),
                "{error}"
            );
        }
    }
}

#[test]
fn mistakes_are_shown_with_line_and_hint() {
    assert_eq!(
        refused("[governor]\n  cooldown = \"1s\"\n"),
        "test.toml:2:3: unknown key \"cooldown\" in [governor]
    2 |   cooldown = \"1s\"
      |   ^^^^^^^^
      = did you mean \"cool_down\"?"
    );
    for (text, place, part) in [
        ("[govenor]\n", "1:2", "did you mean [governor]?"),
        ("[xyz]\n", "1:2", "the sections are daemon, governor"),
        ("mode = \"auto\"\n", "1:1", "below [governor]"),
        ("[journal]\nmode = \"auto\"\n", "2:1", "below [governor]"),
        (
            "[governor]\nmode = \"fast\"\n",
            "2:8",
            "\"observe\", \"advise\" or \"auto\"",
        ),
        (
            "[governor]\ncool_down = 5\n",
            "2:13",
            "expected a time such as",
        ),
        ("[governor]\nchanges_per_hour = -1\n", "2:20", "negative"),
        (
            "[governor]\nchanges_per_hour = 99999999999999999999\n",
            "2:20",
            "too large",
        ),
        ("[canary]\npercent = 101\n", "2:11", "from 0 to 100"),
        ("[tunable.\"a\"]\nmax = \"64MB\"\n", "2:7", "KiB, MiB"),
        (
            "[tunable.\"a\"]\nmin = 5\nmax = 4\n",
            "3:1",
            "min 5 is above max 4",
        ),
        (
            "[tunable.\"a\"]\nmax = 4\nmin = 5\n",
            "3:1",
            "min 5 is above max 4",
        ),
        (
            "[tunable.net.ipv4.tcp_rmem]\nmax = 4\n",
            "1:10",
            "[tunable.\"net.ipv4.tcp_rmem\"]",
        ),
        ("[tunable]\nmax = 4\n", "2:1", "must be a section"),
        ("[tuner]\nenabled = true\n", "2:1", "[tuner.enabled]"),
        ("[governor]\nallow = [\"a b\"]\n", "2:9", "no pattern"),
        ("[maintenance]\nwindows = [\"monday\"]\n", "2:11", "no day"),
        (
            "[plugins]\ndirectories = [\"here\"]\n",
            "2:15",
            "does not start with /",
        ),
        (
            "[governor]\nmode = \"auto\"\nmode = \"auto\"\n",
            "3:1",
            "duplicate",
        ),
        ("[governor\n", "1:10", "]"),
        (
            "[watchdog]\nrest = \"2h\"\nlongest_rest = \"1h\"\n",
            "3:1",
            "longer",
        ),
        ("[watchdog]\nmemory_full = nan\n", "2:15", "0.1"),
    ] {
        let error = refused(text);
        assert!(
            error.starts_with(&format!("test.toml:{place}: ")),
            "{text:?}: {error}"
        );
        assert!(error.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn every_mistake_is_found_at_once() {
    let error = read("[governor]\nmod = 1\ncool_down = 2\n[x]\n").unwrap_err();
    assert_eq!(error.0.len(), 3, "{error}");
    assert!(error.line().ends_with("(and 2 more)"), "{}", error.line());
}

#[test]
fn later_files_override_and_tables_merge() {
    let mut draft = Draft::default();
    draft.add(
        "a.toml",
        "[governor]\nmode = \"observe\"\ndeny = [\"a\"]\n[canary]\npercent = 5\n",
    );
    draft.add(
        "b.toml",
        "[governor]\nmode = \"advise\"\ndeny = [\"b\", \"c\"]\n",
    );
    let loaded = draft.finish().unwrap();
    assert_eq!(loaded.config.governor.mode, Mode::Advise);
    assert_eq!(loaded.config.governor.deny.len(), 2);
    assert_eq!(loaded.config.canary.percent, 5);
    assert_eq!(
        &*loaded.origin("governor", "mode").unwrap().file,
        Path::new("b.toml")
    );
    let shown = loaded.effective_file();
    assert!(
        shown.contains("# b.toml:2\n") && shown.contains("# a.toml:5\n"),
        "{shown}"
    );
    // What is shown can be read again.
    assert_eq!(read(&shown).unwrap().config, loaded.config);
}

#[test]
fn bytes_that_are_no_text_have_a_place() {
    let mut draft = Draft::default();
    draft.add_bytes("x.toml", b"[governor]\nmode = \"\xff\"\n");
    let error = draft.finish().unwrap_err().to_string();
    assert!(error.starts_with("x.toml:2:9: not UTF-8"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut draft = Draft::default();
        draft.add_bytes("x.toml", &bytes);
        if let Err(problems) = draft.finish() {
            prop_assert!(!problems.0.is_empty() && !problems.to_string().is_empty());
        }
    }

    /// The same, nearer to what is read: a good file with something put in, taken out or changed.
    #[test]
    fn damaged_files_never_panic(
        at in any::<prop::sample::Index>(),
        cut in 0usize..20,
        put in "[\\[\\]\"'=.,#{}\n a-z0-9%/é-]{0,12}",
    ) {
        let mut bytes = every_key_set().into_bytes();
        let start = at.index(bytes.len());
        let end = (start + cut).min(bytes.len());
        bytes.splice(start..end, put.bytes());
        let mut draft = Draft::default();
        draft.add_bytes("x.toml", &bytes);
        if let Err(problems) = draft.finish() {
            for problem in problems.0 {
                prop_assert!(!problem.to_string().is_empty() && !problem.line().contains('\n'));
            }
        }
    }

    /// Whatever key and value: it is taken or refused with a place.
    #[test]
    fn any_value_is_taken_or_refused_with_a_place(
        index in any::<prop::sample::Index>(),
        value in prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| format!("{n:?}").to_lowercase()),
            any::<bool>().prop_map(|n| n.to_string()),
            "[ -!#-\\[\\]-~]{0,12}".prop_map(|text| format!("\"{text}\"")),
            "[a-z*]{1,5}".prop_map(|text| format!("[\"{text}\"]")),
        ],
    ) {
        let config = read(&every_key_set()).unwrap().config;
        let keys: Vec<(String, &str)> = config.sections().iter()
            .flat_map(|s| s.section.keys().into_iter().map(|key| (s.name.clone(), key.name)))
            .collect();
        let (section, key) = &keys[index.index(keys.len())];
        match read(&format!("[{section}]\n{key} = {value}\n")) {
            Ok(loaded) => {
                let again = read(&loaded.effective_file()).unwrap();
                prop_assert_eq!(again.config, loaded.config);
            }
            Err(problems) => prop_assert!(problems.0.iter().all(|problem| problem.place.is_some())),
        }
    }
}
