//! What the daemon costs, beside the least that the machine allows.
//!
//! `cargo xtask bench overhead` runs it.

mod events;
mod faults;
mod idle;
mod ring;
mod runs;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use lab::{
    Result, daemon,
    result::{Common, Part, Recorder},
};

/// What the daemon costs: BPF programs, memory, wakeups, processor time, ring buffer
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench overhead")]
struct Args {
    #[command(flatten)]
    common: Common,
    /// The daemon's binary
    #[arg(long, value_name = "PATH")]
    bpftune: Option<std::path::PathBuf>,
}

fn run(args: &Args) -> Result<ExitCode> {
    let common = &args.common;
    let mut out = Recorder::quiet_stdout()?;
    let mut recorder = common.recorder("overhead");
    let bpftune = args.bpftune.clone().map_or_else(daemon::binary, Ok)?;
    let quick = common.quick;
    type Run<'a> = &'a dyn Fn(&mut Part) -> Result<()>;
    let parts: [(&str, Run<'_>); 4] = [
        ("idle", &|part| idle::run(part, &bpftune, quick)),
        ("events", &|part| events::run(part, &bpftune, quick)),
        ("faults", &|part| faults::run(part, &bpftune, quick)),
        ("ring buffer", &|part| ring::run(part, quick)),
    ];
    for (name, run) in parts.into_iter().filter(|(name, _)| common.wants(name)) {
        recorder.part("overhead", name, run)?;
    }
    let missed = recorder.finish(&mut out, common.json)?;
    Ok(ExitCode::from(u8::from(common.strict && missed > 0)))
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(why) = lab::unprivileged() {
        eprintln!(
            "bench overhead: {why}: it starts a daemon and loads BPF programs; run it as root"
        );
        return ExitCode::from(77);
    }
    let run = lab::network::put_back_on_signals(Duration::ZERO).and_then(|()| run(&args));
    run.unwrap_or_else(|error| {
        eprintln!("bench overhead: {error}");
        ExitCode::FAILURE
    })
}
