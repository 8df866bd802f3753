//! The configuration of a running daemon: the files, what the command line says on top, and the last good state.

use std::path::PathBuf;

use super::{Effective, Files, Loaded, Origins, Problems, in_canary};
use crate::{
    governor::{ExitPolicy, Lever, Mode, Policy},
    trial, watchdog,
};

/// What the command line says; it overrides the files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `--mode`: the default for all, and nothing goes further, whatever more specific sections say.
    pub mode: Option<Mode>,
    /// `--no-global`.
    pub no_global: bool,
    /// `--changes-per-hour`.
    pub changes_per_hour: Option<usize>,
    /// The share that one change may add or take.
    pub max_step: Option<f64>,
    /// `--keep`.
    pub exit: Option<ExitPolicy>,
    /// Where plugins are.
    pub plugins: PluginDirectories,
}

/// Where the command line says that plugins are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PluginDirectories {
    /// Where the files say.
    #[default]
    Configured,
    /// Here too; of two plugins with one name the one here is taken.
    Besides(PathBuf),
    /// Here and nowhere else.
    Only(Vec<PathBuf>),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Live {
    /// Where it is read from.
    pub files: Files,
    /// What is said beside.
    pub overrides: Overrides,
    /// What holds: the last that was good.
    pub loaded: Loaded,
    /// What is wrong with the files as they are now; then `loaded` is older.
    pub refused: Option<Problems>,
    /// Whether the host is among the first of its fleet.
    pub first: bool,
}

impl Live {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(files: Files, overrides: Overrides) -> Result<Live, Problems> {
        let loaded = files.load()?;
        let first = in_canary(&loaded)?;
        Ok(Live {
            files,
            overrides,
            loaded,
            refused: None,
            first,
        })
    }

    /// What becomes of changes of which a trial cannot tell.
    #[must_use]
    pub fn trial(&self) -> trial::Policy {
        trial::Policy {
            unclear: self.loaded.config.trial.unclear,
        }
    }

    /// The watchdog's part.
    #[must_use]
    pub fn watchdog(&self) -> watchdog::Settings {
        let section = &self.loaded.config.watchdog;
        watchdog::Settings {
            enabled: section.enabled,
            window: section.window,
            memory_full: section.memory_full / 100.0,
            io_full: section.io_full / 100.0,
            retransmits: section.retransmits / 100.0,
            drops: section.drops as f64,
            oom_kills: section.oom_kills,
            rest: section.rest,
            longest_rest: section.longest_rest,
            ..watchdog::Settings::default()
        }
    }

    /// The governor's part.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let Overrides {
            mode,
            no_global,
            changes_per_hour,
            max_step,
            exit: _,
            plugins: _,
        } = self.overrides.clone();
        let mut policy = Policy::from(&self.loaded);
        if let Some(mode) = mode {
            policy.mode = mode;
            policy.most = Some((mode, Lever::new("--mode on the command line")));
            policy
                .origins
                .option("governor", "mode", "--mode on the command line");
        }
        if no_global {
            policy.global = false;
            policy
                .origins
                .option("governor", "global", "--no-global on the command line");
        }
        if let Some(most) = changes_per_hour {
            policy.changes_per_hour = most;
            policy.origins.option(
                "governor",
                "changes_per_hour",
                "--changes-per-hour on the command line",
            );
        }
        if max_step.is_some() {
            policy.max_step = max_step;
        }
        if !self.first {
            policy.canary = Some(self.loaded.config.canary.others);
        }
        policy
    }

    /// What happens to changed values at the end.
    #[must_use]
    pub fn exit(&self) -> ExitPolicy {
        self.overrides
            .exit
            .unwrap_or(self.loaded.config.daemon.exit)
    }

    /// Where plugins are: of two with one name the one in the later directory is taken.
    #[must_use]
    pub fn plugin_directories(&self) -> Vec<PathBuf> {
        let section = &self.loaded.config.plugins;
        let configured = if section.enabled {
            section.directories.clone()
        } else {
            Vec::new()
        };
        match self.overrides.plugins.clone() {
            PluginDirectories::Configured => configured,
            PluginDirectories::Besides(more) => [configured, vec![more]].concat(),
            PluginDirectories::Only(directories) => directories,
        }
    }

    /// Which plugins are loaded and what they may.
    #[cfg(feature = "plugins")]
    #[must_use]
    pub fn plugins(&self, machine: &crate::Machine) -> crate::plugin::Settings {
        let section = &self.loaded.config.plugins;
        crate::plugin::Settings {
            directories: self.plugin_directories(),
            trust: self.files.trust,
            permitted: crate::plugin::Permitted {
                allow: section.allow.clone(),
                deny: section.deny.clone(),
            },
            limits: crate::plugin::Limits {
                memory: section.memory.bytes(machine),
                processes: section.processes,
                files: section.files,
                cpu_seconds: section.cpu_time.as_secs(),
            },
        }
    }

    /// What differs, line by line, for a log. Keys that a running daemon does not take up say so.
    #[must_use]
    pub fn differences(old: &Loaded, new: &Loaded) -> Vec<String> {
        let (old, new) = (old.effective(), new.effective());
        let find = |all: &[Effective], key: &Effective| {
            all.iter()
                .find(|other| other.section == key.section && other.key == key.key)
                .cloned()
        };
        let mut lines = Vec::new();
        let line = |key: &Effective, before: &str, after: &str| {
            let Effective {
                section, key: name, ..
            } = key;
            let later = if at_start_only(section, name) {
                " (at the next start)"
            } else {
                ""
            };
            format!("[{section}] {name}: {before} -> {after}{later}")
        };
        for key in &new {
            match find(&old, key) {
                None => lines.push(line(key, "unset", &key.value)),
                Some(before) if before.value != key.value => {
                    lines.push(line(key, &before.value, &key.value))
                }
                Some(_) => {}
            }
        }
        let gone = old.iter().filter(|key| find(&new, key).is_none());
        lines.extend(gone.map(|key| line(key, &key.value, "unset")));
        lines
    }
}

/// Whether only a start takes the key up.
fn at_start_only(section: &str, key: &str) -> bool {
    match section {
        "control" | "journal" => true,
        "daemon" => key == "netns",
        _ => section.starts_with("tuner.") && key == "enabled",
    }
}

impl Origins {
    /// Notes that an option of the command line decides a key.
    pub fn option(&mut self, section: &str, key: &str, option: &'static str) {
        self.1.insert((section.to_owned(), key.to_owned()), option);
    }
}
