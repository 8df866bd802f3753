//! `bpftune revert`: with a daemon, or after one was killed.

use std::path::Path;

use bpftune_core::{
    Error,
    control::Client,
    engine,
    journal::{self, DecisionId, Journal, JournalError},
    netns::Namespaces,
    restore,
};

use crate::{Failure, status};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Take back only this decision (needs a running daemon)
    id: Option<DecisionId>,
    /// Restore what is safe from a damaged or newer journal
    #[arg(long, conflicts_with = "id")]
    salvage: bool,
}

pub(crate) fn revert(args: &Args, control: &Path, state_dir: &Path) -> Result<(), Failure> {
    if let Ok(mut client) = Client::connect(control) {
        print!("{}", client.revert(args.id.map(|id| id.0))?.report);
        return Ok(());
    }
    if let Some(id) = args.id {
        let text = format!(
            "taking back {id} alone needs a running daemon (none listens on {})",
            control.display()
        );
        return Err(Failure(status::FAILED, text));
    }
    if !journal::file(state_dir).exists() {
        return Err(JournalError::Missing {
            path: journal::file(state_dir),
        }
        .into());
    }
    let _lock = engine::lock_state(state_dir)?;
    let mut namespaces = Namespaces::new()?;
    let mut journal = match Journal::open(state_dir) {
        Ok(journal) => journal,
        Err(error @ (JournalError::Damaged { .. } | JournalError::Newer { .. })) => {
            return salvage(args.salvage, &error, state_dir, &mut namespaces);
        }
        Err(error) => return Err(error.into()),
    };
    journal.adopt_kept()?;
    let report = restore::restore(&mut journal, &mut namespaces)?;
    print!("{report}");
    finish(&report)
}

fn salvage(
    wanted: bool,
    error: &JournalError,
    state_dir: &Path,
    namespaces: &mut Namespaces,
) -> Result<(), Failure> {
    let scratch = tempfile::tempdir().map_err(|source| Error::System {
        what: "cannot make a scratch directory".into(),
        source,
    })?;
    let found = restore::salvage(state_dir, scratch.path(), namespaces)?;
    for original in &found.safe {
        println!(
            "safe to restore: {} to \"{}\"",
            original.knob, original.value
        );
    }
    for original in &found.unsure {
        println!(
            "left alone: {} was \"{}\", but its value now is not bpftune's",
            original.knob, original.value
        );
    }
    if let Some(why) = &found.stopped {
        println!("reading stopped: {why}");
    }
    if !wanted {
        return Err(Failure(status::JOURNAL, error.to_string()));
    }
    let report = restore::restore_salvaged(&found, namespaces);
    print!("{report}");
    finish(&report)
}

fn finish(report: &restore::Report) -> Result<(), Failure> {
    match report.failed.len() {
        0 => Ok(()),
        n => Err(Failure(
            status::FAILED,
            format!("{n} values could not be restored; see above"),
        )),
    }
}
