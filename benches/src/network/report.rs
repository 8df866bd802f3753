//! Runs scenarios and judges them.

use std::path::Path;

use super::{Run, SETTINGS, Scenario, Setting, run};
use crate::{
    Result,
    result::{Part, Recorder, Row, median},
};

/// The least share of the figure by hand that counts as a fault gone.
const GOOD: f64 = 0.9;
/// With the fault and no tuner, the figure must be below this share, or nothing was shown.
const FAULT: f64 = 0.8;

/// Runs each scenario whose "tuner name" contains `only`, so many times in each setting, turn about.
///
/// # Errors
/// Where a scenario cannot be set up, or results cannot be written.
pub fn run_all(
    bpftune: &Path,
    recorder: &mut Recorder,
    only: Option<&str>,
    runs: u32,
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
    for scenario in super::all() {
        let title = format!("{} {}", scenario.tuner(), scenario.name());
        if only.is_some_and(|only| !title.contains(only)) {
            continue;
        }
        recorder.part(scenario.tuner(), scenario.name(), |part| {
            if let Some(missing) = scenario.missing() {
                part.note(format!("SKIP: {missing}"));
                return Ok(());
            }
            let mut done = Vec::new();
            for round in 0..runs {
                for at in 0..SETTINGS.len() {
                    // Another order each time: what drifts hits all alike.
                    let setting = SETTINGS[(at + round as usize) % SETTINGS.len()];
                    done.push(run(bpftune, &*scenario, setting)?);
                }
            }
            judge(part, &*scenario, &done);
            Ok::<(), crate::Error>(())
        })?;
    }
    Ok(())
}

fn judge(part: &mut Part, scenario: &dyn Scenario, runs: &[Run]) {
    let of = |setting| runs.iter().filter(move |run| run.setting == setting);
    let figures = |setting| of(setting).map(Run::figure).collect::<Vec<_>>();
    let [off, on, hand, tuned] = SETTINGS.map(figures);
    let (what, unit) = scenario.metric();
    let good = GOOD * median(&hand);
    let times: Vec<f64> = of(Setting::On).map(|run| run.recovered_in(good)).collect();
    let most = |count: fn(&Run) -> u64| of(Setting::On).map(count).max().unwrap_or(0) as f64;
    part.row(
        Row::compared(format!("{what}, tuner on"), unit, &on, ("by hand", &hand))
            .at_least(GOOD)
            .detail(runs),
    );
    let beside_off = format!("{what}, tuner on");
    part.row(if median(&off) > 0.0 {
        Row::compared(beside_off, unit, &on, ("tuner off", &off)).at_least(0.97)
    } else {
        // There is no ratio to nothing.
        Row::sampled(beside_off, unit, &on)
            .beside("tuner off", median(&off))
            .at_least(0.0)
    });
    if scenario.is_fault() {
        part.row(
            Row::compared(
                format!("{what}, tuner off: the fault"),
                unit,
                &off,
                ("by hand", &hand),
            )
            .at_most(FAULT),
        );
    }
    part.row(Row::compared(
        format!("{what}, TuneD network-throughput"),
        unit,
        &tuned,
        ("by hand", &hand),
    ));
    if scenario.is_fault() {
        let slowest = times.iter().copied().fold(0.0, f64::max);
        part.row(
            Row::figure(
                "time from onset to good again, slowest",
                "s",
                slowest,
                times.len(),
            )
            .at_most(10.0)
            .detail(&times),
        );
    }
    part.row(Row::count(
        "changes, most of a run",
        "",
        most(|run| run.changes),
    ));
    part.row(Row::count("reversals, most of a run", "", most(|run| run.reversals)).at_most(0.0));
}
