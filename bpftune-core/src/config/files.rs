//! Which files are read, in which order, and whether they can be trusted.

use std::{fs, path::PathBuf};

use super::{DIRECTORY, Draft, Loaded, Problem, Problems};
use crate::{
    governor,
    trust::{Trust, TrustedDir},
};

/// More than this is no configuration.
pub(super) const LARGEST: usize = 1 << 20;

/// The name of the main file.
pub(super) const MAIN: &str = "bpftune.toml";
/// The directory of those that are read after it.
pub(super) const DROP_INS: &str = "conf.d";

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The directory of `bpftune.toml` and `conf.d`.
    pub directory: PathBuf,
    /// Who may have written them.
    pub trust: Trust,
}

impl Default for Files {
    fn default() -> Files {
        Files {
            directory: PathBuf::from(DIRECTORY),
            trust: Trust::ROOT,
        }
    }
}

/// Whether a name in `conf.d` is that of a drop-in: editors' and packagers' leftovers are not.
pub(super) fn is_drop_in(name: &str) -> bool {
    name.ends_with(".toml") && !name.starts_with('.')
}

impl Files {
    /// Reads them all. Missing files set nothing.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(&self) -> Result<Loaded, Problems> {
        let mut draft = Draft::default();
        if let Err(why) = self.add_to(&mut draft) {
            let message = format!("the configuration is not read: {why}");
            draft.problem(Problem::new(message));
        }
        draft.finish()
    }

    fn add_to(&self, draft: &mut Draft) -> Result<(), String> {
        let Some(directory) = self.trust.directory(&self.directory)? else {
            return Ok(());
        };
        self.add_file(draft, &directory, "", MAIN)?;
        let path = self.directory.join(DROP_INS);
        let Some(drop_ins) = self.trust.directory(&path)? else {
            return Ok(());
        };
        for name in drop_ins.names()?.iter().filter(|name| is_drop_in(name)) {
            self.add_file(draft, &drop_ins, DROP_INS, name)?;
        }
        Ok(())
    }

    fn add_file(
        &self,
        draft: &mut Draft,
        directory: &TrustedDir,
        below: &str,
        name: &str,
    ) -> Result<(), String> {
        if let Some(bytes) = directory.read(name, LARGEST as u64)? {
            draft.add_bytes(self.directory.join(below).join(name), &bytes);
        }
        Ok(())
    }
}

/// Whether plugins may be loaded, so that there may be tuners of other names.
#[must_use]
pub fn plugins_present(loaded: &Loaded) -> bool {
    let plugins = &loaded.config.plugins;
    let has_any =
        |path: &PathBuf| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    plugins.enabled && plugins.directories.iter().any(has_any)
}

/// Whether this host is among the first of its fleet.
///
/// # Errors
/// Where the host's id is needed and cannot be read.
pub fn in_canary(loaded: &Loaded) -> Result<bool, Problems> {
    let canary = &loaded.config.canary;
    let percent = u8::try_from(canary.percent).unwrap_or(100);
    if percent >= 100 {
        return Ok(true);
    }
    let id = fs::read_to_string(&canary.host_id).map_err(|error| error.to_string());
    let id = id.and_then(|id| match id.trim() {
        "" => Err("it is empty".to_owned()),
        id => Ok(id.to_owned()),
    });
    match id {
        Ok(id) => Ok(governor::canary(&id, percent)),
        Err(why) => {
            let message = format!(
                "cannot read the host's id from {}: {why}",
                canary.host_id.display()
            );
            let key = if loaded.origin("canary", "host_id").is_some() {
                "host_id"
            } else {
                "percent"
            };
            let problem = match loaded.origin("canary", key) {
                Some(place) => Problem::at(place.clone(), message),
                None => Problem::new(message),
            };
            let hint =
                "systemd-machine-id-setup makes one, and host_id in [canary] names another file";
            Err(problem.hint(hint).into())
        }
    }
}
