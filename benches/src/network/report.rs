//! Runs scenarios and judges them.

use std::path::Path;

use bpftune_core::stats::Direction;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Kind, Run, SETTINGS, Scenario, Setting, run};
use crate::{
    Result,
    result::{Part, Recorder, Row, median},
};

/// What rows are called, for pages that look for them.
pub(super) mod names {
    pub(in super::super) const ON: &str = ", tuner on";
    pub(in super::super) const TUNED: &str = ", TuneD ";
    pub(in super::super) const BY_HAND: &str = "by hand";
    pub(in super::super) const TUNER_OFF: &str = "tuner off";
    pub(in super::super) const GOOD_AGAIN: &str = "time from onset to good again, slowest";
    pub(in super::super) const LASTING: &str = "lasting changes, most of a run";
    pub(in super::super) const CHANGES: &str = "changes, most of a run";
    pub(in super::super) const REVERSALS: &str = "reversals, most of a run";
}

/// The least share of the figure by hand that counts as a fault gone.
const GOOD: f64 = 0.9;
/// With the fault and no tuner, the figure must be below this share, or nothing was shown.
const FAULT: f64 = 0.8;

/// With nothing wrong, and in a trap, the least share of what it is without the tuner.
const AS_WITHOUT: f64 = 0.98;
const NEAR: f64 = 0.95;

/// Runs each of these scenarios whose "tuner name" contains `only`, in each setting, turn about: so many times, or as often as
/// the scenario says.
///
/// # Errors
/// Where a scenario cannot be set up, or results cannot be written.
pub fn run_all(
    bpftune: &Path,
    recorder: &mut Recorder,
    scenarios: &[Box<dyn Scenario>],
    only: Option<&str>,
    runs: Option<u32>,
) -> Result<()> {
    // Bursts need a descriptor a connection on both sides.
    let _ = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).and_then(
        |(_, most)| {
            nix::sys::resource::setrlimit(
                nix::sys::resource::Resource::RLIMIT_NOFILE,
                most.min(1 << 20),
                most,
            )
        },
    );
    let only = only.unwrap_or_default();
    let title = |scenario: &dyn Scenario| format!("{} {}", scenario.tuner(), scenario.name());
    let mut wanted = scenarios
        .iter()
        .filter(|scenario| title(scenario.as_ref()).contains(only))
        .peekable();
    if wanted.peek().is_none() {
        let titles: Vec<String> = scenarios.iter().map(|one| title(one.as_ref())).collect();
        return Err(crate::Error::other(
            format!("no scenario's name has \"{only}\" in it"),
            format!("there are\n  {}", titles.join("\n  ")),
        ));
    }
    for scenario in wanted {
        recorder.part(scenario.tuner(), scenario.name(), |part| {
            if let Some(missing) = scenario.missing() {
                part.note(format!("SKIP: {missing}"));
                return Ok(());
            }
            let mut done = Vec::new();
            let runs = runs.unwrap_or_else(|| scenario.runs());
            let settings = settings(&**scenario);
            let turns: usize = settings.iter().map(|set| set.turns(&**scenario)).sum();
            let progress = progress(turns * runs as usize);
            for round in 0..runs {
                for at in 0..settings.len() {
                    // Another order each time: what drifts hits all alike.
                    let setting = settings[(at + round as usize) % settings.len()];
                    progress.set_message(setting.name());
                    done.push(run(bpftune, &**scenario, setting, &progress)?);
                }
            }
            progress.finish_and_clear();
            match scenario.kind() {
                Kind::Fault => judge(part, &**scenario, &done),
                Kind::NothingWrong => judge_beside_off(part, &**scenario, &done, AS_WITHOUT),
                Kind::Trap => judge_beside_off(part, &**scenario, &done, NEAR),
            }
            Ok::<(), crate::Error>(())
        })?;
    }
    Ok(())
}

/// A live line, where standard error is a terminal.
fn progress(turns: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("  {bar:40} {pos} of {len} turns, {eta} left; {msg}");
    ProgressBar::new(turns as u64).with_style(style.expect("it names only what there is"))
}

/// A ratio's goal: at least this share as good, whichever way is good.
fn as_good(row: Row, better: Direction, share: f64) -> Row {
    match better {
        Direction::Higher => row.at_least(share),
        Direction::Lower => row.at_most(1.0 / share),
    }
}

/// A ratio's goal: at most this share as good.
fn no_better(row: Row, better: Direction, share: f64) -> Row {
    match better {
        Direction::Higher => row.at_most(share),
        Direction::Lower => row.at_least(1.0 / share),
    }
}

/// By hand there is nothing to do where nothing is wrong; in a trap, what it tempts to.
fn settings(scenario: &dyn Scenario) -> &'static [Setting] {
    match scenario.kind() {
        Kind::Fault => &SETTINGS,
        Kind::Trap if !scenario.by_hand().is_empty() => {
            &[Setting::Off, Setting::On, Setting::ByHand]
        }
        Kind::NothingWrong | Kind::Trap => &[Setting::Off, Setting::On],
    }
}

/// What the BPF programs cost, most of a run.
fn bpf_share(part: &mut Part, scenario: &dyn Scenario, runs: &[Run]) {
    let shares: Vec<f64> = runs.iter().filter_map(|run| run.bpf_share).collect();
    if let Some(most) = scenario.bpf_share()
        && !shares.is_empty()
    {
        let (name, percent) = ("processors' time in BPF programs", |share| share * 100.0);
        let worst = shares.iter().copied().map(percent).fold(0.0, f64::max);
        let row = Row::figure(format!("{name}, most of a run"), "%", worst, shares.len());
        part.row(row.at_most(percent(most)));
    }
}

/// A scenario in which the tuner is to change nothing that lasts.
fn judge_beside_off(part: &mut Part, scenario: &dyn Scenario, runs: &[Run], least: f64) {
    let of = |setting| runs.iter().filter(move |run| run.setting == setting);
    let figure = |run: &Run| run.figure(scenario.turns());
    let figures = |setting| of(setting).map(figure).collect::<Vec<_>>();
    // Taken in turn, so what a round's runs share, such as a slower hour of the machine, is no difference.
    let (off, on) = (figures(Setting::Off), figures(Setting::On));
    let (what, unit) = scenario.metric();
    let name = format!("{what}{}", names::ON);
    let row = Row::paired(name, unit, &on, (names::TUNER_OFF, &off));
    part.row(as_good(row, scenario.better(), least).detail(runs));
    let hand = figures(Setting::ByHand);
    if !hand.is_empty() {
        let name = format!("{what}, {}", names::TUNER_OFF);
        part.row(Row::paired(name, unit, &off, (names::BY_HAND, &hand)));
    }
    let lasting = of(Setting::On).map(|run| run.lasting).max();
    let lasting = lasting.unwrap_or(0) as f64;
    let lasting = Row::count(names::LASTING, "", lasting);
    match scenario.kind() {
        Kind::Trap if scenario.leaves_alone() => {
            part.row(lasting.at_most(0.0));
            part.row(reversals(runs));
        }
        Kind::Trap => {
            part.row(lasting);
            part.row(reversals(runs).at_most(scenario.reversals()));
        }
        Kind::Fault | Kind::NothingWrong => part.row(lasting.at_most(0.0)),
    }
    bpf_share(part, scenario, runs);
}

/// How often the tuner changed its mind, most of a run.
fn reversals(runs: &[Run]) -> Row {
    let on = runs.iter().filter(|run| run.setting == Setting::On);
    let most = on.map(|run| run.reversals).max().unwrap_or(0);
    Row::count(names::REVERSALS, "", most as f64)
}

fn judge(part: &mut Part, scenario: &dyn Scenario, runs: &[Run]) {
    let of = |setting| runs.iter().filter(move |run| run.setting == setting);
    let figure = |run: &Run| run.figure(scenario.turns());
    let figures = |setting| of(setting).map(figure).collect::<Vec<_>>();
    let [off, on, hand, tuned] = SETTINGS.map(figures);
    let (what, unit) = scenario.metric();
    let better = scenario.better();
    let good = match better {
        Direction::Higher => GOOD * median(&hand),
        Direction::Lower => median(&hand) / GOOD,
    };
    let times: Vec<f64> = of(Setting::On)
        .map(|run| run.recovered_in(good, better, scenario.mended()))
        .collect();
    let name = format!("{what}{}", names::ON);
    let by_hand = (names::BY_HAND, &hand[..]);
    let row = Row::compared(&name, unit, &on, by_hand);
    part.row(as_good(row, better, GOOD).detail(runs));
    part.row(if median(&off) > 0.0 {
        let row = Row::compared(name, unit, &on, (names::TUNER_OFF, &off));
        as_good(row, better, 0.97)
    } else {
        // There is no ratio to nothing.
        Row::sampled(name, unit, &on)
            .beside(names::TUNER_OFF, median(&off))
            .at_least(0.0)
    });
    if scenario.is_fault() {
        let fault = format!("{what}, tuner off: the fault");
        let row = Row::compared(fault, unit, &off, by_hand);
        part.row(no_better(row, better, FAULT));
    }
    let name = format!("{what}{}{}", names::TUNED, scenario.tuned().0);
    part.row(Row::compared(name, unit, &tuned, by_hand));
    if scenario.is_fault() {
        let slowest = times.iter().copied().fold(0.0, f64::max);
        part.row(
            Row::figure(names::GOOD_AGAIN, "s", slowest, times.len())
                .at_most(scenario.mended_within())
                .detail(&times),
        );
    }
    if let Some((what, unit)) = scenario.beside() {
        let figure = |run: &Run| run.figure_beside(scenario.turns());
        let figures = |setting| of(setting).map(figure).collect::<Vec<_>>();
        let off = figures(Setting::Off);
        for (setting, name) in [(Setting::On, "tuner on"), (Setting::ByHand, "by hand")] {
            let name = format!("{what}, {name}");
            let figures = figures(setting);
            part.row(Row::compared(
                name,
                unit,
                &figures,
                (names::TUNER_OFF, &off),
            ));
        }
    }
    let changes = of(Setting::On).map(|run| run.changes).max().unwrap_or(0);
    part.row(Row::count(names::CHANGES, "", changes as f64));
    part.row(reversals(runs).at_most(scenario.reversals()));
    bpf_share(part, scenario, runs);
}
