//! A `main` for a daemon of your own: your tuners, this framework.
//!
//! ```no_run
//! use bpftune_core::{daemon, engine::Registration};
//! # fn my_tuner() -> bpftune_core::Result<Registration> { unimplemented!() }
//!
//! fn main() -> std::process::ExitCode {
//!     daemon::main(&[("my-tuner", my_tuner)])
//! }
//! ```
//!
//! It takes the options of `bpftune run` that matter to tuners; `--help` lists them. Files, journal and socket are its
//! own, named after the program: /etc/NAME/bpftune.toml, /var/lib/NAME, /run/NAME/control, so that
//! `bpftune status --control /run/NAME/control` and all the other commands work with it. Two daemons run beside each
//! other as long as no tunable has two owners. Plugins are loaded by `bpftune` alone.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::{
    Result,
    config::{Files, Live, Overrides},
    engine::{Engine, Registration, Settings},
    governor::{ExitPolicy, Mode},
    privilege, reverter,
    trust::Trust,
};

/// Makes a tuner ready: loads its hooks, opens its source.
pub type Load = fn() -> Result<Registration>;

#[derive(Parser)]
#[command(
    version,
    about = "Tunes this host by the tuners that it was built with"
)]
struct Cli {
    /// observe: count only; advise: propose and record, write nothing; auto: write. Overrides the configuration, and
    /// nothing goes further
    #[arg(long)]
    mode: Option<Mode>,
    /// The directory of bpftune.toml and conf.d [default: /etc/NAME of this program]
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// The journal's directory [default: /var/lib/NAME]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The control socket [default: /run/NAME/control]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Leave the values as they are on exit
    #[arg(long)]
    keep: bool,
    /// Touch only this network namespace, and no global parameter (repeat for more)
    #[arg(long, value_name = "PATH")]
    netns: Vec<PathBuf>,
    /// Log every signal
    #[arg(short, long)]
    debug: bool,
}

/// Runs the tuners until SIGINT or SIGTERM, with the options of the command line.
///
/// To be the first thing that `main` does: the program is started anew, as what restores values where the daemon is
/// killed.
#[must_use]
pub fn main(tuners: &[(&str, Load)]) -> ExitCode {
    if let Some(status) = reverter::run_if_asked() {
        return status;
    }
    let program = std::env::current_exe().unwrap_or_else(|_| "bpftune".into());
    let name = Path::new(program.file_name().unwrap_or_default());
    match run(tuners, Cli::parse(), name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", name.display());
            ExitCode::FAILURE
        }
    }
}

fn run(tuners: &[(&str, Load)], cli: Cli, name: &Path) -> Result<()> {
    let started = Instant::now();
    let Cli {
        mode,
        config_dir,
        state_dir,
        control,
        keep,
        netns,
        debug,
    } = cli;
    let level = if debug { "debug" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    for (capability, what_for) in privilege::missing()? {
        tracing::warn!("{capability} is missing: needed to {what_for}; run it as root");
    }
    let files = Files {
        directory: config_dir.unwrap_or_else(|| Path::new("/etc").join(name)),
        trust: Trust::ROOT,
    };
    let overrides = Overrides {
        mode,
        exit: keep.then_some(ExitPolicy::Keep),
        ..Overrides::default()
    };
    let live = Live::new(files, overrides)?;
    let enabled = |tuner: &str| {
        let section = live.loaded.config.tuner.get(tuner);
        section.is_none_or(|section| section.enabled)
    };
    let registrations = tuners
        .iter()
        .filter(|(tuner, _)| enabled(tuner))
        .map(|(_, load)| load())
        .collect::<Result<Vec<_>>>()?;
    let state_dir = state_dir.unwrap_or_else(|| Path::new("/var/lib").join(name));
    let control = control.unwrap_or_else(|| Path::new("/run").join(name).join("control"));
    let mut settings = Settings::of(live, &state_dir, &control);
    if !netns.is_empty() {
        settings.only_netns = netns;
    }
    let engine = Engine::new(settings, registrations)?;
    privilege::drop_rest()?;
    let mode = engine.mode();
    engine.run(|| {
        let ms = started.elapsed().as_millis();
        tracing::info!("ready after {ms} ms, mode {mode}");
        // Fails only where no service manager asked.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    })
}
