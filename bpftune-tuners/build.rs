//! Compiles each enabled tuner's BPF program.
use std::{env, ffi::OsString, path::PathBuf};

/// Feature and folder.
const TUNERS: &[(&str, &str)] = &[
    ("CARGO_FEATURE_BLK_QUEUE", "blk_queue"),
    ("CARGO_FEATURE_BLK_READAHEAD", "blk_readahead"),
    ("CARGO_FEATURE_CONNTRACK", "conntrack"),
    ("CARGO_FEATURE_CPU_SCHED", "cpu_sched"),
    ("CARGO_FEATURE_IP_FRAG", "ip_frag"),
    ("CARGO_FEATURE_IRQ_STEER", "irq_steer"),
    ("CARGO_FEATURE_NEIGH", "neigh"),
    ("CARGO_FEATURE_NET_BACKLOG", "net_backlog"),
    ("CARGO_FEATURE_PROC_LIMITS", "proc_limits"),
    ("CARGO_FEATURE_TCP_BUFFER", "tcp_buffer"),
    ("CARGO_FEATURE_TCP_CONN", "tcp_conn"),
    ("CARGO_FEATURE_TCP_LISTEN", "tcp_listen"),
    ("CARGO_FEATURE_TCP_PORTS", "tcp_ports"),
    ("CARGO_FEATURE_UDP_BUFFER", "udp_buffer"),
    ("CARGO_FEATURE_VM_MAPS", "vm_maps"),
    ("CARGO_FEATURE_VM_RECLAIM", "vm_reclaim"),
    ("CARGO_FEATURE_VM_THP", "vm_thp"),
    ("CARGO_FEATURE_VM_WRITEBACK", "vm_writeback"),
];

fn main() {
    let var = |name: &str| {
        PathBuf::from(env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}")))
    };
    let include = var("DEP_BPFTUNE_CORE_INCLUDE");
    println!("cargo::rerun-if-changed={}", include.display());
    for (_, name) in TUNERS
        .iter()
        .filter(|(feature, _)| env::var_os(feature).is_some())
    {
        let source = var("CARGO_MANIFEST_DIR")
            .join("src")
            .join(name)
            .join(format!("{name}.bpf.c"));
        println!("cargo::rerun-if-changed={}", source.display());
        if let Err(error) = libbpf_cargo::SkeletonBuilder::new()
            .source(&source)
            .obj(var("OUT_DIR").join(format!("{name}.bpf.o")))
            .clang_args([OsString::from("-I"), include.clone().into_os_string()])
            .build()
        {
            println!(
                "cargo::error=compiling {} failed (is clang installed? `cargo xtask setup` installs it): {error:?}",
                source.display()
            );
        }
    }
}
