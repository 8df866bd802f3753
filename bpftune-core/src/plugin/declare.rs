//! What a plugin may own: the tunables that it declares, checked.

use serde::Deserialize;

use super::trial;
use crate::{Bound, Cost, Scope, Tunable, governor::Glob, trial::Plan};

/// A tunable as a plugin declares it, in its hello or its rule file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// The sysctl's dotted name: "net.core.somaxconn".
    pub name: String,
    /// Unit of the numbers.
    pub unit: String,
    /// What it does, in one sentence.
    #[serde(default)]
    pub about: String,
    /// Lowest and highest of each of its numbers; as many as the sysctl has.
    pub bounds: Vec<(i64, i64)>,
    /// How a change of it is tried.
    #[serde(default)]
    pub trial: trial::Declared,
}

/// Which tunables plugins may declare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permitted {
    /// These,
    pub allow: Vec<Glob>,
    /// but none of these.
    pub deny: Vec<Glob>,
}

/// As the configuration has it where no file says more.
impl Default for Permitted {
    fn default() -> Permitted {
        let section = crate::config::schema::Plugins::default();
        Permitted {
            allow: section.allow,
            deny: section.deny,
        }
    }
}

impl Permitted {
    /// Whether a tunable of this name may be declared.
    #[must_use]
    pub fn permits(&self, name: &str) -> bool {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(name));
        any(&self.allow) && !any(&self.deny)
    }
}

/// Sysctls below net. that are one for the host, though most there are one a network namespace: those
/// of `net_core_table` in net/core/sysctl_net_core.c, `ipv4_table` in net/ipv4/sysctl_net_ipv4.c,
/// `ipv6_rotable` and the sizes of the connection table in nf_conntrack_standalone.c.
const HOST_WIDE: &[&str] = &[
    "net.core.bpf_*",
    "net.core.busy_*",
    "net.core.default_qdisc",
    "net.core.dev_weight*",
    "net.core.flow_limit*",
    "net.core.fb_tunnels_only_for_init_net",
    "net.core.devconf_inherit_init_net",
    "net.core.gro_normal_batch",
    "net.core.high_order_alloc_disable",
    "net.core.max_skb_frags",
    "net.core.mem_pcpu_rsv",
    "net.core.message_*",
    "net.core.netdev_*",
    "net.core.?mem_*",
    "net.core.rps_*",
    "net.core.skb_defer_max",
    "net.core.tstamp_allow_data",
    "net.core.warnings",
    "net.ipv4.cipso_*",
    "net.ipv4.icmp_msgs_*",
    "net.ipv4.inet_peer_*",
    "net.ipv4.tcp_allowed_congestion_control",
    "net.ipv4.tcp_available_*",
    "net.ipv4.tcp_low_latency",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_mem",
    "net.ipv4.udp_mem",
    "net.ipv6.calipso_*",
    "net.ipv6.mld_max_msf",
    "net.netfilter.nf_conntrack_buckets",
    "net.netfilter.nf_conntrack_max",
];

/// The scope that a tunable of this name has.
#[must_use]
pub fn scope_of(name: &str) -> Scope {
    let host_wide = || {
        let mut globs = HOST_WIDE
            .iter()
            .filter_map(|glob| glob.parse::<Glob>().ok());
        globs.any(|glob| glob.matches(name))
    };
    if name.starts_with("net.") && !host_wide() {
        Scope::Netns
    } else {
        Scope::Global
    }
}

impl Declared {
    /// Checks the declaration; the text of the error is for the plugin's author.
    ///
    /// # Errors
    /// What is wrong, and the way out.
    pub fn check(&self, permitted: &Permitted) -> Result<(), String> {
        let Declared {
            name,
            unit,
            about,
            bounds,
            trial,
        } = self;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let word = |part: &str| !part.is_empty() && part.bytes().all(plain);
        if name.len() > 128 || !name.contains('.') || !name.split('.').all(word) {
            return Err(format!(
                "{name:?} is no tunable: write a sysctl's dotted name, such as net.core.somaxconn"
            ));
        }
        if !permitted.permits(name) {
            return Err(format!(
                "{name} is not for plugins: the operator can permit it, by allow and deny in [plugins]"
            ));
        }
        if unit.len() > 32 || about.len() > 256 {
            return Err(format!(
                "{name}: a unit has at most 32 bytes, about has at most 256"
            ));
        }
        if bounds.is_empty() || bounds.len() > 8 {
            return Err(format!(
                "{name}: bounds has a pair for each of the sysctl's numbers, 1 to 8"
            ));
        }
        if let Some((low, high)) = bounds.iter().find(|(low, high)| low > high) {
            return Err(format!(
                "{name}: bounds [{low}, {high}] have no number between them"
            ));
        }
        trial.check(name).map_err(|why| format!("{name}: {why}"))
    }

    /// As the framework knows it.
    #[must_use]
    pub fn tunable(&self) -> Tunable {
        Tunable {
            name: self.name.clone().into(),
            scope: scope_of(&self.name),
            unit: self.unit.clone().into(),
            about: self.about.clone().into(),
            bound: Bound::Fixed(self.bounds.clone()),
            cost: Cost::ByUnit,
        }
    }

    /// How a change of it is tried.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.trial.plan(&self.name)
    }
}

/// What a plugin may be called, for errors.
pub const NAMES: &str = "lower case letters, digits and hyphens, at most 32, a letter first";

/// Whether a plugin may have this name: it is in files, logs and on command lines.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn declared(name: &str) -> Declared {
        Declared {
            name: name.into(),
            unit: "connections".into(),
            about: String::new(),
            bounds: vec![(1, 10)],
            trial: trial::Declared::default(),
        }
    }

    #[test]
    fn permits_tuning_and_nothing_that_guards_the_host() {
        let permitted = Permitted::default();
        for name in ["net.core.somaxconn", "net.ipv4.tcp_rmem", "vm.swappiness"] {
            declared(name).check(&permitted).unwrap();
        }
        for name in [
            "kernel.core_pattern",
            "kernel.modprobe",
            "net.ipv4.ip_forward",
            "net.ipv4.conf.all.forwarding",
            "net.ipv4.conf.all.rp_filter",
            "net.core.bpf_jit_harden",
            "vm.mmap_min_addr",
            "vm.overcommit_memory.x/../../kernel",
            "fs.protected_symlinks",
        ] {
            assert!(declared(name).check(&permitted).is_err(), "{name}");
        }
    }

    #[test]
    fn names_cannot_leave_proc_sys() {
        let all = Permitted {
            allow: vec!["*".parse().unwrap()],
            deny: Vec::new(),
        };
        for name in [
            "",
            "vm",
            "vm..x",
            "/etc.passwd",
            "vm/../x.y",
            "vm.\0x",
            "net.\u{e4}",
            ".vm.x",
        ] {
            assert!(declared(name).check(&all).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_scope_is_no_matter_of_opinion() {
        for (name, scope) in [
            ("net.core.rmem_max", Scope::Global),
            ("net.core.optmem_max", Scope::Netns),
            ("net.core.somaxconn", Scope::Netns),
            ("net.ipv4.tcp_mem", Scope::Global),
            ("net.ipv4.tcp_rmem", Scope::Netns),
            ("net.core.netdev_max_backlog", Scope::Global),
            ("vm.swappiness", Scope::Global),
        ] {
            assert_eq!(scope_of(name), scope, "{name}");
        }
        assert!(HOST_WIDE.iter().all(|glob| glob.parse::<Glob>().is_ok()));
    }

    #[test]
    fn bounds_must_hold_a_number() {
        let mut declared = declared("vm.swappiness");
        declared.bounds = vec![(10, 1)];
        assert!(declared.check(&Permitted::default()).is_err());
        declared.bounds = Vec::new();
        assert!(declared.check(&Permitted::default()).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            let _ = (scope_of(&text), is_name(&text));
            let _ = declared(&text).check(&Permitted::default());
        }
    }
}
