//! `bpftune run`, and what every way to run the daemon shares.

use std::{path::PathBuf, time::Instant};

use bpftune_core::{
    config::{Live, Overrides, PluginDirectories},
    engine::{Engine, Registration, Settings},
    governor::{ExitPolicy, Mode},
    privilege,
};
use clap::builder::PossibleValuesParser;
use tracing_subscriber::EnvFilter;

use crate::{
    config,
    exit::{self, Failure, Outcome},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// observe: count only; advise: propose and record, write nothing; auto: write. Overrides the configuration, and
    /// nothing goes further
    #[arg(long, value_parser = PossibleValuesParser::new(["observe", "advise", "auto"])
        .map(|mode| mode.parse::<Mode>().expect("one of the possible values")))]
    mode: Option<Mode>,
    /// Leave the values as they are on exit (`bpftune revert` restores them later)
    #[arg(long)]
    keep: bool,
    /// Run only this tuner (repeat for more), and no plugins
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
    #[arg(long, value_name = "N")]
    changes_per_hour: Option<usize>,
    /// Load plugins from here instead of the usual directories (repeat for more)
    #[arg(long, value_name = "DIR", conflicts_with = "no_plugins")]
    plugin_dir: Vec<PathBuf>,
    /// Load no plugins
    #[arg(long)]
    no_plugins: bool,
    #[command(flatten)]
    directory: config::Directory,
    /// Log every signal
    #[arg(short, long)]
    debug: bool,
}

use clap::builder::TypedValueParser as _;

/// Where the journal is unless told otherwise.
pub(crate) const STATE_DIR: &str = "/var/lib/bpftune";

pub(crate) fn run(args: Args, state_dir: PathBuf, control: PathBuf) -> Outcome {
    let started = Instant::now();
    let Args {
        mode,
        keep,
        tuner,
        netns,
        no_global,
        changes_per_hour,
        plugin_dir,
        no_plugins,
        directory,
        debug,
    } = args;
    log_to(debug, std::io::stderr);
    check_privilege()?;
    let live = Live::new(
        directory.files(),
        Overrides {
            mode,
            no_global,
            changes_per_hour,
            max_step: None,
            exit: keep.then_some(ExitPolicy::Keep),
            plugins: if no_plugins || !tuner.is_empty() {
                PluginDirectories::Only(Vec::new())
            } else if plugin_dir.is_empty() {
                PluginDirectories::Configured
            } else {
                PluginDirectories::Only(plugin_dir)
            },
        },
    )?;
    let named = |name: &str| tuner.iter().any(|wanted| wanted == name);
    let registrations = load(|name| {
        if tuner.is_empty() {
            enabled(&live, name)
        } else {
            named(name)
        }
    })?;
    let mut settings = Settings::of(live, &state_dir, &control);
    settings.plugins = true;
    settings.other_tuners = !tuner.is_empty();
    if !netns.is_empty() {
        settings.only_netns = netns;
    }
    until_told(Engine::new(settings, registrations)?, started)
}

/// Whether the files let a tuner run.
pub(crate) fn enabled(live: &Live, tuner: &str) -> bool {
    live.loaded
        .config
        .tuner
        .get(tuner)
        .is_none_or(|section| section.enabled)
}

/// Sets the log up: one line an event, to `writer`.
pub(crate) fn log_to<W>(debug: bool, writer: W)
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let default = if debug { "debug" } else { "info" };
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default)),
        )
        .with_target(false)
        .with_writer(writer)
        .init();
}

/// Loads the tuners that `wanted` lets through.
pub(crate) fn load(wanted: impl Fn(&str) -> bool) -> Result<Vec<Registration>, Failure> {
    let registrations = bpftune_tuners::ALL
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(_, load)| load())
        .collect::<Result<Vec<_>, _>>()?;
    Ok(registrations)
}

/// Gives up what is not needed any more and runs until told to end.
pub(crate) fn until_told(engine: Engine, started: Instant) -> Outcome {
    privilege::drop_rest_but_for_plugins()?;
    let mode = engine.mode();
    let at_end = match engine.exit() {
        ExitPolicy::Keep => "keeps changed values",
        ExitPolicy::Restore => "restores every value",
        ExitPolicy::RestoreIfWorse => "keeps what its trial found better, restores the rest",
    };
    engine.run(|| {
        let ms = started.elapsed().as_millis();
        tracing::info!("ready after {ms} ms, mode {mode}; {at_end} on exit");
        // Fails only where no service manager asked.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    })?;
    Ok(())
}

pub(crate) fn check_privilege() -> Outcome {
    let missing = privilege::missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut text = String::from("privileges are missing:\n");
    for (capability, what_for) in missing {
        text.push_str(&format!("  {capability}: to {what_for}\n"));
    }
    text.push_str("run it as root, or by a service manager that grants these capabilities");
    Err(Failure(exit::PRIVILEGE, text))
}
