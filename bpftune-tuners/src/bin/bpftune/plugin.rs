//! `bpftune plugin`: for their authors.

use std::{fs, path::PathBuf};

use bpftune_core::{
    config::Live,
    plugin::{self, Subscription, rule, scope_of},
};
use clap::Subcommand;

use crate::{
    config,
    exit::{self, Failure, Outcome},
};

#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(flatten)]
    directory: config::Directory,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Say what a plugin would own and hear, or what is wrong with it: a rule file with its line; a program by starting it
    /// in its sandbox until it says hello (as root). No daemon is needed
    Check {
        /// A rule file (.toml) or a program
        file: PathBuf,
    },
}

pub(crate) fn plugin(args: Args) -> Outcome {
    let Args {
        directory,
        verb: Verb::Check { file },
    } = args;
    let live = Live::new(directory.files(), Default::default())?;
    let settings = live.plugins(&bpftune_core::Machine::now()?);
    let wrong = |why: String| Failure(exit::CONFIG, format!("{}: {why}", file.display()));
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let name = stem
        .filter(|name| plugin::is_name(name))
        .ok_or_else(|| wrong(format!("a plugin's file is named by {}", plugin::NAMES)))?;
    if file
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        let text = fs::read_to_string(&file)
            .map_err(|error| Failure(exit::NO_INPUT, format!("{}: {error}", file.display())))?;
        let rule = rule::parse(&file, &text, &settings.permitted)
            .map_err(|problem| Failure(exit::CONFIG, problem.to_string()))?;
        println!("rule {name} is good: {}", rule.about);
        println!("  would hear {}", heard(&rule.signal));
        owns(&rule.change.tunable);
        return Ok(());
    }
    let hello = plugin::process::check(name, &file, &settings).map_err(wrong)?;
    println!("plugin {name} {} is good: {}", hello.version, hello.about);
    for subscription in &hello.subscribe {
        println!("  would hear {}", heard(subscription));
    }
    hello.tunables.iter().for_each(owns);
    Ok(())
}

fn owns(tunable: &plugin::Declared) {
    let scope = match scope_of(&tunable.name) {
        bpftune_core::Scope::Global => "one for the host",
        bpftune_core::Scope::Netns => "one a network namespace",
    };
    println!("  would own {} ({}, {scope})", tunable.name, tunable.unit);
    for (low, high) in &tunable.bounds {
        println!("    within {low} and {high}");
    }
    for guard in &tunable.plan().guards {
        println!("    tried by {}", guard.metric.name);
    }
}

fn heard(subscription: &Subscription) -> String {
    match subscription {
        Subscription::Scenario(scenario) => format!("signals {scenario}"),
        Subscription::Counter {
            counter,
            every,
            only_while,
        } => {
            let text = format!("counter {counter} every {} s", every.as_secs_f64());
            match only_while {
                Some((scenario, how_long)) => {
                    format!("{text}, for {} s after {scenario}", how_long.as_secs_f64())
                }
                None => text,
            }
        }
        Subscription::Pressure { resource, .. } => format!("pressure for {}", resource.word()),
        Subscription::Timer(every) => format!("a tick every {} s", every.as_secs_f64()),
    }
}
