//! One error type for the crate: what was attempted, on what, and the way out.

use std::{io, path::PathBuf};

use crate::{NetnsCookie, Value, journal::DecisionId};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A parameter as errors name it. Most files of sysfs are the host's own.
fn parameter(name: &str, netns: NetnsCookie) -> String {
    if !crate::sysctl::is_of_netns(name) {
        name.to_owned()
    } else if crate::sysctl::is_file(name) {
        format!("{name} in {netns}")
    } else {
        format!("sysctl {name} in {netns}")
    }
}

/// What can go wrong, named so that an operator can act on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read, written or opened.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// A verb: "read", "open", "lock".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A sysctl could not be read.
    #[error("cannot read {}: {source}", parameter(name, *netns))]
    SysctlRead {
        /// Dotted name.
        name: String,
        /// Where.
        netns: NetnsCookie,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A sysctl could not be written; its value is unchanged.
    #[error("the kernel refused \"{value}\" for {}: {source}", parameter(name, *netns))]
    SysctlWrite {
        /// Dotted name.
        name: String,
        /// The refused value.
        value: Value,
        /// Where.
        netns: NetnsCookie,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel took a write but shows another value.
    #[error("wrote \"{wrote}\" to {}, but it reads back \"{found}\"", parameter(name, *netns))]
    ReadBack {
        /// Dotted name.
        name: String,
        /// What was written.
        wrote: Value,
        /// What is there now.
        found: Value,
        /// Where.
        netns: NetnsCookie,
    },
    /// A text is neither a list of whole numbers, nor a word, nor a set of processors.
    #[error("\"{text}\" is neither a list of whole numbers, nor a word, nor a set of processors")]
    Value {
        /// The text.
        text: String,
    },
    /// No process, mount or given path leads to this namespace any more.
    #[error("{0} is gone, or no process or mount leads to it")]
    NetnsGone(NetnsCookie),
    /// A file of sysfs went with its device.
    #[error("{} is gone, and its device with it", .0.display())]
    DeviceGone(PathBuf),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Two tuners claim one tunable.
    #[error(
        "tuner {second} declares {tunable}, which tuner {first} owns: \
         write `enabled = false` into [tuner.{second}] or [tuner.{first}] of /etc/bpftune/bpftune.toml"
    )]
    Owner {
        /// The tunable.
        tunable: String,
        /// Who declared it first.
        first: String,
        /// Who came second.
        second: String,
    },
    /// Two tuners have one name.
    #[error("there is a tuner named {name} already: give the second another name, or disable one")]
    Name {
        /// The name.
        name: String,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
    /// Another daemon has the state directory.
    #[error(
        "another bpftune uses {} (process {pid}): stop it, or give this one its own --state-dir",
        path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The holder, 0 where unknown.
        pid: i32,
    },
    /// A BPF object could not be opened or loaded at all.
    #[error("BPF object {object}: {source}")]
    Bpf {
        /// The object's name.
        object: String,
        /// libbpf's answer.
        source: libbpf_rs::Error,
    },
    /// No daemon listens.
    #[error("no bpftune listens on {}: start it with `bpftune run`", path.display())]
    NoDaemon {
        /// The control socket.
        path: PathBuf,
    },
    /// The caller may not do that.
    #[error("{0}")]
    Denied(String),
    /// There is no such decision.
    #[error(
        "there is no decision {id}{}: see `bpftune history`",
        newest.map_or(String::new(), |newest| format!(", the newest is {newest}"))
    )]
    NoSuchDecision {
        /// What was asked for.
        id: DecisionId,
        /// What there is.
        newest: Option<DecisionId>,
    },
    /// There is no such tuner.
    #[error(
        "there is no tuner \"{name}\"{}: see `bpftune tuners`",
        near.as_ref().map_or(String::new(), |near| format!(", did you mean \"{near}\"?"))
    )]
    NoSuchTuner {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        near: Option<String>,
    },
    /// The configuration is refused.
    #[error("the configuration is refused:\n{0}")]
    Config(#[from] crate::config::Problems),
    /// The daemon answered a control call with an error, or not at all.
    #[error("{0}")]
    Control(String),
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File {
            action,
            path,
            source,
        }
    }

    /// For `map_err` on system calls.
    pub fn system<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |source| Error::System {
            what,
            source: source.into(),
        }
    }
}
