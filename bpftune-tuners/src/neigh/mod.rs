//! `neigh`: neighbour tables with room for the neighbours that come.
//!
//! The kernel keeps one table a family for all namespaces, and refuses an entry, and with it the packet, past
//! `gc_thresh3`. A burst fills it within milliseconds, so it is given room before:
//!
//! | signal | changes |
//! |---|---|
//! | table in use, with less room than the network of the new entry or a burst may need | `gc_thresh3`, `gc_thresh2` up |
//! | entry refused | the same |
//! | table nearly empty again | what was raised for use goes back, a burst's reserve stays |
//! | host short of memory (PSI) | halfway back to the original values |
//!
//! Entries that never get an address are a scan: beyond the reserve nothing grows for those.

mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::rules::Neigh;

/// Its name.
pub const NAME: &str = "neigh";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<Neigh>::default(),
        source: Box::new(source::load()?),
    })
}
