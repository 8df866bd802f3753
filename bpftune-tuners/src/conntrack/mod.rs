//! `conntrack`: connection tables with room for the connections that come.
//!
//! Each namespace in which firewall rules or NAT ask for it tracks connections. One limit holds for the table of each,
//! `net.netfilter.nf_conntrack_max`, and past it packets of new connections are dropped.
//!
//! | signal | changes |
//! |---|---|
//! | a table more than half full | `nf_conntrack_max`, twice as much; `nf_conntrack_buckets` where chains get long |
//! | the same, with the limit at its bound | timeouts of that namespace, down to what standards ask for |
//! | host short of memory (PSI) | halfway back to the original values |
//!
//! A table filled by TCP handshakes that nobody completes is a flood: then nothing grows.

mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::Conntrack, source::ConntrackSource};

/// Its name.
pub const NAME: &str = "conntrack";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<Conntrack>::default(),
        source: Box::new(ConntrackSource::new()?),
    })
}
