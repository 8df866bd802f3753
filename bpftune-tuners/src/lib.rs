//! Tuners for `bpftune`, each in a folder of its own with its BPF program, each behind a cargo
//! feature of its name. No tuner knows another.

#[cfg(feature = "blk-queue")]
pub mod blk_queue;
#[cfg(feature = "blk-readahead")]
pub mod blk_readahead;
#[cfg(any(feature = "net-backlog", feature = "udp-buffer"))]
mod bursts;
#[cfg(feature = "cgroup-mem")]
pub mod cgroup_mem;
#[cfg(feature = "conntrack")]
pub mod conntrack;
#[cfg(feature = "cpu-sched")]
pub mod cpu_sched;
#[cfg(any(feature = "blk-queue", feature = "blk-readahead"))]
mod disks;
#[cfg(any(
    feature = "blk-queue",
    feature = "blk-readahead",
    feature = "irq-steer"
))]
mod focus;
#[cfg(feature = "ip-frag")]
pub mod ip_frag;
#[cfg(feature = "irq-steer")]
pub mod irq_steer;
#[cfg(feature = "neigh")]
pub mod neigh;
#[cfg(feature = "net-backlog")]
pub mod net_backlog;
#[cfg(feature = "proc-limits")]
pub mod proc_limits;
#[cfg(any(feature = "tcp-listen", feature = "udp-buffer"))]
mod reach;
#[cfg(feature = "tcp-buffer")]
pub mod tcp_buffer;
#[cfg(feature = "tcp-conn")]
pub mod tcp_conn;
#[cfg(feature = "tcp-listen")]
pub mod tcp_listen;
#[cfg(feature = "tcp-ports")]
pub mod tcp_ports;
#[cfg(test)]
mod testing;
#[cfg(any(feature = "net-backlog", feature = "vm-reclaim"))]
mod tries;
#[cfg(any(
    feature = "blk-queue",
    feature = "blk-readahead",
    feature = "vm-writeback"
))]
mod trouble;
#[cfg(feature = "udp-buffer")]
pub mod udp_buffer;
#[cfg(feature = "vm-maps")]
pub mod vm_maps;
#[cfg(feature = "vm-reclaim")]
pub mod vm_reclaim;
#[cfg(feature = "vm-thp")]
pub mod vm_thp;
#[cfg(feature = "vm-writeback")]
pub mod vm_writeback;

use bpftune_core::{Result, Tuner, engine::Registration};

/// Loads a tuner: its BPF hooks and its rules.
pub type Load = fn() -> Result<Registration>;

/// The rules of every tuner of this build, without hooks: to ask what they own and take.
#[must_use]
pub fn catalogue() -> Vec<Box<dyn Tuner>> {
    vec![
        #[cfg(feature = "blk-queue")]
        Box::<blk_queue::BlkQueue>::default(),
        #[cfg(feature = "blk-readahead")]
        Box::<blk_readahead::BlkReadahead>::default(),
        #[cfg(feature = "cgroup-mem")]
        Box::<cgroup_mem::CgroupMem>::default(),
        #[cfg(feature = "conntrack")]
        Box::<conntrack::Conntrack>::default(),
        #[cfg(feature = "cpu-sched")]
        Box::<cpu_sched::CpuSched>::default(),
        #[cfg(feature = "ip-frag")]
        Box::<ip_frag::IpFrag>::default(),
        #[cfg(feature = "irq-steer")]
        Box::<irq_steer::IrqSteer>::default(),
        #[cfg(feature = "neigh")]
        Box::<neigh::Neigh>::default(),
        #[cfg(feature = "net-backlog")]
        Box::<net_backlog::NetBacklog>::default(),
        #[cfg(feature = "proc-limits")]
        Box::<proc_limits::ProcLimits>::default(),
        #[cfg(feature = "tcp-buffer")]
        Box::<tcp_buffer::TcpBuffer>::default(),
        #[cfg(feature = "tcp-conn")]
        Box::<tcp_conn::TcpConn>::default(),
        #[cfg(feature = "tcp-listen")]
        Box::<tcp_listen::TcpListen>::default(),
        #[cfg(feature = "tcp-ports")]
        Box::<tcp_ports::TcpPorts>::default(),
        #[cfg(feature = "udp-buffer")]
        Box::<udp_buffer::UdpBuffer>::default(),
        #[cfg(feature = "vm-maps")]
        Box::<vm_maps::VmMaps>::default(),
        #[cfg(feature = "vm-reclaim")]
        Box::<vm_reclaim::VmReclaim>::default(),
        #[cfg(feature = "vm-thp")]
        Box::<vm_thp::VmThp>::default(),
        #[cfg(feature = "vm-writeback")]
        Box::<vm_writeback::VmWriteback>::default(),
    ]
}

/// Every tuner of this build, by name.
pub const ALL: &[(&str, Load)] = &[
    #[cfg(feature = "blk-queue")]
    (blk_queue::NAME, blk_queue::load),
    #[cfg(feature = "blk-readahead")]
    (blk_readahead::NAME, blk_readahead::load),
    #[cfg(feature = "cgroup-mem")]
    (cgroup_mem::NAME, cgroup_mem::load),
    #[cfg(feature = "conntrack")]
    (conntrack::NAME, conntrack::load),
    #[cfg(feature = "cpu-sched")]
    (cpu_sched::NAME, cpu_sched::load),
    #[cfg(feature = "ip-frag")]
    (ip_frag::NAME, ip_frag::load),
    #[cfg(feature = "irq-steer")]
    (irq_steer::NAME, irq_steer::load),
    #[cfg(feature = "neigh")]
    (neigh::NAME, neigh::load),
    #[cfg(feature = "net-backlog")]
    (net_backlog::NAME, net_backlog::load),
    #[cfg(feature = "proc-limits")]
    (proc_limits::NAME, proc_limits::load),
    #[cfg(feature = "tcp-buffer")]
    (tcp_buffer::NAME, tcp_buffer::load),
    #[cfg(feature = "tcp-conn")]
    (tcp_conn::NAME, tcp_conn::load),
    #[cfg(feature = "tcp-listen")]
    (tcp_listen::NAME, tcp_listen::load),
    #[cfg(feature = "tcp-ports")]
    (tcp_ports::NAME, tcp_ports::load),
    #[cfg(feature = "udp-buffer")]
    (udp_buffer::NAME, udp_buffer::load),
    #[cfg(feature = "vm-maps")]
    (vm_maps::NAME, vm_maps::load),
    #[cfg(feature = "vm-reclaim")]
    (vm_reclaim::NAME, vm_reclaim::load),
    #[cfg(feature = "vm-thp")]
    (vm_thp::NAME, vm_thp::load),
    #[cfg(feature = "vm-writeback")]
    (vm_writeback::NAME, vm_writeback::load),
];

#[cfg(test)]
mod tests {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };

    use super::*;

    /// Whether a kernel of these types has what a program attaches to.
    fn is_there(types: &[u8], section: &str) -> bool {
        let Some(event) = section.strip_prefix("tp_btf/") else {
            return true;
        };
        let name = format!("\0btf_trace_{event}\0");
        types
            .windows(name.len())
            .any(|window| window == name.as_bytes())
    }

    /// Those that are off, and why, with tracefs mounted for this thread alone: not every machine has it.
    fn hooks_off() -> Vec<String> {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        // In a chroot the root is no mount point.
        for place in ["/", "/sys"] {
            let _ = mount(
                none,
                place,
                none,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                none,
            );
        }
        let tracefs = "/sys/kernel/tracing";
        mount(
            Some("tracefs"),
            tracefs,
            Some("tracefs"),
            MsFlags::empty(),
            none,
        )
        .unwrap();
        let types = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        let mut off = Vec::new();
        for (name, load) in ALL {
            let source = load().unwrap().source;
            for hook in source.hooks().iter().filter(|hook| hook.kind() == "hook") {
                let (about, is_there) = (&hook.section, is_there(&types, &hook.section));
                match &hook.off {
                    Some(why) if is_there => off.push(format!("{name}: {about}: {why}")),
                    Some(why) => assert!(why.contains("has no tracepoint"), "{about}: {why}"),
                    None => assert!(is_there, "{about}: attached to nothing?"),
                }
            }
        }
        off
    }

    #[test]
    fn every_hook_of_every_tuner_loads_where_the_kernel_has_its_place() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP: not root");
            return;
        }
        let off = std::thread::spawn(hooks_off).join().unwrap();
        assert!(off.is_empty(), "{off:#?}");
    }
}
