//! The operator's files: what of them is taken up at start, and again when they change.

use nix::sys::epoll::EpollFlags;

use super::{Engine, TOKEN_CONFIG};
use crate::{
    Machine, Result,
    config::{Known, Live, Loaded, Problem, Problems, Watch, in_canary, plugins_present},
};

impl Engine {
    /// Takes the files up that the settings came from.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) where they do not fit the tuners or this machine.
    pub(super) fn begin_config(&mut self) -> Result<()> {
        let Some(live) = &self.settings.config else {
            return Ok(());
        };
        self.check_config(&live.loaded)?;
        let watch = Watch::new(live.files.clone())?;
        self.take_learners();
        self.wait_for(watch.fd(), TOKEN_CONFIG, EpollFlags::EPOLLIN)?;
        self.config_watch = Some(watch);
        Ok(())
    }

    fn check_config(&self, loaded: &Loaded) -> Result<(), Problems> {
        let machine =
            Machine::now().map_err(|error| Problems::from(Problem::new(error.to_string())))?;
        // A tuner that was left out is no mistake in the files.
        let off = loaded.config.tuner.values().any(|tuner| !tuner.enabled);
        loaded.check(&Known {
            tuners: self.tuners.iter().map(|t| t.tuner.as_ref()).collect(),
            others: off || self.settings.other_tuners || plugins_present(loaded),
            machine: &machine,
        })
    }

    /// Something happened in the directories of the files.
    pub(super) fn config_changed(&mut self) {
        if self.config_watch.as_mut().is_some_and(Watch::changed) {
            self.reload_config("the files changed");
        }
    }

    /// Reads the files again. All of them hold from now on, or none, and the old ones stay.
    pub(super) fn reload_config(&mut self, why: &str) {
        let Some(mut live) = self.settings.config.take() else {
            return;
        };
        let new = live.files.load().and_then(|loaded| {
            self.check_config(&loaded)?;
            let first = in_canary(&loaded)?;
            Ok((loaded, first))
        });
        match new {
            Err(problems) => {
                // Said once for each state of the files.
                if live.refused.as_ref() != Some(&problems) {
                    tracing::error!(
                        "{why}, and the old configuration stays: {}",
                        problems.line()
                    );
                }
                live.refused = Some(problems);
                self.settings.config = Some(live);
            }
            Ok((loaded, first)) => {
                let differences = Live::differences(&live.loaded, &loaded);
                let mended = live.refused.take().is_some();
                (live.loaded, live.first) = (loaded, first);
                self.settings.exit = live.exit();
                self.settings.trial = live.trial();
                self.watchdog.set(live.watchdog());
                let mut policy = live.policy();
                if self.scope.is_some() {
                    super::confine(&mut policy);
                }
                self.governor.set_policy(policy);
                self.settings.config = Some(live);
                self.take_learners();
                self.recheck_learned();
                #[cfg(feature = "plugins")]
                self.configure_plugins();
                // What was refused before may be possible now, and is to be said again if not.
                self.said.clear();
                self.tuners
                    .iter_mut()
                    .for_each(super::Registered::listen_again);
                if differences.is_empty() && !mended {
                    tracing::debug!("{why}: nothing differs");
                } else {
                    tracing::info!("{why}: the configuration is taken up");
                }
                differences.iter().for_each(|line| tracing::info!("{line}"));
            }
        }
    }

    /// The files that hold.
    pub(super) fn config_files(&self) -> Vec<String> {
        let files = self
            .settings
            .config
            .iter()
            .flat_map(|live| &live.loaded.files);
        files.map(|file| file.display().to_string()).collect()
    }

    /// What is wrong with the files as they are now, where the ones that hold are older.
    pub(super) fn config_error(&self) -> Option<String> {
        self.settings
            .config
            .as_ref()?
            .refused
            .as_ref()
            .map(Problems::line)
    }

    /// Gives each tuner the learner and the aim that the files name, or its own again.
    pub(super) fn take_learners(&mut self) {
        let Some(live) = &self.settings.config else {
            return;
        };
        for registered in &mut self.tuners {
            let section = live.loaded.config.tuner.get(registered.tuner.name());
            let learner = section.and_then(|section| section.learner.as_ref());
            let wanted = learner.map(|learner| learner.0.clone());
            if registered.learner != wanted {
                registered.tuner.set_learner(wanted.as_ref());
                registered.learner = wanted;
            }
            registered.take_aim(section.and_then(|section| section.aim));
        }
    }
}
