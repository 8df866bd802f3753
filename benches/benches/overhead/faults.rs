//! What an event costs each network tuner in the very traffic that it is there for.

use std::{ffi::CString, path::Path, time::Instant};

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
/// So many runs a second, and not each finds the caches cold. Then that is what it costs; a verdict is on the program.
const WARM: f64 = 2000.0;
/// Turns that are measured, for a verdict; where a program runs often in some of them only (ports run out once), the whole is
/// staged anew, up to so many times.
const TURNS: usize = 10;
const PATIENCE: usize = 4;

/// A program of the tuner and, where it is on a tracepoint, one that does nothing beside it.
struct Watched {
    name: String,
    empty: Option<EmptyProgram>,
    costs: Vec<f64>,
    floors: Vec<f64>,
    /// After the first turn and after the last one.
    first: Option<Moment>,
    last: Option<Moment>,
}

/// How often the program has run by then, and the empty one.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    runs: Runs,
    empty: Option<Runs>,
}

impl Moment {
    /// Nanoseconds a run since then, and a run of the empty program; `None` where it hardly ran.
    fn since(self, before: Moment) -> (Option<f64>, Option<f64>) {
        let empty = self.empty.zip(before.empty);
        (
            self.runs.each_since(before.runs),
            empty.and_then(|(now, before)| now.each_since(before)),
        )
    }

    /// Whether it ran so often since then that its code and data stayed in the caches.
    fn warm_since(self, before: Moment) -> bool {
        let count = self.runs.count - before.runs.count;
        count as f64 > WARM * (self.at - before.at).as_secs_f64()
    }
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
            first: None,
            last: None,
        }
    }

    /// After a turn.
    fn sample(&mut self, runs: Runs) {
        let empty = self.floor();
        let now = Moment {
            at: Instant::now(),
            runs,
            empty,
        };
        if let Some(before) = self.last.filter(|before| now.warm_since(*before))
            && let (Some(cost), floor) = now.since(before)
        {
            self.costs.push(cost);
            self.floors.extend(floor);
        }
        self.first = self.first.or(Some(now));
        self.last = Some(now);
    }

    /// What it costs where it runs so seldom that each run finds its code and data out of the caches: of all turns.
    fn seldom(&self) -> (Option<f64>, Option<f64>) {
        match self.first.zip(self.last) {
            Some((first, last)) => last.since(first),
            None => (None, None),
        }
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
    for _ in 0..=turns {
        stage.turn()?;
        for (watched, runs) in watched.iter_mut().zip(programs(daemon.pid())) {
            watched.sample(runs);
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
        let turns = if quick { 1 } else { TURNS };
        let mut all = scenario(bpftune, &*wanted, turns)?;
        for _ in 1..PATIENCE {
            if turns < LEAST || !all.iter().any(Watched::wants_more) {
                break;
            }
            for (watched, more) in all.iter_mut().zip(scenario(bpftune, &*wanted, turns)?) {
                watched.costs.extend(more.costs);
                watched.floors.extend(more.floors);
            }
        }
        for watched in all {
            let name = format!("{title}: an event of {}", watched.name);
            let (row, floor) = if watched.costs.is_empty() {
                let (Some(cost), floor) = watched.seldom() else {
                    part.note(format!("{title}: {} hardly ran", watched.name));
                    continue;
                };
                (Row::figure(format!("{name}, seldom"), "ns", cost, 1), floor)
            } else {
                let row = Row::sampled(name, "ns", &watched.costs).at_most(GOAL);
                let any = !watched.floors.is_empty();
                (row, any.then(|| median(&watched.floors)))
            };
            part.row(match floor {
                Some(floor) => row.beside("a program that does nothing", floor),
                None => row,
            });
        }
    }
    Ok(())
}
