//! `blk-queue`: queues of block devices for what is asked of them: that nobody waits long, or that as much as possible is done.
//!
//! | signal | changes, each by trial |
//! |---|---|
//! | reads wait for milliseconds while writes fill the queue | `/sys/block/*/queue/scheduler`, `nr_requests`, `wbt_lat_usec`, `rq_affinity` |
//!
//! `aim = "latency"` or `"throughput"` in `[tuner.blk-queue]` says what counts. Nothing stays that was not found better.

mod arms;
mod rules;
mod source;
mod sums;

use bpftune_core::{Result, engine::Registration};

pub use self::{rules::BlkQueue, source::BlkQueueSource};

/// Its name.
pub const NAME: &str = "blk-queue";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<BlkQueue>::default(),
        source: Box::new(BlkQueueSource::new()?),
    })
}
