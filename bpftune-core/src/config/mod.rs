//! The operator's files.
//!
//! `/etc/bpftune/bpftune.toml` first, then `/etc/bpftune/conf.d/*.toml` in the order of their names. A key
//! that is set again overrides the earlier one; lists too are replaced whole. Where no file says
//! anything, the default holds. Every key, its documentation and its default: `Config::default_file()`, which
//! `bpftune config --default` prints.
//!
//! ```
//! use bpftune_core::config::{Config, Draft};
//! let mut draft = Draft::default();
//! draft.add("/etc/bpftune/bpftune.toml", "[governor]\nmode = \"advise\"\n");
//! let loaded = draft.finish().unwrap();
//! assert_eq!(loaded.config.governor.mode.to_string(), "advise");
//! assert_eq!(loaded.origin("governor", "mode").unwrap().line, 2);
//! ```

mod amount;
mod check;
mod decode;
pub(crate) mod duration;
mod files;
pub mod kinds;
mod learner;
mod live;
mod print;
mod problem;
pub mod schema;
mod section;
pub mod setting;
mod watch;

use std::{collections::BTreeMap, path::Path, sync::Arc};

pub use self::{
    amount::Amount,
    check::Known,
    decode::Draft,
    files::{Files, in_canary, plugins_present},
    learner::Learner,
    live::{Live, Overrides, PluginDirectories},
    print::Effective,
    problem::{Place, Problem, Problems},
    section::{Key, Section},
    watch::Watch,
};
use crate::governor::{Glob, Lever};

/// The directory of the files.
pub const DIRECTORY: &str = "/etc/bpftune";

/// Everything that can be configured. The defaults suit a production host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `[daemon]`
    pub daemon: schema::Daemon,
    /// `[governor]`
    pub governor: schema::Governor,
    /// `[tuner.NAME]`
    pub tuner: BTreeMap<String, schema::Tuner>,
    /// `[tunable."PATTERN"]`
    pub tunable: BTreeMap<Glob, schema::Tunable>,
    /// `[maintenance]`
    pub maintenance: schema::Maintenance,
    /// `[canary]`
    pub canary: schema::Canary,
    /// `[trial]`
    pub trial: schema::Trial,
    /// `[watchdog]`
    pub watchdog: schema::Watchdog,
    /// `[journal]`
    pub journal: schema::Journal,
    /// `[control]`
    pub control: schema::Control,
    /// `[plugins]`
    pub plugins: schema::Plugins,
}

/// A section with its name and documentation.
pub struct Named<S> {
    /// As in the file, without brackets: "governor", "tuner.tcp-buffer".
    pub name: String,
    /// What it is for, line by line.
    pub docs: &'static [&'static str],
    /// It.
    pub section: S,
}

impl Config {
    /// Every section that a file can have once, in the order of documentation.
    #[must_use]
    pub fn sections(&self) -> Vec<Named<&dyn Section>> {
        // Destructured, so that a new section cannot be forgotten.
        let Config {
            daemon,
            governor,
            tuner,
            tunable,
            maintenance,
            canary,
            trial,
            watchdog,
            journal,
            control,
            plugins,
        } = self;
        fn named<'a>(
            name: impl Into<String>,
            docs: &'static [&'static str],
            section: &'a dyn Section,
        ) -> Named<&'a dyn Section> {
            Named {
                name: name.into(),
                docs,
                section,
            }
        }
        let mut all = vec![
            named("daemon", schema::Daemon::DOCS, daemon),
            named("governor", schema::Governor::DOCS, governor),
        ];
        for (name, section) in tuner {
            all.push(named(
                section_name("tuner", name),
                schema::Tuner::DOCS,
                section,
            ));
        }
        for (glob, section) in tunable {
            let name = section_name("tunable", glob.as_str());
            all.push(named(name, schema::Tunable::DOCS, section));
        }
        all.extend([
            named("maintenance", schema::Maintenance::DOCS, maintenance),
            named("canary", schema::Canary::DOCS, canary),
            named("trial", schema::Trial::DOCS, trial),
            named("watchdog", schema::Watchdog::DOCS, watchdog),
            named("journal", schema::Journal::DOCS, journal),
            named("control", schema::Control::DOCS, control),
            named("plugins", schema::Plugins::DOCS, plugins),
        ]);
        all
    }

    /// A section by its name, or one of `[tuner.NAME]` or `[tunable."PATTERN"]`, which is made where it is
    /// not there yet. `None` where there is no such section.
    fn section_mut(&mut self, map: Option<&str>, name: &str) -> Option<&mut dyn Section> {
        Some(match (map, name) {
            (Some("tuner"), name) => self.tuner.entry(name.to_owned()).or_default(),
            (Some("tunable"), name) => self.tunable.entry(name.parse().ok()?).or_default(),
            (None, "daemon") => &mut self.daemon,
            (None, "governor") => &mut self.governor,
            (None, "maintenance") => &mut self.maintenance,
            (None, "canary") => &mut self.canary,
            (None, "trial") => &mut self.trial,
            (None, "watchdog") => &mut self.watchdog,
            (None, "journal") => &mut self.journal,
            (None, "control") => &mut self.control,
            (None, "plugins") => &mut self.plugins,
            _ => return None,
        })
    }
}

/// The name of a section of a map, quoted where TOML wants it: `tunable."net.ipv4.tcp_rmem"`.
#[must_use]
pub fn section_name(map: &str, name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(bare) {
        format!("{map}.{name}")
    } else {
        format!("{map}.{}", setting::quoted(name))
    }
}

/// A configuration, and where each key was set.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// The files that it was read from, in their order.
    pub files: Vec<Arc<Path>>,
    /// Where each key was set.
    pub origins: Origins,
}

/// Where keys were set; those that are missing have their defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(
    /// By section and key; that of a section of its own name, `[tuner.NAME]`, has an empty key.
    BTreeMap<(String, String), Place>,
    /// Those that an option of the command line decides.
    BTreeMap<(String, String), &'static str>,
);

impl Origins {
    /// Where a key was set.
    #[must_use]
    pub fn get(&self, section: &str, key: &str) -> Option<&Place> {
        self.0.get(&(section.to_owned(), key.to_owned()))
    }

    /// What an operator changes to get another answer: the key, and the file that has it or would have it.
    #[must_use]
    pub fn lever(&self, section: &str, key: &str) -> Lever {
        if let Some(option) = self.1.get(&(section.to_owned(), key.to_owned())) {
            return Lever::new(option);
        }
        Lever::new(&match self.get(section, key) {
            Some(place) => {
                format!(
                    "{key} in [{section}], set in {}:{}",
                    place.file.display(),
                    place.line
                )
            }
            None => format!(
                "{key} in [{section}], not set in {DIRECTORY}/bpftune.toml: the default holds"
            ),
        })
    }
}

impl Loaded {
    /// Where a key was set; `None` where its default holds.
    #[must_use]
    pub fn origin(&self, section: &str, key: &str) -> Option<&Place> {
        self.origins.get(section, key)
    }

    /// Of two keys that do not fit each other, where the one was set that came last: the place to point to.
    fn later(&self, section: &str, one: &str, other: &str) -> Option<Place> {
        let rank = |place: &&Place| {
            let file = self.files.iter().position(|file| *file == place.file);
            (file, place.line, place.column)
        };
        let both = [self.origin(section, one), self.origin(section, other)];
        both.into_iter().flatten().max_by_key(rank).cloned()
    }
}

#[cfg(test)]
mod tests;
