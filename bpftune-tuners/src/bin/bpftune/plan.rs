//! `bpftune plan`.

use std::path::Path;

use bpftune_core::{
    control::{Client, Plan},
    journal::DecisionId,
};
use serde_json::json;

use crate::{
    exit::Outcome,
    out::{Json, ago},
};

pub(crate) fn plan(args: Json, control: &Path) -> Outcome {
    let reply: Plan = Client::connect(control)?.call("Plan", json!({}))?;
    args.print(&reply.wishes, |wishes| {
        if wishes.is_empty() {
            println!(
                "nothing: no tuner asked for a change in the last minute, and no advice waits"
            );
        }
        for wish in wishes {
            let id = wish
                .id
                .map_or(String::new(), |id| format!("{} ", DecisionId(id)));
            println!(
                "{id}{} in {}: \"{}\" -> \"{}\" ({}, {})",
                wish.tunable,
                wish.place,
                wish.current,
                wish.target,
                wish.tuner,
                ago(wish.at_unix_ms)
            );
            println!("  why: {}", wish.reason);
            let answer = match wish.answer.as_str() {
                "apply" => "would be written",
                "advise" => "advice",
                _ => "would be refused",
            };
            println!("  {answer}: {}", wish.note);
        }
    })
}
