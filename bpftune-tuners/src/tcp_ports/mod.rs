//! `tcp-ports`: local ports for connections that go out.
//!
//! Each connection to the same address and port needs a local port of its own, out of `ip_local_port_range`. A port
//! whose connection this side closed stays taken for a minute (TIME_WAIT). When none is free, `connect(2)` fails with
//! EADDRNOTAVAIL.
//!
//! | signal | changes |
//! |---|---|
//! | no port, and most of the range is in TIME_WAIT | `net.ipv4.tcp_tw_reuse` = 1: a port is free again after a second |
//! | no port | `net.ipv4.ip_local_port_range`, wider, never over a port that somebody listens on |
//! | no port, and no room for a wider range | `net.ipv4.tcp_fin_timeout`, half of it |

mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::TcpPorts, source::TcpPortsSource};

/// Its name.
pub const NAME: &str = "tcp-ports";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<TcpPorts>::default(),
        source: Box::new(TcpPortsSource::new()?),
    })
}
