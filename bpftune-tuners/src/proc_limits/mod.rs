//! `proc-limits`: limits on how many tasks, files, inotify watches and the like there may be, with room for programs that
//! need more.
//!
//! | signal | changes |
//! |---|---|
//! | three quarters of the tasks that there may be are there, and they are no fork bomb | `kernel.pid_max`, `kernel.threads-max` |
//! | half of a user's inotify watches or instances are taken | `fs.inotify.max_user_watches`, `max_user_instances` |
//! | half of the files that may be open are | `fs.file-max` |
//! | half of the asynchronous requests are taken | `fs.aio-max-nr` |
//! | four fifths of a user's keys, or of the bytes in them | `kernel.keys.maxkeys`, `maxbytes` |
//! | nine tenths of a user's user namespaces | `user.max_user_namespaces`, where it is not 0 |
//!
//! Limits only. Nothing is taken from anybody when memory is short: a limit that falls frees nothing.

mod crowd;
mod limits;
mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::ProcLimits, source::ProcLimitsSource};

/// Its name.
pub const NAME: &str = "proc-limits";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<ProcLimits>::default(),
        source: Box::new(ProcLimitsSource::new()?),
    })
}
