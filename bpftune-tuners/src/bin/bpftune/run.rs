//! `bpftune run` and `bpftune doctor`.

use std::{path::PathBuf, time::Instant};

use bpftune_core::{
    admin::{self, AdminWatch},
    engine::{Engine, Settings},
    governor::{Mode, Policy},
    privilege,
};
use clap::builder::PossibleValuesParser;
use tracing_subscriber::EnvFilter;

use crate::{Failure, status};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// observe: count only; advise: propose and record, write nothing; auto: write
    #[arg(long, default_value_t = Mode::Auto, value_parser = PossibleValuesParser::new(["observe", "advise", "auto"])
        .map(|mode| mode.parse::<Mode>().expect("one of the possible values")))]
    mode: Mode,
    /// Leave the values as they are on exit (`bpftune revert` restores them later)
    #[arg(long)]
    keep: bool,
    /// Run only this tuner (repeat for more)
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(bpftune_tuners::ALL.iter().map(|(name, _)| *name)))]
    tuner: Vec<String>,
    /// Touch only this network namespace, and no global parameter (repeat for more):
    /// /run/netns/NAME or /proc/PID/ns/net
    #[arg(long, value_name = "PATH")]
    netns: Vec<PathBuf>,
    /// Leave the host's global parameters (tcp_mem, rmem_max, wmem_max) alone
    #[arg(long)]
    no_global: bool,
    /// Most changes of one parameter in one namespace in an hour
    #[arg(long, value_name = "N", default_value_t = Policy::default().changes_per_hour)]
    changes_per_hour: usize,
    /// Log every signal
    #[arg(short, long)]
    debug: bool,
}

use clap::builder::TypedValueParser as _;

pub(crate) fn run(args: Args, state_dir: PathBuf, control: PathBuf) -> Result<(), Failure> {
    let started = Instant::now();
    let Args {
        mode,
        keep,
        tuner,
        netns,
        no_global,
        changes_per_hour,
        debug,
    } = args;
    let default = if debug { "debug" } else { "info" };
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default)),
        )
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    check_privilege()?;
    let registrations = bpftune_tuners::ALL
        .iter()
        .filter(|(name, _)| tuner.is_empty() || tuner.iter().any(|wanted| wanted == name))
        .map(|(_, load)| load())
        .collect::<Result<Vec<_>, _>>()?;
    let policy = Policy {
        mode,
        changes_per_hour,
        global: !no_global,
        ..Policy::default()
    };
    let settings = Settings {
        policy,
        state_dir,
        control: Some(control),
        keep,
        only_netns: netns,
    };
    let engine = Engine::new(settings, registrations)?;
    privilege::drop_rest()?;
    engine.run(|| {
        let ms = started.elapsed().as_millis();
        tracing::info!(
            "ready after {ms} ms, mode {mode}; {} on exit",
            if keep {
                "keeps changed values"
            } else {
                "restores every value"
            }
        );
        // Fails only where no service manager asked.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    })?;
    Ok(())
}

fn check_privilege() -> Result<(), Failure> {
    let missing = privilege::missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut text = String::from("privileges are missing:\n");
    for (capability, what_for) in missing {
        text.push_str(&format!("  {capability}: to {what_for}\n"));
    }
    text.push_str("run it as root, or by a service manager that grants these capabilities");
    Err(Failure(status::PRIVILEGE, text))
}

pub(crate) fn doctor() -> Result<(), Failure> {
    let missing = privilege::missing()?;
    for (capability, what_for) in privilege::REQUIRED {
        let state = if missing.iter().any(|(other, _)| other == capability) {
            "MISSING"
        } else {
            "ok"
        };
        println!("{state:8} {capability}: to {what_for}");
    }
    let btf = std::path::Path::new("/sys/kernel/btf/vmlinux").exists();
    println!(
        "{:8} kernel type information (/sys/kernel/btf/vmlinux)",
        if btf { "ok" } else { "MISSING" }
    );
    check_privilege()?;
    let mut off = 0;
    let mut show = |owner: &str, hooks: &[bpftune_core::bpf::HookStatus]| {
        for hook in hooks {
            off += usize::from(hook.off.is_some());
            match &hook.off {
                None => println!("ok       {owner}: {} ({})", hook.name, hook.section),
                Some(why) => println!("OFF      {owner}: {} ({}): {why}", hook.name, hook.section),
            }
        }
    };
    show(admin::NAME, AdminWatch::new()?.hooks());
    for (name, load) in bpftune_tuners::ALL {
        show(name, load()?.source.hooks());
    }
    if off > 0 {
        return Err(Failure(
            status::FAILED,
            format!("{off} hooks are off; what they watch is not tuned"),
        ));
    }
    Ok(())
}
