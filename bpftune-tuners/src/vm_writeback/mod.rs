//! `vm-writeback`: no more waits to be written than devices write in a moment, where somebody waits for it.
//!
//! | signal | changes |
//! |---|---|
//! | fsync(2) is slow, writers are held at the limit, and seconds of writing wait before it | less of `vm.dirty_bytes` |
//! | the same with nobody held | less of `vm.dirty_background_bytes`: writing begins earlier |
//! | the limit is less than the devices of today write in a moment | more of it |
//! | writers are held, and for minutes nobody called fsync(2) | back to the original values |
//!
//! Only what a trial finds better stays.

mod look;
mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{
    rules::{BACKLOG_SECONDS, VmWriteback},
    source::VmWritebackSource,
};

/// Its name.
pub const NAME: &str = "vm-writeback";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer or a timer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<VmWriteback>::default(),
        source: Box::new(VmWritebackSource::new()?),
    })
}
