//! `cpu-sched`: programs that were woken get a processor soon, also beside many that compute.
//!
//! | signal | changes |
//! |---|---|
//! | waits of 4 ms and more, mostly behind tasks of other sessions | `kernel.sched_autogroup_enabled` from 0 to 1 |
//! | the same within sessions | `base_slice_ns` of the scheduler's debugfs halved, where the kernel lets it be written |
//!
//! Only what a trial finds better stays.

mod lacks;
mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::CpuSched, source::CpuSchedSource};

/// Its name.
pub const NAME: &str = "cpu-sched";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<CpuSched>::default(),
        source: Box::new(CpuSchedSource::new()?),
    })
}
