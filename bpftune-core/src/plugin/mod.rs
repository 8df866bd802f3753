//! Tuners that are not compiled in: processes in any language, and rule files.
//!
//! ```text
//! directory   checked, watched by inotify
//!    |  Manager     who is to run; rests and starts anew
//!    |-- process    sandboxed by uring-process; JSON lines; a Tuner and a Source
//!    `-- rule       a TOML file; a Tuner and a Source
//! engine      asks them as it asks any tuner; the governor decides, a trial follows
//! ```
//!
//! A plugin can only propose values of tunables that it declared, within the bounds that it declared. A process is ended
//! at its first breach of the protocol, and what it changed is restored whenever it does not run.
//!
//! docs/plugins.md is the page for people, docs/plugin-protocol.md has the protocol.

mod declare;
mod directory;
mod files;
mod limits;
mod manager;
pub mod process;
pub mod protocol;
pub mod rule;
mod sampler;
pub mod sandbox;
mod subscription;
mod text;
mod trial;

use std::{cell::RefCell, path::PathBuf};

pub use self::{
    declare::{Declared, NAMES, Permitted, is_name, scope_of},
    limits::Limits,
    manager::{Manager, News},
    subscription::Subscription,
    trial::Declared as DeclaredTrial,
};
use crate::{
    Error, Knob, NetnsCookie, Result, Scope, Value, netns::Namespaces, sysctl, trust::Trust,
};

/// Which plugins run, and what they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where they are; of two with one name the one in the later directory is taken.
    pub directories: Vec<PathBuf>,
    /// Who may put them there.
    pub trust: Trust,
    /// The tunables that they may declare.
    pub permitted: Permitted,
    /// What each process plugin may use.
    pub limits: Limits,
}

/// What plugins share.
#[derive(Debug)]
pub struct Context {
    /// Ways into namespaces, to read counters and tunables there.
    namespaces: RefCell<Namespaces>,
    /// The namespaces that counters are read in: the host's own, or those that the run is confined to.
    homes: Vec<NetnsCookie>,
    /// Where global tunables live.
    host: NetnsCookie,
}

impl Context {
    /// `confined` are the paths of the only namespaces to look into, if any.
    fn new(confined: &[PathBuf]) -> Result<Context> {
        let mut namespaces = Namespaces::new()?;
        let host = namespaces.own();
        let homes = if confined.is_empty() {
            vec![host]
        } else {
            let cookies = confined.iter().map(|path| namespaces.add(path));
            cookies.collect::<Result<_>>()?
        };
        Ok(Context {
            namespaces: RefCell::new(namespaces),
            homes,
            host,
        })
    }

    /// The namespaces that a counter is read in.
    fn homes_of(&self, counter: &crate::trial::Counter) -> &[NetnsCookie] {
        if counter.is_of_netns() {
            &self.homes
        } else {
            &self.homes[..1]
        }
    }

    /// A tunable as seen from a place.
    fn knob(&self, tunable: &str, netns: NetnsCookie) -> Knob {
        Knob {
            tunable: tunable.to_owned(),
            netns: match scope_of(tunable) {
                Scope::Global => self.host,
                Scope::Netns => netns,
            },
        }
    }

    /// Its value; `None` where this kernel or namespace has none.
    fn value(&self, knob: &Knob) -> Option<Value> {
        sysctl::read(&mut self.namespaces.borrow_mut(), knob).ok()
    }
}

/// A failure of ours that is no plugin's fault, as text.
fn in_words(error: Error) -> String {
    error.to_string()
}
