//! `tcp-listen`: queues of listening sockets that are long enough for the connections that really come.
//!
//! `listen(2)` cuts the queue that an application asks for down to `net.core.somaxconn`. Connections that come in a
//! burst which is longer are refused in silence: their clients try again after a second, then three, then seven.
//!
//! | signal | changes |
//! |---|---|
//! | accept queue full, at the length that `somaxconn` allows | `net.core.somaxconn`, and the queue of the listeners that it cut down |
//! | queue of handshakes full, and those are answered | the same |
//! | queue of handshakes full with syncookies off | `net.ipv4.tcp_syncookies` = 1; where that may not be, `net.ipv4.tcp_max_syn_backlog` |
//! | host short of memory (PSI) | halfway back to the original values |
//!
//! Handshakes that nobody answers are a flood: then nothing grows. Syncookies are never switched off.

mod relisten;
mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::TcpListen, source::TcpListenSource};

/// Its name.
pub const NAME: &str = "tcp-listen";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer or a timer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<TcpListen>::default(),
        source: Box::new(TcpListenSource::new()?),
    })
}
