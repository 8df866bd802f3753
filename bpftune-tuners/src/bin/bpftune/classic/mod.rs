//! The flags of the classic bpftune, so that its units and scripts work unchanged.
//!
//! docs/cli.md has the table of what each does here.

mod args;
mod phrases;
mod query;
mod syslog;

use std::{ffi::OsString, time::Instant};

use bpftune_core::{
    config::{Files, Live, Overrides, PluginDirectories},
    control::Query,
    engine::{Engine, Settings},
    governor::ExitPolicy,
    near::nearest,
};
use clap::Parser;

use self::args::our_name;
pub(crate) use self::args::{Args, wanted};
use crate::{
    doctor,
    exit::{self, Failure, Outcome},
    run,
};

pub(crate) fn main(args: Vec<OsString>) -> Outcome {
    let args = Args::parse_from(args);
    if args.version {
        println!("bpftune v{}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    if args.print_libdir {
        return print_libdir();
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

/// Where plugins are looked for as the files are now, one directory a line.
fn print_libdir() -> Outcome {
    let live = Live::new(Files::default(), Overrides::default())?;
    for directory in live.plugin_directories() {
        println!("{}", directory.display());
    }
    Ok(())
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
    let exit = if args.rollback {
        ExitPolicy::Restore
    } else {
        ExitPolicy::Keep
    };
    let live = Live::new(
        Files::default(),
        Overrides {
            no_global: args.no_global,
            max_step: args.learning_rate.and_then(step),
            exit: Some(exit),
            plugins: if !allowed.is_empty() {
                PluginDirectories::Only(Vec::new())
            } else {
                args.libdir
                    .map_or(PluginDirectories::Configured, PluginDirectories::Besides)
            },
            ..Overrides::default()
        },
    )?;
    let named = |name: &str| allowed.iter().any(|wanted| wanted == name);
    let registrations = run::load(|name| {
        if allowed.is_empty() {
            run::enabled(&live, name)
        } else {
            named(name)
        }
    })?;
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
    let mut settings = Settings::of(live, &args.state_dir, &args.control);
    settings.query_port = args.port;
    settings.plugins = true;
    settings.other_tuners = !allowed.is_empty();
    if !args.netns.is_empty() {
        settings.only_netns = args.netns;
    }
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
    run::until_told(engine, started)
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
                Some(format!(
                    "{owner}: {} {} is off: {why}",
                    hook.kind(),
                    hook.name
                ))
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

    #[test]
    fn rates_are_the_peers() {
        let percent = |rate| step(rate).map(|share| (share * 1000.0).round() / 10.0);
        assert_eq!(
            [0, 1, 2, 3, 4].map(percent),
            [Some(1.6), Some(3.1), Some(6.3), Some(12.5), None]
        );
    }
}
