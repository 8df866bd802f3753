//! The flags of the classic bpftune, so that its units and scripts work unchanged.
//!
//! docs/cli.md has the table of what each does here.

mod phrases;
mod query;
mod syslog;

use std::{ffi::OsString, path::PathBuf, time::Instant};

use bpftune_core::{
    control::{Access, DEFAULT_SOCKET, Query},
    engine::{Engine, Settings},
    governor::{Mode, Policy},
    journal::Retention,
    near::nearest,
};
use clap::Parser;

use crate::{
    doctor,
    exit::{self, Failure, Outcome},
    run,
};

/// Where plugins are looked for.
const LIBDIR: &str = "/usr/lib/bpftune";

/// The classic flags
#[derive(Parser, Debug)]
#[command(
    name = "bpftune",
    disable_version_flag = true,
    after_help = "Without a classic flag there are commands: see `bpftune help`."
)]
pub(crate) struct Args {
    /// Run only this tuner (repeat for more): tcp_buffer, tcp-buffer or tcp_buffer_tuner.so
    #[arg(short, long, value_name = "TUNER")]
    allow: Vec<String>,
    /// A cgroup v2 directory; taken, and not needed here
    #[arg(short, long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// Log every signal
    #[arg(short, long)]
    debug: bool,
    /// Go to the background
    #[arg(short = 'D', long)]
    daemon: bool,
    /// A folder with plugins besides the usual ones
    #[arg(short, long, value_name = "DIR")]
    libdir: Option<PathBuf>,
    /// Taken; each hook falls back by itself here
    #[arg(short = 'L', long)]
    legacy: bool,
    /// Answer queries on this loopback port; with -q, ask there
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Print the folder of plugins and end
    #[arg(short = 'P', long)]
    print_libdir: bool,
    /// Ask a running daemon: help, tuners, tunables, jtunables, summary, status, jstatus, rollback
    #[arg(short, long, value_name = "WORD")]
    query: Option<String>,
    /// How far one change may go: 0 (1.6 %) to 3 (12.5 %); 4, the default, as far as the tuner says
    #[arg(short = 'r', long = "learning_rate", alias = "learning-rate", value_name = "0-4",
        value_parser = clap::value_parser!(u8).range(0..=4))]
    learning_rate: Option<u8>,
    /// Restore every value on exit; without it they stay
    #[arg(short = 'R', long)]
    rollback: bool,
    /// Log to standard error, not to syslog
    #[arg(short, long)]
    stderr: bool,
    /// Say what this system supports and end
    #[arg(short = 'S', long)]
    support: bool,
    /// Print the version and end
    #[arg(short = 'V', long)]
    version: bool,
    #[arg(long, hide = true, default_value = run::STATE_DIR)]
    state_dir: PathBuf,
    #[arg(long, hide = true, default_value = DEFAULT_SOCKET)]
    control: PathBuf,
    #[arg(long, hide = true)]
    netns: Vec<PathBuf>,
    #[arg(long, hide = true)]
    no_global: bool,
}

/// The command line, where it is a classic one: its first word is a classic flag, or there is none and a service
/// manager started us.
pub(crate) fn wanted(args: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    let args: Vec<OsString> = args.collect();
    let is_classic = match args
        .get(1)
        .map(|first| first.to_string_lossy().into_owned())
    {
        None => std::env::var_os("INVOCATION_ID").is_some(),
        Some(first) => match first.strip_prefix("--") {
            Some(long) => {
                let name = long.split('=').next().unwrap_or(long);
                [
                    "allow",
                    "cgroup",
                    "debug",
                    "daemon",
                    "libdir",
                    "legacy",
                    "port",
                    "print-libdir",
                    "query",
                    "learning_rate",
                    "rollback",
                    "stderr",
                    "support",
                    "version",
                ]
                .contains(&name)
            }
            None => first
                .strip_prefix('-')
                .and_then(|cluster| cluster.chars().next())
                .is_some_and(|flag| "acdDlLpPqrRsSV".contains(flag)),
        },
    };
    is_classic.then_some(args)
}

pub(crate) fn main(args: Vec<OsString>) -> Outcome {
    let args = Args::parse_from(args);
    if args.version {
        println!("bpftune v{}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    if args.print_libdir {
        println!("{LIBDIR}");
        return Ok(());
    }
    if let Some(word) = &args.query {
        let Some(query) = Query::named(word) else {
            let words = Query::ALL.map(|(word, _)| word);
            let near = nearest(word, words)
                .map_or(String::new(), |near| format!(", did you mean \"{near}\"?"));
            return Err(Failure(
                exit::USAGE,
                format!(
                    "\"{word}\" is no query{near} They are: {}",
                    words.join(", ")
                ),
            ));
        };
        return query::ask(query, args.port, &args.control);
    }
    if args.support {
        return support();
    }
    daemon(args)
}

/// A tuner's name as ours: the peer's are files or have underscores.
fn our_name(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.strip_suffix(".so").unwrap_or(name);
    let name = name.strip_suffix("_tuner").unwrap_or(name);
    name.replace('_', "-")
}

fn daemon(args: Args) -> Outcome {
    let started = Instant::now();
    if let Some(dir) = args
        .cgroup
        .iter()
        .chain(&args.libdir)
        .find(|dir| !dir.is_dir())
    {
        return Err(Failure(
            exit::FAILED,
            format!(
                "{} is no folder: name one that is there, or leave the flag out",
                dir.display()
            ),
        ));
    }
    let allowed: Vec<String> = args.allow.iter().map(|name| our_name(name)).collect();
    let ours = || bpftune_tuners::ALL.iter().map(|(name, _)| *name);
    let unknown: Vec<&String> = allowed
        .iter()
        .filter(|name| ours().all(|o| o != **name))
        .collect();
    if !allowed.is_empty() && unknown.len() == allowed.len() {
        let near = nearest(unknown[0], ours())
            .map_or(String::new(), |near| format!(", did you mean \"{near}\""));
        return Err(Failure(
            exit::NO_INPUT,
            format!(
                "no tuner is left to run: there is no \"{}\"{near}? There are: {}",
                unknown[0],
                ours().collect::<Vec<_>>().join(", ")
            ),
        ));
    }
    run::check_privilege()?;
    if args.daemon {
        // Before any thread or file: as the peer, in the same folder, with the same descriptors.
        nix::unistd::daemon(true, true).map_err(|errno| {
            Failure(
                exit::FAILED,
                format!("cannot go to the background: {errno}"),
            )
        })?;
    }
    match syslog::Syslog::connect() {
        Some(syslog) if !args.stderr => run::log_to(args.debug, syslog),
        _ => run::log_to(args.debug, std::io::stderr),
    }
    for name in unknown {
        tracing::warn!("there is no tuner {name} here: it is left out");
    }
    if args.legacy || args.cgroup.is_some() {
        tracing::info!("--legacy and --cgroup are not needed: each hook falls back by itself");
    }
    let registrations = run::load(|name| allowed.is_empty() || allowed.iter().any(|a| a == name))?;
    let abouts = registrations
        .iter()
        .flat_map(|r| {
            let about = r.tuner.about();
            r.tuner
                .tunables()
                .into_iter()
                .map(move |t| (t.name.to_string(), about.to_string()))
        })
        .collect();
    let settings = Settings {
        policy: Policy {
            global: !args.no_global,
            max_step: args.learning_rate.and_then(step),
            ..Policy::default()
        },
        state_dir: args.state_dir,
        control: Some(args.control),
        access: Access::default(),
        query_port: args.port,
        retention: Retention::default(),
        keep: !args.rollback,
        only_netns: args.netns,
        trial: Default::default(),
        watchdog: Default::default(),
        reverter: Some("/proc/self/exe".into()),
    };
    let mut engine = Engine::new(settings, registrations)?;
    let mut phrases = phrases::Phrases::new(abouts);
    engine.observe(move |event| {
        for line in phrases.of(event) {
            tracing::info!("{line}");
        }
    });
    support_lines(&engine.hook_faults())
        .iter()
        .for_each(|line| tracing::info!("{line}"));
    run::until_told(engine, started, Mode::Auto, !args.rollback)
}

/// The share of the present value that one change may add or take: 2^-(6 - rate), as the peer's.
fn step(rate: u8) -> Option<f64> {
    (rate < 4).then(|| 0.5f64.powi(6 - i32::from(rate)))
}

/// The peer's words; where something is off, what and why.
fn support_lines(faults: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    if faults.is_empty() {
        lines.push("bpftune works fully".to_owned());
    } else {
        lines.push("bpftune works in part".to_owned());
        lines.extend(faults.iter().cloned());
    }
    // The daemon does not start on a kernel without them (5.14).
    lines.push("bpftune supports per-netns policy (via netns cookie)".to_owned());
    lines
}

fn support() -> Outcome {
    let supported = run::check_privilege().and_then(|()| doctor::hooks());
    let hooks = match supported {
        Ok(hooks) => hooks,
        Err(Failure(status, why)) => {
            eprintln!("bpftune is not supported");
            return Err(Failure(status, why));
        }
    };
    let faults: Vec<String> = hooks
        .iter()
        .flat_map(|(owner, hooks)| {
            hooks.iter().filter_map(move |hook| {
                let why = hook.off.as_ref()?;
                Some(format!("{owner}: hook {} is off: {why}", hook.name))
            })
        })
        .collect();
    let all: usize = hooks.iter().map(|(_, hooks)| hooks.len()).sum();
    if faults.len() == all {
        eprintln!("bpftune is not supported");
        return Err(Failure(exit::FAILED, faults.join("\n")));
    }
    for line in support_lines(&faults) {
        eprintln!("{line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_classic(line: &str) -> bool {
        wanted(line.split(' ').map(OsString::from)).is_some()
    }

    #[test]
    fn classic_lines_are_told_from_commands() {
        for line in [
            "bpftune -d",
            "bpftune -s",
            "bpftune -ds",
            "bpftune -S",
            "bpftune --support",
            "bpftune -q jstatus",
            "bpftune --query=status",
            "bpftune -V",
            "bpftune --version",
            "bpftune -P",
            "bpftune -r 2 -R -s",
            "bpftune --learning_rate 0",
            "bpftune -a tcp_buffer_tuner.so",
            "bpftune -p 4567",
        ] {
            assert!(is_classic(line), "{line}");
        }
        for line in [
            "bpftune run",
            "bpftune status --json",
            "bpftune --state-dir /x status",
            "bpftune -h",
            "bpftune --help",
            "bpftune help",
            "bpftune --control /x revert",
            "bpftune run --debug",
        ] {
            assert!(!is_classic(line), "{line}");
        }
    }

    #[test]
    fn names_are_taken_in_every_spelling() {
        for name in [
            "tcp-buffer",
            "tcp_buffer",
            "tcp_buffer_tuner",
            "tcp_buffer_tuner.so",
            "/usr/lib64/bpftune/tcp_buffer_tuner.so",
        ] {
            assert_eq!(our_name(name), "tcp-buffer", "{name}");
        }
    }

    #[test]
    fn rates_are_the_peers() {
        let percent = |rate| step(rate).map(|share| (share * 1000.0).round() / 10.0);
        assert_eq!(
            [0, 1, 2, 3, 4].map(percent),
            [Some(1.6), Some(3.1), Some(6.3), Some(12.5), None]
        );
    }
}
