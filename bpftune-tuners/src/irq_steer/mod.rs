//! `irq-steer`: where one processor takes in all packets of a device while others have nothing to do, they share the work;
//! where packets are shared out by chance, they go where they are read.
//!
//! | signal | changes |
//! |---|---|
//! | a processor is busy with packets of a device that has one receive queue, and another one idles | `/sys/class/net/*/queues/rx-0/rps_cpus`, where it is empty |
//! | TCP connections are read on other processors than those that packets of the device are steered to | `net.core.rps_sock_flow_entries`, then `/sys/class/net/*/queues/rx-0/rps_flow_cnt`, where they are 0 |
//! | the same, and other devices bring packets to that processor, too | `/proc/irq/*/smp_affinity_list` of the device's interrupt, where it may come to any processor |
//!
//! Only what a trial finds better stays. Processors that are isolated are never among them, nor those of another memory node.

mod company;
mod follow;
mod interrupts;
mod load;
mod places;
mod rules;
mod source;
mod spread;

use bpftune_core::{Cpus, Result, engine::Registration};

pub use self::{rules::IrqSteer, source::IrqSteerSource};

/// Its name.
pub const NAME: &str = "irq-steer";

/// Loads its hooks.
///
/// # Errors
/// Where the ring buffer cannot be made; refused hooks are no error.
pub fn load() -> Result<Registration> {
    let places = places::of_host();
    Ok(Registration {
        source: Box::new(IrqSteerSource::new(places.clone())?),
        tuner: Box::new(IrqSteer::new(places, Cpus::online())),
    })
}
