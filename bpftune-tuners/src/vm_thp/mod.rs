//! `vm-thp`: nobody stalls for a huge page longer than it is worth.
//!
//! | signal | changes |
//! |---|---|
//! | faults stall for huge pages that nobody asked for | `defrag` from `always` to `defer+madvise` |
//! | faults stall for huge pages that programs did ask for (madvise(2)) | `defrag` to `defer` |
//!
//! Only what a trial finds better stays.

mod look;
mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{
    rules::{SAVED_PER_PAGE, VmThp},
    source::VmThpSource,
};

/// Its name.
pub const NAME: &str = "vm-thp";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be mapped; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<VmThp>::default(),
        source: Box::new(VmThpSource::new()?),
    })
}
