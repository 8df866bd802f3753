//! How a daemon is to run.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    config::{Config, Live},
    control,
    governor::{ExitPolicy, Policy},
    journal::Retention,
    trial, watchdog,
};

/// How a daemon is to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the governor allows.
    pub policy: Policy,
    /// Where the journal and the lock are.
    pub state_dir: PathBuf,
    /// The control socket; `None` for none.
    pub control: Option<PathBuf>,
    /// Who may call what through it.
    pub access: control::Access,
    /// A loopback port that answers the classic queries in text; needs a control socket.
    pub query_port: Option<u16>,
    /// How much of the past the journal keeps.
    pub retention: Retention,
    /// What happens to changed values on exit.
    pub exit: ExitPolicy,
    /// The files that the policy came from, to be read again when they change; `None` for none.
    pub config: Option<Live>,
    /// Whether plugins are loaded, as `[plugins]` of the files says; needs `config` and the feature `plugins`.
    pub plugins: bool,
    /// Whether tuners may come that are not known yet, which the files may name.
    pub other_tuners: bool,
    /// Paths of the only network namespaces to touch; empty for all. Global parameters are then left
    /// alone.
    pub only_netns: Vec<PathBuf>,
    /// What becomes of changes of which a trial cannot tell.
    pub trial: trial::Policy,
    /// What takes all recent changes back.
    pub watchdog: watchdog::Settings,
    /// The program to start as [reverter](crate::reverter): mostly `/proc/self/exe`. Its `main` must begin with
    /// [`run_if_asked`](crate::reverter::run_if_asked). `None`: after a crash, values stay until the next start.
    pub reverter: Option<PathBuf>,
}

impl Settings {
    /// The defaults: no files, no control socket, no plugins, no reverter.
    #[must_use]
    pub fn new(state_dir: &Path) -> Settings {
        Settings {
            policy: Policy::default(),
            state_dir: state_dir.to_owned(),
            control: None,
            access: control::Access::default(),
            query_port: None,
            retention: Retention::default(),
            exit: ExitPolicy::Restore,
            config: None,
            plugins: false,
            other_tuners: false,
            only_netns: Vec::new(),
            trial: trial::Policy::default(),
            watchdog: watchdog::Settings::default(),
            reverter: None,
        }
    }

    /// What the files say. The calling program is the reverter.
    #[must_use]
    pub fn of(live: Live, state_dir: &Path, control: &Path) -> Settings {
        let Config {
            daemon,
            journal,
            control: groups,
            ..
        } = &live.loaded.config;
        Settings {
            policy: live.policy(),
            control: Some(control.to_owned()),
            access: control::Access {
                readers: groups.read_group.clone(),
                writers: groups.write_group.clone(),
            },
            retention: Retention {
                age: Duration::from_secs(journal.keep_days * 24 * 3600),
                decisions: journal.keep_decisions,
            },
            exit: live.exit(),
            trial: live.trial(),
            watchdog: live.watchdog(),
            reverter: Some("/proc/self/exe".into()),
            only_netns: daemon.netns.clone(),
            config: Some(live),
            ..Settings::new(state_dir)
        }
    }
}
