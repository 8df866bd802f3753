//! Commands that change what the daemon does.

use std::{path::Path, time::Duration};

use bpftune_core::{
    control::{self, Approved, Client, Report},
    journal::DecisionId,
};
use serde_json::{Value, json};

use crate::{exit::Outcome, out::Json, span};

#[derive(clap::Args)]
pub(crate) struct Id {
    /// Its id, as in `bpftune plan`: D42
    id: DecisionId,
    #[command(flatten)]
    json: Json,
}

#[derive(clap::Args)]
pub(crate) struct Reject {
    /// Its id, as in `bpftune plan`: D42
    id: DecisionId,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    json: Json,
}

#[derive(clap::Args)]
pub(crate) struct Tuner {
    /// Its name, as in `bpftune tuners`
    tuner: String,
    #[command(flatten)]
    json: Json,
}

#[derive(clap::Args)]
pub(crate) struct MaybeTuner {
    /// Its name, as in `bpftune tuners`; all where missing
    tuner: Option<String>,
    #[command(flatten)]
    json: Json,
}

#[derive(clap::Args)]
pub(crate) struct Pause {
    /// How long: 90s, 10m, 2h, 3d
    #[arg(value_name = "SPAN", value_parser = span::span)]
    how_long: Duration,
    /// Only this tuner
    #[arg(long, value_name = "NAME")]
    tuner: Option<String>,
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
    #[command(flatten)]
    json: Json,
}

/// Calls a method that only says what it did.
fn report(control: &Path, method: &str, parameters: Value, json: Json) -> Outcome {
    let reply: Report = Client::connect(control)?.call(method, parameters)?;
    json.print(&reply, |reply| print!("{}", reply.report))
}

pub(crate) fn approve(args: &Id, control: &Path) -> Outcome {
    let reply: Approved = Client::connect(control)?.call("Approve", json!({ "id": args.id.0 }))?;
    args.json.print(&reply, |reply| print!("{}", reply.report))
}

pub(crate) fn reject(args: &Reject, control: &Path) -> Outcome {
    let parameters = json!({ "id": args.id.0, "reason": args.reason });
    report(control, "Reject", parameters, args.json)
}

pub(crate) fn enable(args: &Tuner, control: &Path) -> Outcome {
    report(control, "Enable", json!({ "tuner": args.tuner }), args.json)
}

pub(crate) fn disable(args: &Tuner, control: &Path) -> Outcome {
    report(
        control,
        "Disable",
        json!({ "tuner": args.tuner }),
        args.json,
    )
}

pub(crate) fn pause(args: &Pause, control: &Path) -> Outcome {
    let seconds = u32::try_from(args.how_long.as_secs()).unwrap_or(u32::MAX);
    let parameters = json!({ "tuner": args.tuner, "seconds": seconds });
    report(control, "Pause", parameters, args.json)
}

pub(crate) fn resume(args: &MaybeTuner, control: &Path) -> Outcome {
    report(control, "Resume", json!({ "tuner": args.tuner }), args.json)
}

pub(crate) fn rearm(args: &Rearm, control: &Path) -> Outcome {
    let parameters = json!({ "tunable": args.tunable, "netns": args.netns });
    let reply: control::Rearmed = Client::connect(control)?.call("Rearm", parameters)?;
    args.json.print(&reply, |reply| {
        if reply.rearmed.is_empty() {
            println!("nothing was left to anybody there");
        }
        for knob in &reply.rearmed {
            println!("{knob} may be tuned again");
        }
    })
}
