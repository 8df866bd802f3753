//! The goals as a table or JSON.

use std::time::Instant;

use bpftune_core::{
    learner::{Spec, limit},
    sim::{
        fleet::{self, Rollout},
        suite::{self, Choices, Family, Goal, Guarding, Scenario, Summary, Trials},
    },
    stats::Layout,
};
use bpftune_tuners::tcp_buffer::TcpBuffer;
use serde::Serialize;

/// Harm and noise that the goals name.
const HARM: f64 = 0.10;
const NOISE: f64 = 0.05;

#[derive(Serialize)]
struct Report {
    reached: bool,
    goals: Vec<Goal>,
    scenarios: Vec<Summary>,
    tcp_buffer: Vec<Summary>,
    trials: Vec<Trials>,
    guard: Guarding,
    choices: Vec<Choices>,
    fleet: Vec<Rollout>,
    seconds: f64,
}

/// tcp-buffer on paths of all kinds, with the learner that it has and with one that goes in larger steps.
fn tcp_buffer() -> Vec<Family> {
    vec![
        Family {
            name: "tcp-buffer",
            draw: |seed| Scenario::tcp(Box::<TcpBuffer>::default(), seed),
        },
        Family {
            name: "tcp-buffer, growth 2",
            draw: |seed| {
                let bold = Spec::Limit(limit::Params {
                    growth: 2.0,
                    least: 2.0,
                    most: 8.0,
                });
                let tuner = TcpBuffer::new(bold).expect("it takes a need");
                Scenario::tcp(Box::new(tuner), seed)
            },
        },
    ]
}

/// Runs everything; whether all goals are reached.
pub(crate) fn run(seeds: u64, hosts: usize, json: bool) -> Result<bool, String> {
    let started = Instant::now();
    let scenarios = suite::run(&suite::families(), seeds);
    let mut trials = Vec::new();
    for layout in [Layout::BeforeAfter, Layout::Interleaved] {
        for harm in [HARM, 0.0] {
            trials.push(suite::trials(layout, harm, NOISE, seeds));
        }
    }
    let arms = [1.0, 2.0, 3.0, 4.0];
    let choices = ["epsilon-greedy", "thompson"]
        .map(|name| {
            let spec = serde_json::json!({"name": name, "arms": arms, "half_life_seconds": 20});
            let spec: Spec = serde_json::from_value(spec).expect("a learner");
            suite::choices(&spec, &arms, seeds.div_ceil(10))
        })
        .to_vec();
    let fleet: Vec<Rollout> = [HARM, 0.0]
        .map(|harm| fleet::rollout(hosts, harm, 1))
        .to_vec();
    let tcp_buffer: Vec<Summary> = tcp_buffer()
        .into_iter()
        .flat_map(|family| suite::run(&[family], seeds.div_ceil(5)))
        .collect();
    // The goals are for what is used unless told otherwise: the first of tcp-buffer's.
    let held_to: Vec<Summary> = scenarios.iter().chain(&tcp_buffer[..1]).cloned().collect();
    let mut goals = suite::goals(&held_to);
    for trial in &trials {
        let layout = match trial.layout {
            Layout::BeforeAfter => "windows before and after",
            Layout::Interleaved => "interleaved windows",
        };
        goals.push(if trial.harm > 0.0 {
            Goal::at_least(
                format!("share of harmful changes reverted, {layout}"),
                trial.reverted,
                0.99,
            )
        } else {
            Goal::at_most(
                format!("share of harmless changes reverted, {layout}"),
                trial.reverted,
                0.05,
            )
        });
    }
    let share = |count: usize| count as f64 / hosts as f64;
    goals.push(Goal::at_most(
        "share of the fleet that a harmful change was tried on",
        share(fleet[0].tried),
        0.02,
    ));
    goals.push(Goal::at_most(
        "share of the fleet that kept it",
        share(fleet[0].kept),
        0.0005,
    ));
    goals.push(Goal::at_least(
        "share of the fleet that kept a harmless change",
        share(fleet[1].kept),
        0.95,
    ));
    let report = Report {
        reached: goals.iter().all(|goal| goal.reached),
        goals,
        scenarios,
        tcp_buffer,
        trials,
        guard: suite::guarding(seeds),
        choices,
        fleet,
        seconds: started.elapsed().as_secs_f64(),
    };
    if json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| e.to_string())?;
        println!("{text}");
    } else {
        print(&report);
    }
    Ok(report.reached)
}

fn print(report: &Report) {
    println!(
        "Scenarios: a learner on a knob with noise, drift, periodic load and bursts; time is simulated\n"
    );
    println!(
        "{:<24} {:>6} {:>10} {:>10} {:>10} {:>9} {:>9} {:>8}",
        "", "runs", "reversals", "overshoot", "converged", "median", "95 %", "changes"
    );
    for summary in report.scenarios.iter().chain(&report.tcp_buffer) {
        println!(
            "{:<24} {:>6} {:>10} {:>10.2} {:>8.1} % {:>7.1} s {:>7.1} s {:>8.1}",
            summary.family,
            summary.runs,
            summary.reversals,
            summary.overshoot,
            summary.converged * 100.0,
            summary.seconds_median,
            summary.seconds_p95,
            summary.changes_median,
        );
    }
    println!("\nTrials: a change under {:.0} % noise\n", NOISE * 100.0);
    for trial in &report.trials {
        println!(
            "{:<14} {:>4.0} % worse: {:>6.2} % of {} reverted, after {:.1} windows",
            format!("{:?}", trial.layout),
            trial.harm * 100.0,
            trial.reverted * 100.0,
            trial.runs,
            trial.windows
        );
    }
    println!(
        "\nGuard: {:.1} % of {} knobs with harm stopped, {:.1} % of those without",
        report.guard.stopped * 100.0,
        report.guard.runs,
        report.guard.stopped_wrongly * 100.0
    );
    println!("\nChoices: four values, one a tenth better, then another\n");
    for choice in &report.choices {
        println!(
            "{:<16} best played {:>5.1} %, after it moved {:>5.1} %, lost {:.2} %",
            choice.learner,
            choice.best * 100.0,
            choice.best_after_move * 100.0,
            choice.regret * 100.0
        );
    }
    println!(
        "\nFleet: {} hosts, by canary in stages of {:?} %\n",
        report.fleet[0].hosts,
        fleet::STAGES
    );
    for rollout in &report.fleet {
        println!(
            "{:>4.0} % worse: tried on {} hosts in {} stages, {} keep it",
            rollout.harm * 100.0,
            rollout.tried,
            rollout.stages.len(),
            rollout.kept
        );
    }
    println!("\nGoals ({:.1} s)\n", report.seconds);
    for goal in &report.goals {
        let word = if goal.reached { "reached" } else { "MISSED " };
        println!(
            "{word}  {:<66} {:>8.4}  bound {}",
            goal.goal, goal.measured, goal.bound
        );
    }
}
