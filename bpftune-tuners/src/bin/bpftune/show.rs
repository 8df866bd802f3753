//! The daemon's state: status, tuners, tunables, one decision.

use std::path::Path;

use bpftune_core::{
    Error,
    control::{self, Client, Decision, Explanation, Status},
    journal::{DecisionId, Journal},
    trial::Record,
};
use serde_json::json;

use crate::{
    exit::{Failure, Outcome},
    out::{Json, ago, table},
};

#[derive(clap::Args)]
pub(crate) struct Explain {
    /// Its id, as in `bpftune history`: D42
    id: DecisionId,
    #[command(flatten)]
    json: Json,
}

#[derive(clap::Args)]
pub(crate) struct Tunables {
    /// Only this tuner's
    tuner: Option<String>,
    #[command(flatten)]
    json: Json,
}

fn get_status(control: &Path) -> Result<Status, Failure> {
    Ok(Client::connect(control)?.call("GetStatus", json!({}))?)
}

pub(crate) fn status(args: Json, control: &Path) -> Outcome {
    args.print(&get_status(control)?, |status| {
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
        match &status.config_files[..] {
            [] => println!("configuration: no files, the defaults hold"),
            files => println!("configuration: {}", files.join(", ")),
        }
        if let Some(error) = &status.config_error {
            println!("CONFIGURATION REFUSED, the one before holds: {error}");
        }
        let hooks: Vec<_> = status
            .hooks
            .iter()
            .map(|hook| {
                let state = hook
                    .off
                    .as_ref()
                    .map_or("attached".to_owned(), |why| format!("OFF: {why}"));
                [
                    hook.owner.clone(),
                    hook.name.clone(),
                    hook.section.clone(),
                    state,
                ]
            })
            .collect();
        print!(
            "\n{}",
            table(["owner", "hook", "attaches to", "state"], &hooks)
        );
        print!("\n{}", tuners_table(status));
        print!("{}", chosen_table(status));
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
                    "    \"{original}\" -> \"{current}\", {} changes, {} reversals{}",
                    knob.changes,
                    knob.reversals,
                    if knob.on_trial { ", on trial" } else { "" }
                ),
                (None, None) => println!("    \"{current}\""),
            }
        }
    })
}

fn tuners_table(status: &Status) -> String {
    let rows: Vec<_> = status
        .tuners
        .iter()
        .map(|tuner| {
            [
                tuner.name.clone(),
                tuner.state.clone(),
                tuner.signals.to_string(),
                tuner.proposals.to_string(),
                tuner.changes.to_string(),
                tuner.about.clone(),
            ]
        })
        .collect();
    table(
        ["tuner", "state", "signals", "proposals", "changes", "about"],
        &rows,
    )
}

/// What tuners chose without writing a parameter; nothing where none did.
fn chosen_table(status: &Status) -> String {
    let chosen = status
        .tuners
        .iter()
        .flat_map(|tuner| tuner.chosen.iter().map(move |chosen| (tuner, chosen)));
    let rows: Vec<_> = chosen
        .map(|(tuner, chosen)| {
            [
                tuner.name.clone(),
                chosen.subject.clone(),
                chosen.place.clone(),
                chosen.name.clone(),
                options(&chosen.options),
                chosen.why.clone(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "tuner",
        "for",
        "in",
        "chosen",
        "given, and how good by the first",
        "why",
    ];
    format!("\n{}", table(head, &rows))
}

/// "the default 9, bbr 14 (9.50 x)".
fn options(options: &[control::Tried]) -> String {
    let option = |tried: &control::Tried| match tried.gain {
        Some(gain) => format!("{} {} ({gain:.2} x)", tried.name, tried.times),
        None => format!("{} {}", tried.name, tried.times),
    };
    let given = options.iter().filter(|tried| tried.times > 0);
    given.map(option).collect::<Vec<_>>().join(", ")
}

pub(crate) fn tuners(args: Json, control: &Path) -> Outcome {
    let status = get_status(control)?;
    if args.json {
        return args.print(&status.tuners, |_| ());
    }
    print!("{}{}", tuners_table(&status), chosen_table(&status));
    Ok(())
}

pub(crate) fn tunables(args: &Tunables, control: &Path) -> Outcome {
    let reply: control::Tunables =
        Client::connect(control)?.call("ListTunables", json!({ "tuner": args.tuner }))?;
    args.json.print(&reply.tunables, |tunables| {
        let rows: Vec<_> = tunables
            .iter()
            .map(|tunable| {
                let highest = tunable.ranges.last().map_or(String::new(), |range| {
                    format!("{}..{}", range.low, range.high)
                });
                [
                    tunable.tuner.clone(),
                    tunable.name.clone(),
                    tunable.scope.clone(),
                    tunable.unit.clone(),
                    highest,
                    tunable.current.clone().unwrap_or_else(|| "not here".into()),
                ]
            })
            .collect();
        let head = [
            "tuner",
            "parameter",
            "scope",
            "unit",
            "bounds of the last number",
            "now, on the host",
        ];
        print!("{}", table(head, &rows));
    })
}

/// From the daemon, or where none runs from the journal.
fn decision(id: DecisionId, control: &Path, state_dir: &Path) -> Result<Decision, Failure> {
    match Client::connect(control) {
        Ok(mut client) => Ok(client
            .call::<Explanation>("Explain", json!({ "id": id.0 }))?
            .decision),
        Err(Error::NoDaemon { .. }) => {
            let journal = Journal::open_read_only(state_dir)?;
            let found = journal.decision(id)?;
            let newest = journal.newest()?;
            Ok(found.ok_or(Error::NoSuchDecision { id, newest })?.into())
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn explain(args: &Explain, control: &Path, state_dir: &Path) -> Outcome {
    let decision = decision(args.id, control, state_dir)?;
    args.json.print(&decision, |decision| {
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
        let trial = decision
            .trial
            .as_deref()
            .and_then(|text| serde_json::from_str::<Record>(text).ok());
        for sentence in trial.iter().flat_map(Record::sentences) {
            println!("    {sentence}");
        }
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
    })
}
