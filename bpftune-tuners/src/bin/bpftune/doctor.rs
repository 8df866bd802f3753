//! `bpftune doctor`: what this kernel and these privileges allow, and the way out.

use std::{fs, path::Path};

use bpftune_core::{
    admin::{self, AdminWatch},
    bpf::HookStatus,
    privilege,
};
use serde::Serialize;

use crate::{
    exit::{self, Failure, Outcome},
    out::Json,
    run::check_privilege,
};

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    /// What.
    what: String,
    /// Whether it is as it should be.
    ok: bool,
    /// Why not.
    why: Option<String>,
    /// What to do about it.
    way_out: Option<String>,
    /// Without it nothing works at all.
    needed: bool,
}

impl Finding {
    fn new(what: impl Into<String>, fault: Option<(String, &str)>, needed: bool) -> Finding {
        let (why, way_out) = fault.unzip();
        Finding {
            what: what.into(),
            ok: why.is_none(),
            why,
            way_out: way_out.map(str::to_owned),
            needed,
        }
    }
}

fn exists(path: &str, why: &str) -> Option<String> {
    (!Path::new(path).exists()).then(|| format!("{path} is not there: {why}"))
}

/// Why a hook may be off, and what helps.
fn way_out(why: &str) -> &'static str {
    // What a parameter lacks is said with its way out.
    if [
        ": boot with",
        "debugfs is not mounted: ",
        "tracefs is not mounted: ",
        "no systemd",
        "irqbalance runs",
    ]
    .iter()
    .any(|way| why.contains(way))
    {
        "the rest works without it"
    } else if why.contains("CONFIG_DEBUG_INFO_BTF") {
        "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions build it"
    } else if why.contains("cgroup v2") {
        "mount it: mount -t cgroup2 none /sys/fs/cgroup. Until then others' writes are found by reading back"
    } else if why.contains("lockdown") {
        "boot without lockdown=confidentiality; lockdown=integrity is fine"
    } else if why.contains("BPFTUNE_WITHOUT_HOOKS") {
        "unset BPFTUNE_WITHOUT_HOOKS"
    } else if why.contains("Operation not permitted") || why.contains("os error 1)") {
        "run it as root; in a container, grant CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN"
    } else {
        "the rest works without it; a newer kernel (6.1 or later) may have what it attaches to"
    }
}

fn surroundings() -> Vec<Finding> {
    let with = |way: &'static str| move |why: String| (why, way);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release
        .trim()
        .split('.')
        .map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let old = (version < (6, 1)).then(|| "this is tested on 6.1 and later".to_owned());
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown")
        .ok()
        .filter(|text| text.contains("[confidentiality]"))
        .map(|_| "confidentiality: BPF may not read kernel memory".to_owned());
    vec![
        Finding::new(
            format!("Linux {}", release.trim()),
            old.map(with("boot a newer kernel")),
            false,
        ),
        Finding::new(
            "kernel type information (BTF)",
            exists(
                "/sys/kernel/btf/vmlinux",
                "tracepoint programs cannot be loaded",
            )
            .map(with("boot a kernel with CONFIG_DEBUG_INFO_BTF=y")),
            true,
        ),
        Finding::new(
            "kernel lockdown",
            lockdown.map(with(
                "boot without lockdown=confidentiality; lockdown=integrity is fine",
            )),
            true,
        ),
        Finding::new(
            "memory pressure (PSI)",
            exists(
                "/proc/pressure/memory",
                "limits are not lowered when memory is short",
            )
            .map(with("boot with psi=1 (CONFIG_PSI)")),
            false,
        ),
    ]
}

fn capabilities() -> Result<Vec<Finding>, Failure> {
    let missing = privilege::missing()?;
    Ok(privilege::REQUIRED
        .iter()
        .map(|(capability, what_for)| {
            let lacks = missing.iter().any(|(other, _)| other == capability);
            let fault = lacks.then(|| {
                (
                    format!("missing; it is there to {what_for}"),
                    "run it as root, or by a service manager that grants it",
                )
            });
            Finding::new(format!("{capability}"), fault, true)
        })
        .collect())
}

/// Loads every hook, as the daemon does, and lets go of it.
pub(crate) fn hooks() -> Result<Vec<(&'static str, Vec<HookStatus>)>, Failure> {
    let mut found = vec![(admin::NAME, AdminWatch::new()?.hooks().to_vec())];
    for (name, load) in bpftune_tuners::ALL {
        found.push((name, load()?.source.hooks().to_vec()));
    }
    Ok(found)
}

pub(crate) fn doctor(args: Json) -> Outcome {
    let mut findings = capabilities()?;
    findings.extend(surroundings());
    let privileged = check_privilege();
    if privileged.is_ok() {
        for (owner, hooks) in hooks()? {
            findings.extend(hooks.into_iter().map(|hook| {
                let what = format!("{owner}: {} {} ({})", hook.kind(), hook.name, hook.section);
                let fault = hook.off.map(|why| {
                    let way_out = way_out(&why);
                    (why, way_out)
                });
                Finding::new(what, fault, false)
            }));
        }
    }
    args.print(&findings, |findings| {
        for finding in findings {
            let state = match (finding.ok, finding.needed) {
                (true, _) => "ok",
                (false, true) => "MISSING",
                (false, false) => "OFF",
            };
            println!("{state:8} {}", finding.what);
            for line in [&finding.why, &finding.way_out].into_iter().flatten() {
                println!("         {line}");
            }
        }
    })?;
    privileged?;
    match findings.iter().filter(|finding| !finding.ok).count() {
        0 => Ok(()),
        count => Err(Failure(
            exit::FAILED,
            format!("{count} things are off; what they watch is not tuned"),
        )),
    }
}
