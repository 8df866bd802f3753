//! `net-backlog`: processors' queues of incoming packets that hold the bursts that come.
//!
//! | signal | changes |
//! |---|---|
//! | packets lost by a full queue | `net.core.netdev_max_backlog` |
//! | one flow fills a queue for a second, and others lose packets | `net.core.flow_limit_cpu_bitmap` |
//! | packets lost without a pause whatever its length | back to the original: the processor is too slow |
//! | the same, and rounds over its queues are cut short | `net.core.netdev_budget`, `netdev_budget_usecs`, if a trial finds it better |
//! | host short of memory (PSI) | halfway back to the original value |

mod flows;
mod rounds;
mod rules;
mod source;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::NetBacklog, source::NetBacklogSource};

/// Its name.
pub const NAME: &str = "net-backlog";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<NetBacklog>::default(),
        source: Box::new(NetBacklogSource::new()?),
    })
}
