//! `bpftune revert`: with a daemon, or after one was killed.

use std::path::Path;

use bpftune_core::{
    Error,
    control::{Client, Report},
    engine,
    journal::{self, DecisionId, Journal, JournalError},
    netns::Namespaces,
    restore,
};

use serde_json::json;

use crate::{
    exit::{self, Failure, Outcome},
    out::Json,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Take back only this decision (needs a running daemon)
    id: Option<DecisionId>,
    /// Restore what is safe from a damaged or newer journal
    #[arg(long, conflicts_with = "id")]
    salvage: bool,
    /// Take back only what an unclean end left behind: what was kept on purpose stays. For service managers
    #[arg(long, conflicts_with_all = ["id", "salvage"])]
    after_crash: bool,
    #[command(flatten)]
    json: Json,
}

pub(crate) fn revert(args: &Args, control: &Path, state_dir: &Path) -> Outcome {
    match Client::connect(control) {
        Ok(_) if args.after_crash => return nothing(args, "a daemon runs: it has seen to it\n"),
        Ok(mut client) => {
            let id = args.id.map(|id| id.0);
            let reply: Report = client.call("Revert", json!({ "id": id }))?;
            return args.json.print(&reply, |reply| print!("{}", reply.report));
        }
        Err(Error::NoDaemon { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(id) = args.id {
        let text = format!(
            "taking back {id} alone needs a running daemon (none listens on {})",
            control.display()
        );
        return Err(Failure(exit::UNAVAILABLE, text));
    }
    if !journal::file(state_dir).exists() {
        if args.after_crash {
            return nothing(args, "nothing to restore\n");
        }
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
    let report = if args.after_crash {
        restore::restore_after_crash(&mut journal, &mut namespaces)?
    } else {
        journal.adopt_kept(false)?;
        restore::restore(&mut journal, &mut namespaces)?
    };
    let text = Report {
        report: report.to_string(),
    };
    args.json.print(&text, |text| print!("{}", text.report))?;
    finish(&report)
}

fn nothing(args: &Args, why: &str) -> Outcome {
    let text = Report { report: why.into() };
    args.json.print(&text, |text| print!("{}", text.report))
}

fn salvage(
    wanted: bool,
    error: &JournalError,
    state_dir: &Path,
    namespaces: &mut Namespaces,
) -> Outcome {
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
        return Err(Failure(exit::JOURNAL, error.to_string()));
    }
    let report = restore::restore_salvaged(&found, namespaces);
    print!("{report}");
    finish(&report)
}

fn finish(report: &restore::Report) -> Outcome {
    match report.failed.len() {
        0 => Ok(()),
        n => Err(Failure(
            exit::FAILED,
            format!("{n} values could not be restored; see above"),
        )),
    }
}
