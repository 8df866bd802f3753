//! `cgroup-mem`: memory that services hold and do not miss goes back to the host, step by step.
//!
//! | signal | changes |
//! |---|---|
//! | a service stalls for memory in less than one part in 2000 of time | `memory.high` a twentieth below what it holds |
//! | it stalls in more than one in 200, under a limit of ours | a fifth more; all of it back from one in 20 on |
//!
//! Services of systemd (`/sys/fs/cgroup/system.slice/*`), where the memory controller is in cgroup v2.

mod groups;
mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::CgroupMem, source::CgroupMemSource};

/// Its name.
pub const NAME: &str = "cgroup-mem";

/// Looks whether this host has what it needs.
///
/// # Errors
/// Where no timer can be made.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<CgroupMem>::default(),
        source: Box::new(CgroupMemSource::new(groups::Tree::of_host())?),
    })
}
