//! `bpftune history`.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use bpftune_core::{
    Error,
    control::{Client, Decision, History, HistoryFilter, Status},
    journal::{DecisionId, Filter, Journal, Verdict},
    near::nearest,
};
use clap::builder::PossibleValuesParser;
use serde_json::json;

use crate::{
    exit::{Failure, Outcome},
    out::{Json, ago, table},
    span,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this tuner's
    #[arg(long, value_name = "NAME")]
    tuner: Option<String>,
    /// Only on this parameter, such as net.ipv4.tcp_rmem
    #[arg(long, value_name = "NAME")]
    tunable: Option<String>,
    /// Only in the network namespace with this cookie (see `bpftune status`)
    #[arg(long, value_name = "COOKIE")]
    netns: Option<u64>,
    /// Not older than 90s, 10m, 2h, 3d, or than @UNIX_SECONDS
    #[arg(long, value_name = "WHEN", value_parser = span::moment)]
    since: Option<i64>,
    /// Only what became of them
    #[arg(long, value_name = "WORD", value_parser = PossibleValuesParser::new(Verdict::ALL.map(Verdict::word)))]
    verdict: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: u32,
    /// Everything that passes the filters as JSON lines, from the journal itself (see docs/journal.md)
    #[arg(long, conflicts_with_all = ["json", "limit"])]
    export: bool,
    #[command(flatten)]
    json: Json,
}

impl Args {
    fn filter(&self) -> HistoryFilter {
        HistoryFilter {
            limit: Some(self.limit),
            before: None,
            tuner: self.tuner.clone(),
            tunable: self.tunable.clone(),
            netns: self.netns,
            since_unix_ms: self.since,
            verdict: self.verdict.clone(),
        }
    }
}

pub(crate) fn history(args: &Args, control: &Path, state_dir: &Path) -> Outcome {
    if args.export {
        let journal = Journal::open_read_only(state_dir)?;
        let mut out = BufWriter::new(std::io::stdout().lock());
        journal.export(&Filter::from(args.filter()), &mut out)?;
        return out.flush().map_err(|error| {
            Failure(
                crate::exit::FAILED,
                format!("cannot write the export: {error}"),
            )
        });
    }
    let decisions = decisions(args, control, state_dir)?;
    args.json.print(&decisions, |decisions| {
        if decisions.is_empty() {
            println!("no decisions");
            return;
        }
        let rows: Vec<_> = decisions
            .iter()
            .map(|d| {
                let outcome = d.outcome.split(':').next().unwrap_or_default();
                [
                    DecisionId(d.id).to_string(),
                    ago(d.at_unix_ms),
                    d.verdict.clone(),
                    outcome.to_owned(),
                    d.reason.clone(),
                ]
            })
            .collect();
        print!(
            "{}",
            table(["id", "when", "verdict", "outcome", "what and why"], &rows)
        );
    })
}

/// From the daemon, or where none runs from the journal: page by page until there are enough.
fn decisions(args: &Args, control: &Path, state_dir: &Path) -> Result<Vec<Decision>, Failure> {
    let mut filter = args.filter();
    let mut source = match Client::connect(control) {
        Ok(client) => Source::Daemon(client),
        Err(Error::NoDaemon { .. }) => Source::Journal(Journal::open_read_only(state_dir)?),
        Err(error) => return Err(error.into()),
    };
    let mut decisions: Vec<Decision> = Vec::new();
    loop {
        filter.limit = Some(args.limit.saturating_sub(decisions.len() as u32));
        let page = source.page(&filter)?;
        decisions.extend(page.decisions);
        filter.before = page.next;
        if page.next.is_none() || decisions.len() >= args.limit as usize {
            break;
        }
    }
    match &args.tuner {
        Some(tuner) if decisions.is_empty() => source.must_know(tuner)?,
        _ => {}
    }
    Ok(decisions)
}

enum Source {
    Daemon(Client),
    Journal(Journal),
}

impl Source {
    fn page(&mut self, filter: &HistoryFilter) -> Result<History, Failure> {
        match self {
            Source::Daemon(client) => Ok(client.call("GetHistory", filter)?),
            Source::Journal(journal) => {
                let limit = filter.limit.unwrap_or_default() as usize;
                let page = journal.page(&Filter::from(filter.clone()), limit)?;
                Ok(History {
                    decisions: page.decisions.into_iter().map(Decision::from).collect(),
                    next: page.next.map(|id| id.0),
                })
            }
        }
    }

    /// Nothing was found: because of a misspelt name?
    fn must_know(&mut self, tuner: &str) -> Outcome {
        let mut names: Vec<String> = bpftune_tuners::ALL
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        if let Source::Daemon(client) = self {
            let status: Status = client.call("GetStatus", json!({}))?;
            names.extend(status.tuners.into_iter().map(|tuner| tuner.name));
        }
        if names.iter().any(|name| name == tuner) {
            return Ok(());
        }
        let near = nearest(tuner, names.iter().map(String::as_str)).map(str::to_owned);
        Err(Error::NoSuchTuner {
            name: tuner.to_owned(),
            near,
        }
        .into())
    }
}
