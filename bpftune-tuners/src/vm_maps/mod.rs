//! `vm-maps`: as many mappings of a process as it needs, and a word on why else memory is refused.
//!
//! | signal | changes |
//! |---|---|
//! | a process has half as many mappings as it may have | `vm.max_map_count` |
//! | `ENOMEM` for memory is promised to others already | nothing: the log says so, and how much is |
//! | `ENOMEM` while all huge pages are taken | nothing: the log says so |

mod cause;
mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::VmMaps, source::VmMapsSource};

/// Its name.
pub const NAME: &str = "vm-maps";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<VmMaps>::default(),
        source: Box::new(VmMapsSource::new()?),
    })
}
