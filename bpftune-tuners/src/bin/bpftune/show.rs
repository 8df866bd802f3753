//! What people and programs read.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use bpftune_core::{
    Error,
    control::{Client, Decision},
    journal::{DecisionId, Journal},
};

use crate::Failure;

#[derive(clap::Args)]
pub(crate) struct Json {
    /// JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(crate) struct History {
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    json: Json,
}

#[derive(clap::Args)]
pub(crate) struct Explain {
    /// Its id, as in `bpftune history`: D42
    id: DecisionId,
    #[command(flatten)]
    json: Json,
}

#[derive(clap::Args)]
pub(crate) struct Rearm {
    /// Only this parameter, such as net.ipv4.tcp_rmem
    tunable: Option<String>,
    /// Only the network namespace with this cookie (see `bpftune status`)
    #[arg(long, value_name = "COOKIE")]
    netns: Option<u64>,
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Error::Control(error.to_string()))?;
    println!("{text}");
    Ok(())
}

pub(crate) fn status(args: &Json, control: &Path) -> Result<(), Failure> {
    let status = Client::connect(control)?.status()?;
    if args.json {
        return print_json(&status);
    }
    println!(
        "bpftune {} (process {}), mode {}, since {}",
        status.version,
        status.pid,
        status.mode,
        ago(status.started_unix_ms)
    );
    println!(
        "journal in {}, BPF maps {} KiB",
        status.state_dir,
        status.map_bytes / 1024
    );
    println!("\nhooks");
    for hook in &status.hooks {
        let state = hook
            .off
            .as_ref()
            .map_or("attached".to_owned(), |why| format!("OFF: {why}"));
        println!(
            "  {:12} {:18} {:32} {state}",
            hook.owner, hook.name, hook.section
        );
    }
    println!("\ntuners");
    for tuner in &status.tuners {
        println!(
            "  {:12} {} signals, {} proposals, {} changes",
            tuner.name, tuner.signals, tuner.proposals, tuner.changes
        );
    }
    println!("\nparameters changed, or left to whoever wrote them");
    if status.knobs.is_empty() {
        println!("  none");
    }
    for knob in &status.knobs {
        println!(
            "  {} in {} (netns {})",
            knob.tunable, knob.place, knob.netns
        );
        let current = knob
            .current
            .as_deref()
            .unwrap_or("unreadable: the namespace may be gone");
        match (&knob.held_by, &knob.original) {
            (Some(by), _) => println!("    \"{current}\", hands off: {by} wrote it"),
            (None, Some(original)) => println!(
                "    \"{original}\" -> \"{current}\", {} changes, {} reversals",
                knob.changes, knob.reversals
            ),
            (None, None) => println!("    \"{current}\""),
        }
    }
    Ok(())
}

/// From the daemon, or where none runs from the journal.
fn decisions(limit: u32, control: &Path, state_dir: &Path) -> Result<Vec<Decision>, Failure> {
    if let Ok(mut client) = Client::connect(control) {
        return Ok(client.history(limit)?.decisions);
    }
    let journal = Journal::open_read_only(state_dir)?;
    Ok(journal
        .history(limit as usize)?
        .into_iter()
        .map(Decision::from)
        .collect())
}

pub(crate) fn history(args: &History, control: &Path, state_dir: &Path) -> Result<(), Failure> {
    let decisions = decisions(args.limit, control, state_dir)?;
    if args.json.json {
        return print_json(&decisions);
    }
    if decisions.is_empty() {
        println!("no decisions yet");
    }
    for d in &decisions {
        let id = DecisionId(d.id).to_string();
        let outcome = d.outcome.split(':').next().unwrap_or_default();
        println!(
            "{id:6} {:>12} {:9} {:8} {}",
            ago(d.at_unix_ms),
            d.verdict,
            outcome,
            d.reason
        );
    }
    Ok(())
}

pub(crate) fn explain(args: &Explain, control: &Path, state_dir: &Path) -> Result<(), Failure> {
    let decision = match Client::connect(control) {
        Ok(mut client) => client.explain(args.id.0)?.decision,
        Err(_) => Journal::open_read_only(state_dir)?
            .decision(args.id)?
            .ok_or_else(|| {
                Error::Control(format!(
                    "there is no decision {}: see `bpftune history`",
                    args.id
                ))
            })?
            .into(),
    };
    if args.json.json {
        return print_json(&decision);
    }
    println!(
        "{}: {}, {}, by {}",
        args.id,
        decision.verdict,
        ago(decision.at_unix_ms),
        decision.tuner
    );
    println!("  {}.", decision.reason);
    if !decision.note.is_empty() {
        println!("  {}", decision.note);
    }
    let helped = if decision.outcome.is_empty() {
        "not measured (yet)"
    } else {
        &decision.outcome
    };
    println!("  did it help? {helped}");
    if let Some(signal) = decision
        .signal
        .as_deref()
        .and_then(|text| serde_json::from_str::<bpftune_core::Signal>(text).ok())
    {
        println!(
            "  signal {} ({} events) on {}:",
            signal.scenario, signal.count, signal.subject
        );
        for figure in &signal.figures {
            println!("    {figure}");
        }
    }
    Ok(())
}

pub(crate) fn rearm(args: &Rearm, control: &Path) -> Result<(), Failure> {
    let rearmed = Client::connect(control)?
        .rearm(args.tunable.as_deref(), args.netns)?
        .rearmed;
    if rearmed.is_empty() {
        println!("nothing was left to anybody there");
    }
    for knob in rearmed {
        println!("{knob} may be tuned again");
    }
    Ok(())
}

fn ago(unix_ms: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64);
    match (now - unix_ms).max(0) / 1000 {
        s @ 0..120 => format!("{s} s ago"),
        s @ 120..7200 => format!("{} min ago", s / 60),
        s @ 7200..172_800 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86400),
    }
}
