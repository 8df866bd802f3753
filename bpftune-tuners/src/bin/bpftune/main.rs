//! The `bpftune` daemon and its command line.

mod act;
mod classic;
mod config;
mod diff;
mod doctor;
mod exit;
mod history;
mod out;
mod plan;
mod plugin;
mod revert;
mod run;
mod show;
mod span;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use bpftune_core::control::DEFAULT_SOCKET;
use clap::{Parser, Subcommand};

use crate::exit::Failure;

/// Tunes this host by what its connections really need, and takes back what does not help.
#[derive(Parser)]
#[command(
    version,
    about,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
The flags of the classic bpftune work too, without a command: -s -S -d -D -a -c -l -L -p -q -r -R -P -V. \
Exit statuses: 0 done, 1 failed, 2 wrong words, 66 no such thing, 69 no daemon, 74 journal, 77 not permitted, 78 configuration."
)]
struct Cli {
    /// The journal's directory
    #[arg(
        long,
        global = true,
        default_value = run::STATE_DIR,
        value_name = "DIR"
    )]
    state_dir: PathBuf,
    /// The daemon's control socket
    #[arg(long, global = true, default_value = DEFAULT_SOCKET, value_name = "PATH")]
    control: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the daemon in the foreground; Ctrl-C restores every value
    Run(run::Args),
    /// What runs: hooks, tuners, changed parameters, parameters left to the admin
    Status(out::Json),
    /// The tuners, what they did and whether they rest
    Tuners(out::Json),
    /// What the tuners may change, with bounds and present values
    Tunables(show::Tunables),
    /// Decisions, newest first
    History(history::Args),
    /// One decision in full: why, with which figures, and whether it helped
    Explain(show::Explain),
    /// What differs from the original values, or between two decisions or moments
    Diff(diff::Args),
    /// What would change now, and why
    Plan(out::Json),
    /// Events as they happen
    Watch(watch::Args),
    /// Carry out advice
    Approve(act::Id),
    /// Turn advice down
    Reject(act::Reject),
    /// Restore every original value, or take one decision back
    Revert(revert::Args),
    /// Let bpftune tune parameters again that somebody else wrote
    Rearm(act::Rearm),
    /// Let a tuner work again
    Enable(act::Tuner),
    /// Let a tuner rest until it is enabled
    Disable(act::Tuner),
    /// Let every tuner, or one, rest for a while
    Pause(act::Pause),
    /// End a pause
    Resume(act::MaybeTuner),
    /// What this kernel and these privileges allow, hook by hook, and the way out
    Doctor(out::Json),
    /// The configuration files: every key, what is wrong, what holds
    Config(config::Args),
    /// For authors of plugins
    Plugin(plugin::Args),
}

fn main() -> ExitCode {
    if let Some(status) = bpftune_core::reverter::run_if_asked() {
        return status;
    }
    let result = match classic::wanted(std::env::args_os()) {
        Some(args) => classic::main(args),
        None => command(Cli::parse()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(status, text)) => {
            eprintln!("bpftune: {text}");
            ExitCode::from(status)
        }
    }
}

fn command(cli: Cli) -> exit::Outcome {
    let Cli {
        state_dir,
        control,
        verb,
    } = cli;
    // A daemon goes on, and `plugin` writes to programs that may be gone.
    if !matches!(verb, Verb::Run(_) | Verb::Plugin(_)) {
        out::end_with_the_reader();
    }
    match verb {
        Verb::Run(args) => run::run(args, state_dir, control),
        Verb::Status(args) => show::status(args, &control),
        Verb::Tuners(args) => show::tuners(args, &control),
        Verb::Tunables(args) => show::tunables(&args, &control),
        Verb::History(args) => history::history(&args, &control, &state_dir),
        Verb::Explain(args) => show::explain(&args, &control, &state_dir),
        Verb::Diff(args) => diff::diff(&args, &control, &state_dir),
        Verb::Plan(args) => plan::plan(args, &control),
        Verb::Watch(args) => watch::watch(&args, &control),
        Verb::Approve(args) => act::approve(&args, &control),
        Verb::Reject(args) => act::reject(&args, &control),
        Verb::Revert(args) => revert::revert(&args, &control, &state_dir),
        Verb::Rearm(args) => act::rearm(&args, &control),
        Verb::Enable(args) => act::enable(&args, &control),
        Verb::Disable(args) => act::disable(&args, &control),
        Verb::Pause(args) => act::pause(&args, &control),
        Verb::Resume(args) => act::resume(&args, &control),
        Verb::Doctor(args) => doctor::doctor(args),
        Verb::Config(args) => config::config(args),
        Verb::Plugin(args) => plugin::plugin(args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const PAGE: &str = include_str!("../../../../docs/cli.md");

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn docs_name_every_command_option_and_status() {
        for verb in Cli::command().get_subcommands() {
            let name = format!("`{}", verb.get_name());
            assert!(PAGE.contains(&name), "docs/cli.md: {name}");
            // The daemon's own are in docs/operating.md.
            if verb.get_name() == "run" {
                continue;
            }
            for option in verb.get_arguments().filter_map(|arg| arg.get_long()) {
                let option = format!("--{option}");
                assert!(
                    PAGE.contains(&option),
                    "docs/cli.md: {} {option}",
                    verb.get_name()
                );
            }
        }
        for status in [
            exit::FAILED,
            exit::USAGE,
            exit::NO_INPUT,
            exit::UNAVAILABLE,
            exit::JOURNAL,
            exit::PRIVILEGE,
            exit::CONFIG,
        ] {
            assert!(
                PAGE.contains(&format!("| {status} |")),
                "docs/cli.md: {status}"
            );
        }
    }

    #[test]
    fn docs_name_every_classic_flag() {
        for arg in classic::Args::command().get_arguments() {
            if arg.is_hide_set() {
                continue;
            }
            let flag = arg.get_short().map(|short| format!("`-{short}"));
            if let Some(flag) = flag {
                assert!(PAGE.contains(&flag), "docs/cli.md: {flag}");
            }
        }
    }
}
