//! Tuners for `bpftune`, each in a folder of its own with its BPF program, each behind a cargo
//! feature of its name. No tuner knows another.

#[cfg(feature = "tcp-buffer")]
pub mod tcp_buffer;

use bpftune_core::{Result, engine::Registration};

/// Loads a tuner: its BPF hooks and its rules.
pub type Load = fn() -> Result<Registration>;

/// Every tuner of this build, by name.
pub const ALL: &[(&str, Load)] = &[
    #[cfg(feature = "tcp-buffer")]
    (tcp_buffer::NAME, tcp_buffer::load),
];
