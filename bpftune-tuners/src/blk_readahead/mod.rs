//! `blk-readahead`: as much is read ahead of need as readers of a device use, and no more.
//!
//! | signal | changes |
//! |---|---|
//! | much is read around single pages of mapped files, and nobody reads on | less of `/sys/block/*/queue/read_ahead_kb` |
//! | streams use up full windows faster than [`SHORT_PER_SECOND`] | more of it |
//! | host short of memory (PSI) | halfway back to the original values |
//!
//! Where a device has both, the value goes to where neither is so, or stays.

mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{
    rules::{BlkReadahead, SHORT_PER_SECOND},
    source::BlkReadaheadSource,
};

/// Its name.
pub const NAME: &str = "blk-readahead";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<BlkReadahead>::default(),
        source: Box::new(BlkReadaheadSource::new()?),
    })
}
