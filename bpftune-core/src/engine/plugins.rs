//! Plugins come and go while the engine runs.

use nix::sys::epoll::EpollFlags;

use super::{Engine, Registration, TOKEN_PLUGINS};
use crate::{
    Result,
    plugin::{Manager, News},
};

impl Engine {
    /// Prepares for plugins; they are looked for in the first turn, so that nothing waits for them.
    pub(super) fn open_plugins(&mut self) -> Result<()> {
        let machine = self.machine()?;
        if let (true, Some(live)) = (self.settings.plugins, &self.settings.config) {
            let settings = live.plugins(&machine);
            let manager = Manager::new(settings, &self.settings.only_netns)?;
            self.wait_for(manager.fd(), TOKEN_PLUGINS, EpollFlags::EPOLLIN)?;
            self.plugins = Some(manager);
        }
        Ok(())
    }

    /// The files have changed: so may have where plugins are and what they may.
    pub(super) fn configure_plugins(&mut self) {
        let machine = self.machine();
        if let (Some(plugins), Some(live)) = (&mut self.plugins, &self.settings.config) {
            match machine {
                Ok(machine) => plugins.configure(live.plugins(&machine)),
                Err(error) => tracing::warn!("plugins stay as they are: {error}"),
            }
        }
    }

    /// Something happened to a plugin: its file, its process, its rest. Nothing that does ends the daemon.
    pub(super) fn plugins_turn(&mut self) {
        let Some(mut plugins) = self.plugins.take() else {
            return;
        };
        for news in plugins.turn() {
            match news {
                News::Join(registration) => {
                    let name = registration.tuner.name().to_owned();
                    match self.join(registration) {
                        Ok(()) => plugins.joined(&name),
                        Err(why) => plugins.refused(&name, &why),
                    }
                }
                News::Leave(name) => {
                    if let Err(error) = self.unregister(&name) {
                        tracing::warn!("plugin {name} is gone: {error}");
                    }
                }
            }
        }
        self.plugins = Some(plugins);
    }

    /// Takes a plugin in, as the files want it.
    fn join(&mut self, registration: Registration) -> std::result::Result<(), String> {
        let tuner = registration.tuner.as_ref();
        if let Some(live) = &self.settings.config
            && let Some(section) = live.loaded.config.tuner.get(tuner.name())
        {
            let name = tuner.name();
            if !section.enabled {
                return Err(format!("[tuner.{name}] says enabled = false"));
            }
            if let Some(learner) = &section.learner {
                tuner
                    .check_learner(&learner.0)
                    .map_err(|why| format!("[tuner.{name}]: {why}"))?;
            }
            if let Some(aim) = section.aim {
                tuner
                    .check_aim(aim)
                    .map_err(|why| format!("[tuner.{name}]: {why}"))?;
            }
        }
        self.register(registration)
            .map_err(|error| error.to_string())
    }
}
