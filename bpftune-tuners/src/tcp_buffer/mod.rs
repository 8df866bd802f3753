//! `tcp-buffer`: TCP buffer limits sized to the paths that connections really have.
//!
//! A connection needs a window of its path's bandwidth-delay product. Where a limit on buffers is
//! smaller, throughput is limit / round trip, however fast the path. This tuner raises the limit that
//! holds a running connection back, on the side that starves, until it no longer does:
//!
//! | signal | changes |
//! |---|---|
//! | receive buffer about to hit its limit, window full each round trip | `net.ipv4.tcp_rmem[2]`, and `tcp_moderate_rcvbuf` where autotuning is off |
//! | first window used up in the first round trips | `net.ipv4.tcp_rmem[1]`, up to a first window of 64 KiB |
//! | send buffer at its limit, application waiting, all sent | `net.ipv4.tcp_wmem[2]` |
//! | the same, size fixed by SO_RCVBUF / SO_SNDBUF | `net.core.rmem_max` / `wmem_max` |
//! | TCP memory at its limit while the host has plenty | `net.ipv4.tcp_mem` |
//! | host short of memory (PSI) | halfway back to the original values |
//!
//! A path with a standing queue (round trip above 1.5 x its minimum) is never given more: its link
//! is full already and more buffer would only add delay.

mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::TcpBuffer, source::TcpBufferSource};

/// Its name.
pub const NAME: &str = "tcp-buffer";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<TcpBuffer>::default(),
        source: Box::new(TcpBufferSource::new()?),
    })
}
