//! From text to [`Config`], with every mistake found at once.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::de::{DeTable, DeValue};

use super::{Config, Loaded, Place, Problem, Problems, files::LARGEST, problem, section_name};
use crate::{governor::Glob, near::nearest};

/// A configuration that is being put together from files.
#[derive(Debug, Default)]
pub struct Draft {
    loaded: Loaded,
    problems: Vec<Problem>,
}

/// The file that is being read.
struct Source<'a> {
    path: Arc<Path>,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        Place::new(&self.path, self.text, span)
    }
}

/// The sections that exist once for each name.
const MAPS: [&str; 2] = ["tuner", "tunable"];

impl Draft {
    /// Adds a file's text; what it sets overrides what was there.
    pub fn add(&mut self, path: impl Into<PathBuf>, text: &str) {
        let source = Source {
            path: problem::shared(path),
            text,
        };
        self.loaded.files.push(source.path.clone());
        if text.len() > LARGEST {
            self.problems
                .push(Problem::file(&source.path, "larger than 1 MiB"));
            return;
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            self.problems.extend(errors.into_iter().map(|error| {
                let place = source.place(error.span().unwrap_or(0..0));
                Problem::at(place, error.message().trim().replace('\n', "; "))
            }));
            return;
        }
        for (name, value) in table.get_ref() {
            let span = name.span();
            let name: &str = name.get_ref();
            match value.get_ref() {
                DeValue::Table(table) if MAPS.contains(&name) => self.map(&source, name, table),
                DeValue::Table(table) if self.loaded.config.section_mut(None, name).is_some() => {
                    self.section(&source, None, name, table);
                }
                DeValue::Table(_) => self.unknown_section(&source, name, span),
                _ => self.stray_key(&source, name, span),
            }
        }
    }

    /// Adds the bytes of a file.
    pub fn add_bytes(&mut self, path: impl Into<PathBuf>, bytes: &[u8]) {
        let path = path.into();
        if bytes.len() > LARGEST {
            self.problems
                .push(Problem::file(&path, "larger than 1 MiB"));
            return;
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => self.add(path, text),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let place = Place::new(&problem::shared(path), &good, good.len()..good.len());
                self.problems
                    .push(Problem::at(place, "not UTF-8 from here on"));
            }
        }
    }

    /// Adds what is wrong beside the text.
    pub fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The result.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn finish(mut self) -> Result<Loaded, Problems> {
        if self.problems.is_empty() {
            self.problems = super::check::alone(&self.loaded);
        }
        if self.problems.is_empty() {
            Ok(self.loaded)
        } else {
            Err(Problems(self.problems))
        }
    }

    fn at(
        &mut self,
        source: &Source<'_>,
        span: Range<usize>,
        message: String,
        hint: Option<String>,
    ) {
        let problem = Problem::at(source.place(span), message);
        self.problems.push(Problem { hint, ..problem });
    }

    /// `[tuner.NAME]` and `[tunable."PATTERN"]`.
    fn map(&mut self, source: &Source<'_>, map: &str, entries: &DeTable<'_>) {
        for (name, value) in entries {
            let span = name.span();
            let name: &str = name.get_ref();
            let DeValue::Table(table) = value.get_ref() else {
                let hint = format!(
                    "[{map}.NAME] is a section for each name: [{}]",
                    section_name(map, name)
                );
                self.at(
                    source,
                    span,
                    format!("\"{name}\" must be a section"),
                    Some(hint),
                );
                continue;
            };
            if let Some(dotted) = split_at_dots(name, table).filter(|_| map == "tunable") {
                let hint = format!("put the name in quotes: [tunable.\"{dotted}\"]");
                self.at(
                    source,
                    span,
                    "a name with dots and without quotes".into(),
                    Some(hint),
                );
                continue;
            }
            if map == "tunable"
                && let Err(error) = name.parse::<Glob>()
            {
                self.at(source, span, error, None);
                continue;
            }
            let header = (section_name(map, name), String::new());
            self.loaded.origins.0.insert(header, source.place(span));
            self.section(source, Some(map), name, table);
        }
    }

    fn section(&mut self, source: &Source<'_>, map: Option<&str>, name: &str, table: &DeTable<'_>) {
        let shown = map.map_or_else(|| name.to_owned(), |map| section_name(map, name));
        let Some(section) = self.loaded.config.section_mut(map, name) else {
            return;
        };
        for (key, value) in table {
            let key_span = key.span();
            let key: &str = key.get_ref();
            let keys = section.keys();
            let place = source.place(key_span);
            if !keys.iter().any(|known| known.name == key) {
                let names: Vec<&str> = keys.iter().map(|known| known.name).collect();
                let problem = Problem::at(place, format!("unknown key \"{key}\" in [{shown}]"));
                self.problems.push(problem.hint(key_hint(key, &names)));
            } else if let Err(why) = section.set(key, value.get_ref()) {
                let place = source.place(value.span());
                self.problems
                    .push(Problem::at(place, format!("{key}: {why}")));
            } else {
                let origins = &mut self.loaded.origins.0;
                origins.insert((shown.clone(), key.to_owned()), place);
            }
        }
    }

    fn unknown_section(&mut self, source: &Source<'_>, name: &str, span: Range<usize>) {
        let config = Config::default();
        let sections = config.sections();
        let names = sections
            .iter()
            .map(|section| section.name.as_str())
            .chain(MAPS);
        let hint = match nearest(name, names.clone()) {
            Some(near) => format!("did you mean [{near}]?"),
            None => format!("the sections are {}", names.collect::<Vec<_>>().join(", ")),
        };
        self.at(
            source,
            span,
            format!("unknown section [{name}]"),
            Some(hint),
        );
    }

    /// A key outside of any section.
    fn stray_key(&mut self, source: &Source<'_>, name: &str, span: Range<usize>) {
        let config = Config::default();
        let sections = config.sections();
        let home = sections
            .iter()
            .find(|section| section.section.keys().iter().any(|key| key.name == name));
        let hint = match home {
            Some(section) => format!("it belongs below [{}]", section.name),
            None => "every key belongs to a section: `bpftune config --default` lists them".into(),
        };
        self.at(
            source,
            span,
            format!("\"{name}\" stands outside of any section"),
            Some(hint),
        );
    }
}

fn key_hint(key: &str, names: &[&str]) -> String {
    if let Some(near) = nearest(key, names.iter().copied()) {
        return format!("did you mean \"{near}\"?");
    }
    let config = Config::default();
    let home = config
        .sections()
        .into_iter()
        .find(|section| section.section.keys().iter().any(|known| known.name == key));
    match home {
        Some(section) => format!("it belongs below [{}]", section.name),
        None => format!("the keys are {}", names.join(", ")),
    }
}

/// The whole name, where somebody wrote `[tunable.net.ipv4.tcp_rmem]`: TOML makes tables in tables of it.
fn split_at_dots(name: &str, table: &DeTable<'_>) -> Option<String> {
    let (next, inner) = table
        .iter()
        .find_map(|(key, value)| Some((key, value.get_ref().as_table()?)))?;
    let rest = split_at_dots(next.get_ref(), inner).unwrap_or_else(|| next.get_ref().to_string());
    Some(format!("{name}.{rest}"))
}
