//! `bpftune watch`.

use std::{io::Write, path::Path};

use bpftune_core::{
    control::{Client, Event},
    journal::DecisionId,
};

use crate::{exit::Outcome, out::Json};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// End after so many events
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    json: Json,
}

pub(crate) fn watch(args: &Args, control: &Path) -> Outcome {
    let mut watch = Client::connect(control)?.watch()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let event = watch.next_event()?;
        let line = if args.json.json {
            serde_json::to_string(&event).unwrap_or_default()
        } else {
            line(&event)
        };
        // Who reads no more wants no more.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            return Ok(());
        }
        if event.kind != "watching" {
            left -= 1;
        }
    }
    Ok(())
}

fn line(event: &Event) -> String {
    let lost = match event.lost {
        0 => String::new(),
        lost => format!("({lost} events were lost) "),
    };
    let id = event
        .decision
        .as_ref()
        .map_or(String::new(), |d| format!("{} ", DecisionId(d.id)));
    format!("{lost}{}: {id}{}", event.kind, event.text)
}
