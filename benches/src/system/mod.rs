//! Faults of memory, disks, processors and processes that a tuner is to find: `cargo xtask lab system`.
//!
//! The same frame as for the network. Whatever is written to the host is put back when a run ends.

mod blk_queue;
mod blk_readahead;
mod control_group;
mod cpu_sched;
mod disk;
mod irq_follow;
mod irq_steer;
mod load;
mod memory;
mod mixed;
mod no_fault;
mod pid_ns;
mod proc_limits;
mod slow_disk;
mod vm_maps;
mod vm_reclaim;
mod vm_thp;
mod vm_writeback;
mod workers;

pub use self::load::run as run_load;
use crate::network::{Scenario, Values};

/// Debian's tuned 2.20, profile throughput-performance: what concerns the system. It sets no limits.
const THROUGHPUT: (&str, Values) = ("throughput-performance", &[]);

/// Every scenario.
#[must_use]
pub fn all() -> Vec<Box<dyn Scenario>> {
    vec![
        Box::new(mixed::NothingWrong),
        Box::new(blk_queue::BesideWriter),
        Box::new(blk_queue::BY_TURNS),
        Box::new(blk_queue::SMALL_WRITES),
        Box::new(blk_queue::MOST_READS),
        Box::new(blk_readahead::Mapping),
        Box::new(blk_readahead::Streams),
        Box::new(blk_readahead::BESIDE),
        Box::new(blk_readahead::BY_TURNS),
        Box::new(proc_limits::Watches),
        Box::new(proc_limits::Aio),
        Box::new(proc_limits::Threads),
        Box::new(proc_limits::BY_TURNS),
        Box::new(proc_limits::BOMB),
        Box::new(proc_limits::NOTHING_WRONG),
        Box::new(vm_maps::Guarded),
        Box::new(vm_maps::BY_TURNS),
        Box::new(vm_maps::LEAK),
        Box::new(vm_maps::NOTHING_WRONG),
        Box::new(vm_reclaim::Requests),
        Box::new(vm_reclaim::AT_ITS_LIMIT),
        Box::new(vm_reclaim::NEVER_ENOUGH),
        Box::new(vm_thp::Bursts),
        Box::new(vm_thp::HEAP),
        Box::new(vm_thp::BY_TURNS),
        Box::new(vm_thp::NOTHING_WRONG),
        Box::new(vm_writeback::Log),
        Box::new(vm_writeback::ALONE),
        Box::new(vm_writeback::IN_MEMORY),
        Box::new(vm_writeback::COPIES),
        Box::new(irq_steer::Flood),
        Box::new(irq_steer::BUSY_READER),
        Box::new(irq_steer::NOTHING_WRONG),
        Box::new(irq_follow::Strays),
        Box::new(irq_follow::CROSSED),
        Box::new(cpu_sched::Frames),
        Box::new(cpu_sched::CROWD),
        Box::new(cpu_sched::BY_TURNS),
        Box::new(cpu_sched::NOTHING_WRONG),
        Box::new(cpu_sched::PAIRS),
    ]
}
