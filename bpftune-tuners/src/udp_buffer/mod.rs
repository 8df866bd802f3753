//! `udp-buffer`: UDP receive buffers that hold the bursts that come.
//!
//! | signal | changes |
//! |---|---|
//! | datagrams lost by a socket whose buffer has the default size | `net.core.rmem_default`, and that socket's buffer |
//! | datagrams lost by a socket whose size `rmem_max` cut down | nothing here: `tcp-buffer`, which owns it, is told |
//! | UDP at its memory limit while the host has plenty | `net.ipv4.udp_mem` |
//! | datagrams lost without a pause whatever the size | back to the original: the reader is too slow |
//! | host short of memory (PSI) | halfway back to the original values |
//!
//! A size that an application fixed with SO_RCVBUF stays as it is.

mod resize;
mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::UdpBuffer, source::UdpBufferSource};

/// Its name.
pub const NAME: &str = "udp-buffer";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<UdpBuffer>::default(),
        source: Box::new(UdpBufferSource::new()?),
    })
}
