//! The `bpftune` daemon and its command line.

mod revert;
mod run;
mod show;

use std::{path::PathBuf, process::ExitCode};

use bpftune_core::{Error, control::DEFAULT_SOCKET, journal::JournalError};
use clap::{Parser, Subcommand};

/// Exit statuses, as documented in docs/operating.md.
mod status {
    pub(crate) const FAILED: u8 = 1;
    /// sysexits.h EX_IOERR: the journal cannot be used.
    pub(crate) const JOURNAL: u8 = 74;
    /// sysexits.h EX_NOPERM.
    pub(crate) const PRIVILEGE: u8 = 77;
}

/// Tunes this host by what its connections really need, and takes back what does not help.
#[derive(Parser)]
#[command(
    version,
    about,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    /// The journal's directory
    #[arg(
        long,
        global = true,
        default_value = "/var/lib/bpftune",
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
    Status(show::Json),
    /// The last decisions, newest first
    History(show::History),
    /// One decision in full: why, with which figures, and whether it helped
    Explain(show::Explain),
    /// Let bpftune tune parameters again that somebody else wrote
    Rearm(show::Rearm),
    /// Restore every original value, or take one decision back
    Revert(revert::Args),
    /// What this kernel and these privileges allow, hook by hook
    Doctor,
}

/// An error with the exit status it deserves.
struct Failure(u8, String);

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        let error = error.into();
        let status = match &error {
            Error::Journal(JournalError::Missing { .. }) => status::FAILED,
            Error::Journal(_) => status::JOURNAL,
            _ => status::FAILED,
        };
        Failure(status, error.to_string())
    }
}

fn main() -> ExitCode {
    let Cli {
        state_dir,
        control,
        verb,
    } = Cli::parse();
    let result = match verb {
        Verb::Run(args) => run::run(args, state_dir, control),
        Verb::Status(args) => show::status(&args, &control),
        Verb::History(args) => show::history(&args, &control, &state_dir),
        Verb::Explain(args) => show::explain(&args, &control, &state_dir),
        Verb::Rearm(args) => show::rearm(&args, &control),
        Verb::Revert(args) => revert::revert(&args, &control, &state_dir),
        Verb::Doctor => run::doctor(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(status, text)) => {
            eprintln!("bpftune: {text}");
            ExitCode::from(status)
        }
    }
}
