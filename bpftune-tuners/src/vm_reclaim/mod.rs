//! `vm-reclaim`: free pages in time, where tasks that want one have to free some themselves.
//!
//! | signal | changes |
//! |---|---|
//! | tasks wait in direct reclaim while most of memory could be freed | more of `vm.watermark_scale_factor` |
//! | the host is short of memory | back towards the original value |
//!
//! Only what a trial finds better stays.

mod look;
mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{
    rules::{MATTERS, MOST, VmReclaim},
    source::VmReclaimSource,
};

/// Its name.
pub const NAME: &str = "vm-reclaim";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer or a timer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<VmReclaim>::default(),
        source: Box::new(VmReclaimSource::new()?),
    })
}
