//! `cpu-sched`: programs that were woken get a processor soon, also beside many that compute.
//!
//! | signal | changes |
//! |---|---|
//! | waits of 4 ms and more in sessions that get less than their share | `kernel.sched_autogroup_enabled` from 0 to 1 |
//! | the same in others | `base_slice_ns` of the scheduler's debugfs halved, where the kernel lets it be written |
//!
//! Only what a trial finds better stays.

mod lacks;
mod rules;
mod sessions;
mod source;
mod tasks;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::CpuSched, source::CpuSchedSource};

/// Its name.
pub const NAME: &str = "cpu-sched";

/// Loads its program.
///
/// # Errors
/// Where the timer cannot be made; a program or pressure trigger that is refused is no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<CpuSched>::default(),
        source: Box::new(CpuSchedSource::new()?),
    })
}
