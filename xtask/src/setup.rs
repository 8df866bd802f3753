//! `cargo xtask setup`: installs what is missing, after saying so.

use std::{fs, io, path::Path, process::Command};

use crate::{
    needs::{Manager, NEEDS, Need, in_path},
    process::{Result, check, is_root, shown},
};

fn missing(needs: &[Need]) -> Vec<&Need> {
    needs.iter().filter(|need| !need.is_there()).collect()
}

/// The verb itself: also says so where nothing is missing.
pub(crate) fn command(only_check: bool) -> Result {
    let missing = missing(NEEDS);
    if missing.is_empty() {
        println!("all {} needs are there", NEEDS.len());
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            println!(
                "note: this kernel shows no BTF (/sys/kernel/btf/vmlinux), so the daemon will run without its hooks"
            );
        }
        return Ok(());
    }
    if only_check {
        list(&missing);
        return Err(format!(
            "{} needs are missing: `cargo xtask setup` installs them",
            missing.len()
        ));
    }
    ensure()
}

fn list(missing: &[&Need]) {
    eprintln!("missing:");
    for need in missing {
        eprintln!("  {:12} to {}", need.name(), need.what_for);
    }
}

/// Before a chore: does nothing, and says nothing, where all is there.
pub(crate) fn ensure() -> Result {
    ensure_all(NEEDS)
}

/// As [`ensure`], for what one verb needs alone.
pub(crate) fn ensure_all(needs: &[Need]) -> Result {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    list(&missing);
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let Some(manager) = Manager::from_os_release(&release) else {
        let names: Vec<_> = missing.iter().map(|need| need.name()).collect();
        return Err(format!(
            "this distribution is not known here: install {} by its own means",
            names.join(", ")
        ));
    };
    let install = manager.install(&manager.packages(&missing));
    if manager != Manager::Apt {
        return Err(format!("install them with: sudo {}", install.join(" ")));
    }
    let sudo = !is_root();
    if sudo && !in_path("sudo") {
        return Err(format!(
            "neither root nor sudo here: as root, run: {}",
            install.join(" ")
        ));
    }
    let apt = |args: &[String]| {
        let mut command = Command::new(if sudo { "sudo" } else { "env" });
        command
            .args(sudo.then_some("env"))
            .arg("DEBIAN_FRONTEND=noninteractive")
            .args(args);
        eprintln!("runs: {}", shown(&command));
        // Standard output belongs to the chore: it may be JSON.
        command.stdout(io::stderr());
        check(&mut command)
    };
    apt(&["apt-get".into(), "update".into(), "-qq".into()])?;
    apt(&install)?;
    let still: Vec<_> = self::missing(needs)
        .iter()
        .map(|need| need.name())
        .collect();
    if still.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "still missing after installing: {}",
            still.join(", ")
        ))
    }
}
