//! What an event costs each network tuner in the very traffic that it is there for.

use std::{ffi::CString, path::Path};

use lab::{
    Result,
    bpf_floor::EmptyProgram,
    bpf_stats::{BpfStats, Runs, programs},
    daemon::Daemon,
    network::{self, Scenario},
    result::{LEAST, Part, Row, median},
};

use crate::runs::hooks;

/// Nanoseconds that an event may cost, as the kernel's statistics report it.
const GOAL: f64 = 150.0;
/// Turns that are measured, for a verdict; where a program runs seldom, this many times as many.
const TURNS: usize = 6;
const PATIENCE: usize = 4;

/// A program of the tuner and, where it is on a tracepoint, one that does nothing beside it.
struct Watched {
    name: String,
    empty: Option<EmptyProgram>,
    costs: Vec<f64>,
    floors: Vec<f64>,
    /// The program's runs, and those of the empty one, where the sample that is under way began.
    began: Option<(Runs, Option<Runs>)>,
}

impl Watched {
    fn new((name, section): (String, String)) -> Watched {
        let tracepoint = section
            .strip_prefix("tp_btf/")
            .and_then(|name| CString::new(name).ok());
        Watched {
            name,
            empty: tracepoint.and_then(|name| EmptyProgram::attach(&name).ok()),
            costs: Vec::new(),
            floors: Vec::new(),
            began: None,
        }
    }

    /// After a turn: a sample is as many of them as the program needs to run often enough.
    fn sample(&mut self, now: Runs) {
        let floor = self.floor();
        if let Some((before, floor_before)) = self.began {
            let Some(cost) = now.each_since(before) else {
                return;
            };
            self.costs.push(cost);
            let empty = floor.zip(floor_before);
            self.floors
                .extend(empty.and_then(|(now, before)| now.each_since(before)));
        }
        self.began = Some((now, floor));
    }

    /// Runs once in a while, but no verdict stands on it yet.
    fn wants_more(&self) -> bool {
        (1..LEAST).contains(&self.costs.len())
    }

    fn floor(&self) -> Option<Runs> {
        let descriptor = self.empty.as_ref()?.descriptor();
        Some(Runs::of(&format!("/proc/self/fdinfo/{descriptor}"))?.1)
    }
}

/// Turns of a scenario with a daemon that only looks, so that the fault stays.
fn scenario(bpftune: &Path, scenario: &dyn Scenario, turns: usize) -> Result<Vec<Watched>> {
    let mut stage = scenario.stage()?;
    stage.begin()?;
    let args = ["--tuner", scenario.tuner(), "--mode", "observe"];
    let places = if scenario.host_wide() {
        Vec::new()
    } else {
        stage.places()
    };
    let daemon = Daemon::start(bpftune, &places, &args)?;
    let mut watched: Vec<_> = hooks(&daemon.status()?)
        .into_iter()
        .map(Watched::new)
        .collect();
    // The first one warms up.
    for turn in 0..=PATIENCE * turns {
        stage.turn()?;
        for (watched, runs) in watched.iter_mut().zip(programs(daemon.pid())) {
            watched.sample(runs);
        }
        if turn >= turns && !(turns >= LEAST && watched.iter().any(Watched::wants_more)) {
            break;
        }
    }
    Ok(watched)
}

/// Every program of every network tuner that its scenarios make run often.
pub(crate) fn run(part: &mut Part, bpftune: &Path, quick: bool) -> Result<()> {
    let Some(_stats) = BpfStats::on() else {
        part.note("SKIP: kernel.bpf_stats_enabled cannot be set here");
        return Ok(());
    };
    let mut last = "";
    for wanted in network::all() {
        let is_first = std::mem::replace(&mut last, wanted.tuner()) != wanted.tuner();
        if quick && !is_first {
            continue;
        }
        let title = format!("{}, {}", wanted.tuner(), wanted.name());
        if let Some(missing) = wanted.missing() {
            part.note(format!("SKIP: {title}: {missing}"));
            continue;
        }
        for watched in scenario(bpftune, &*wanted, if quick { 1 } else { TURNS })? {
            if watched.costs.is_empty() {
                part.note(format!("{title}: {} hardly ran", watched.name));
                continue;
            }
            let row = Row::sampled(
                format!("{title}: an event of {}", watched.name),
                "ns",
                &watched.costs,
            );
            let row = row.at_most(GOAL);
            part.row(if watched.floors.is_empty() {
                row
            } else {
                row.beside("a program that does nothing", median(&watched.floors))
            });
        }
    }
    Ok(())
}
