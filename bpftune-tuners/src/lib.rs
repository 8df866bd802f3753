//! Tuners for `bpftune`, each in a folder of its own with its BPF program, each behind a cargo
//! feature of its name. No tuner knows another.

#[cfg(feature = "blk-readahead")]
pub mod blk_readahead;
#[cfg(feature = "tcp-buffer")]
pub mod tcp_buffer;
#[cfg(feature = "tcp-listen")]
pub mod tcp_listen;

use bpftune_core::{Result, Tuner, engine::Registration};

/// Loads a tuner: its BPF hooks and its rules.
pub type Load = fn() -> Result<Registration>;

/// The rules of every tuner of this build, without hooks: to ask what they own and take.
#[must_use]
pub fn catalogue() -> Vec<Box<dyn Tuner>> {
    vec![
        #[cfg(feature = "blk-readahead")]
        Box::<blk_readahead::BlkReadahead>::default(),
        #[cfg(feature = "tcp-buffer")]
        Box::<tcp_buffer::TcpBuffer>::default(),
        #[cfg(feature = "tcp-listen")]
        Box::<tcp_listen::TcpListen>::default(),
    ]
}

/// Every tuner of this build, by name.
pub const ALL: &[(&str, Load)] = &[
    #[cfg(feature = "blk-readahead")]
    (blk_readahead::NAME, blk_readahead::load),
    #[cfg(feature = "tcp-buffer")]
    (tcp_buffer::NAME, tcp_buffer::load),
    #[cfg(feature = "tcp-listen")]
    (tcp_listen::NAME, tcp_listen::load),
];
