//! The configuration as text: all keys with their documentation, or what holds now.

use std::fmt::Write as _;

use super::{Config, Key, Loaded, Section, schema};

const HEAD: &str = "\
# The configuration of bpftune: every key with its default. Copy what you change to
# /etc/bpftune/bpftune.toml, or to a file of its own in /etc/bpftune/conf.d/NAME.toml; those are read after it, in the
# order of their names. A key that is set again overrides the earlier one; a list is replaced whole.
# `bpftune config check` checks the files, `bpftune config show` says what holds and which file set it.
# Keys behind a # have no default; what holds then is said there.
";

impl Config {
    /// A file with every key, its documentation and its default.
    #[must_use]
    pub fn default_file() -> String {
        let mut out = HEAD.to_owned();
        for section in Config::default().sections() {
            table(
                &mut out,
                &section.name,
                section.docs,
                section.section,
                false,
            );
            if section.name == "governor" {
                table(
                    &mut out,
                    "tuner.NAME",
                    schema::Tuner::DOCS,
                    &schema::Tuner::default(),
                    true,
                );
                let tunable = schema::Tunable::default();
                table(
                    &mut out,
                    "tunable.\"PATTERN\"",
                    schema::Tunable::DOCS,
                    &tunable,
                    true,
                );
            }
        }
        out
    }
}

fn table(out: &mut String, name: &str, docs: &[&str], section: &dyn Section, sample: bool) {
    let behind = if sample { "# " } else { "" };
    out.push('\n');
    comment(out, docs);
    let _ = writeln!(out, "{behind}[{name}]");
    for Key {
        name,
        docs,
        value,
        expected,
        example,
    } in section.keys()
    {
        comment(out, docs);
        let _ = writeln!(out, "# [{expected}]");
        let _ = match value {
            Some(value) => writeln!(out, "{behind}{name} = {value}"),
            None => writeln!(out, "# {name} = {example}"),
        };
    }
}

fn comment(out: &mut String, docs: &[&str]) {
    for line in docs {
        let _ = writeln!(out, "#{line}");
    }
}

/// A key as it holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Effective {
    /// The section, without brackets.
    pub section: String,
    /// The key.
    pub key: String,
    /// Its value as TOML.
    pub value: String,
    /// The file and line that set it; `None` for a default.
    pub origin: Option<String>,
}

impl Loaded {
    /// Every key that has a value, with the file that set it.
    #[must_use]
    pub fn effective(&self) -> Vec<Effective> {
        let mut all = Vec::new();
        for section in self.config.sections() {
            for key in section.section.keys() {
                let Some(value) = key.value else { continue };
                let origin = self.origin(&section.name, key.name);
                all.push(Effective {
                    section: section.name.clone(),
                    key: key.name.into(),
                    value,
                    origin: origin.map(|place| format!("{}:{}", place.file.display(), place.line)),
                });
            }
        }
        all
    }

    /// The same as a file, with the origins behind the values.
    #[must_use]
    pub fn effective_file(&self) -> String {
        let mut out = String::new();
        let mut section = String::new();
        for key in self.effective() {
            if key.section != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                let _ = writeln!(out, "{gap}[{}]", key.section);
                section = key.section;
            }
            let origin = key.origin.as_deref().unwrap_or("default");
            let _ = writeln!(
                out,
                "{:<50} # {origin}",
                format!("{} = {}", key.key, key.value)
            );
        }
        out
    }
}
