//! `tcp-conn`: the congestion control that suits the path, for each remote network.
//!
//! The kernel has one default for all paths. One that takes each loss for congestion starves on a path that loses
//! packets for other reasons. One program measures connections as they end, for each remote /24 or /64; where those lose
//! packets, another (sockops) tries what else the kernel offers and keeps to the best. The default itself is never written.

mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::TcpConn, source::TcpConnSource};

/// Its name.
pub const NAME: &str = "tcp-conn";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<TcpConn>::default(),
        source: Box::new(TcpConnSource::new()?),
    })
}
