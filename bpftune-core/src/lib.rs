//! The framework under `bpftune`: automatic tuning as a series of transactions.
//!
//! ```text
//! signal -> tuner proposes -> governor decides -> journal intends -> sysctl is written and
//! read back -> trial measures -> kept or taken back -> journal records
//! ```
//!
//! The pieces, each in a module of its own:
//!
//! * [`Tunable`]: a kernel parameter with unit, bounds derived from the machine, scope and owner.
//! * [`Tuner`]: turns a [`Signal`] into [`Proposal`]s. It does no I/O and never writes a parameter.
//! * [`Governor`](governor::Governor): the only place that says yes.
//! * [`Journal`](journal::Journal): an SQLite database; every write is announced in it first.
//! * [`trial`]: did the change help?
//! * [`Engine`](engine::Engine): one epoll loop on one thread that ties them together.
//! * [`config`]: the operator's files: what may change, how far and how often.
//! * [`control`]: Varlink on a Unix socket.
//! * `plugin` (feature `plugins`): tuners that are processes or rule files.
//! * `daemon` (feature `daemon`): a `main` for tuners in a crate of their own.
//! * [`bpf`]: loads BPF objects hook by hook, so that a refused hook costs only itself.
//! * [`rounds`]: counters of a namespace, read again and again while something goes on there.
//!
//! # Kernel
//! Linux 6.1 or newer with BTF (`CONFIG_DEBUG_INFO_BTF`). Root, or the capabilities that
//! [`privilege::REQUIRED`] lists.

pub mod admin;
pub mod bpf;
pub mod config;
pub mod control;
mod cpus;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod engine;
mod error;
pub mod governor;
pub mod journal;
pub mod learner;
pub mod machine;
pub mod near;
pub mod netns;
#[cfg(feature = "plugins")]
pub mod plugin;
pub mod privilege;
pub mod psi;
pub mod resident;
pub mod restore;
pub mod reverter;
pub mod rounds;
mod signal;
pub mod sim;
pub mod stats;
pub mod sysctl;
pub mod timer;
pub mod trial;
pub mod trust;
mod tunable;
mod tuner;
mod value;
pub mod watchdog;

pub use cpus::Cpus;
pub use error::{Error, Result};
pub use machine::Machine;
pub use netns::NetnsCookie;
pub use signal::{Figure, Signal};
pub use tunable::{Bound, Cost, Knob, Scope, Tunable};
pub use tuner::{
    Chosen, Lesson, Proposal, Reach, Source, Tried, Tuner, Urgency, View, give_back, halfway,
};
pub use value::Value;
