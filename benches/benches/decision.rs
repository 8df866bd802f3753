//! How long a decision takes: from a tuner's signal to the governor's verdict, with many tuners and namespaces.
//!
//! `cargo xtask bench decision` runs it. Every tunable has been changed in every namespace before, so that every history,
//! limit and charge is there to be looked at, and the files say something about everything. Two rows: the decision alone,
//! with the parameters' values at hand, and the same with each value read from the kernel, as the engine does. The goal is
//! for both.

use std::{
    cell::RefCell,
    collections::HashMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use bpftune_core::{
    Bound, Cost, Figure, Knob, Machine, NetnsCookie, Proposal, Scope, Signal, Tunable, Tuner,
    Urgency, Value, View,
    config::Draft,
    governor::{Decision, Governor, Moment, Policy},
    learner::{Input, Learner, Reading, Spec},
    netns::Namespaces,
    stats::quantile,
    sysctl,
};
use bpftune_tuners::tcp_buffer::TcpBuffer;
use clap::Parser;
use serde_json::json;

/// The goal at p99.
const GOAL: Duration = Duration::from_micros(20);
const TUNERS: usize = 50;
const NAMESPACES: u64 = 1000;
/// Tunables of each synthetic tuner.
const TUNABLES: usize = 4;

/// From a signal to the governor's verdict, with 50 tuners and 1,000 namespaces
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench decision")]
struct Args {
    /// A tenth of the decisions
    #[arg(long)]
    quick: bool,
    /// Print JSON only
    #[arg(long)]
    json: bool,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

/// One more tuner: rules as `tcp-buffer` has them, on parameters that no kernel has.
struct Another {
    name: String,
    learner: Spec,
}

impl Another {
    fn tunable(&self, number: usize) -> String {
        format!("bench.{}.limit_{number}", self.name)
    }
}

impl Tuner for Another {
    fn name(&self) -> &str {
        &self.name
    }

    fn about(&self) -> &str {
        "one more"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let tunable = |number| Tunable {
            name: self.tunable(number).into(),
            scope: Scope::Netns,
            unit: "bytes".into(),
            about: "".into(),
            bound: Bound::Derived(|machine| vec![(4096, (machine.memory_total / 64) as i64)]),
            cost: Cost::ByUnit,
        };
        (0..TUNABLES).map(tunable).collect()
    }

    fn listens(&self, scenario: &str) -> bool {
        scenario == "none"
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let knob = Knob {
            tunable: self.tunable(signal.count as usize % TUNABLES),
            netns: signal.netns,
        };
        let (Some(value), Some(rate), Some(rtt)) = (
            view.value(&knob),
            signal.figure("rate"),
            signal.figure("min_rtt"),
        ) else {
            return Vec::new();
        };
        let need = rate * rtt / 1e6;
        let input = Input {
            at: Duration::ZERO,
            value: value.last() as f64,
            original: value.last() as f64,
            low: 4096.0,
            high: i64::MAX as f64,
            reading: Reading::Need(need),
            harm: None,
        };
        let target = Learner::new(self.learner.clone(), 0).next(&input);
        let proposal = target.map(|target| Proposal {
            reason: format!(
                "{} needs {need:.0} B at {rate:.0} B/s and {rtt:.0} us",
                signal.subject
            ),
            target: Value::from(target as i64),
            knob,
            urgency: Urgency::Gain,
        });
        proposal.into_iter().collect()
    }
}

/// Where tuners find values.
struct Outlook<'a> {
    values: &'a HashMap<Knob, Value>,
    /// From the kernel instead, in this process's own namespace.
    kernel: Option<&'a RefCell<Namespaces>>,
    machine: &'a Machine,
    /// What was read for this signal: as in the engine, once.
    seen: RefCell<Vec<(Knob, Value)>>,
}

impl Outlook<'_> {
    fn read(&self, knob: &Knob) -> Option<Value> {
        match self.kernel {
            Some(namespaces) if !knob.tunable.starts_with("bench.") => {
                let mut seen = self.seen.borrow_mut();
                if let Some((_, value)) = seen.iter().find(|(known, _)| known == knob) {
                    return Some(value.clone());
                }
                let mut namespaces = namespaces.borrow_mut();
                let here = Knob {
                    netns: namespaces.own(),
                    ..knob.clone()
                };
                let value = sysctl::read(&mut namespaces, &here).ok()?;
                seen.push((knob.clone(), value.clone()));
                Some(value)
            }
            _ => self.values.get(knob).cloned(),
        }
    }
}

impl View for Outlook<'_> {
    fn value(&self, knob: &Knob) -> Option<Value> {
        self.read(knob)
    }

    fn machine(&self) -> &Machine {
        self.machine
    }

    fn host_netns(&self) -> NetnsCookie {
        NetnsCookie(0)
    }

    fn changed(&self) -> Vec<(Knob, Value)> {
        Vec::new()
    }

    fn original(&self, knob: &Knob) -> Option<Value> {
        self.values.get(knob).cloned()
    }
}

/// An operator who has a word on everything.
fn policy() -> Policy {
    let mut text = String::from(
        "[governor]\nallow = [\"net.*\", \"bench.*\"]\ndeny = [\"vm.*\", \"net.ipv6.*\", \"bench.none.*\"]\n\
         deny_places = [\"/run/netns/db*\"]\nmemory_budget = \"100%\"\n\
         [maintenance]\nwindows = [\"mon-fri 22:00-06:00\", \"sat,sun\", \"mon-fri 06:00-22:00\"]\n",
    );
    for number in 0..TUNERS {
        text += &format!("[tuner.t{number}]\ncool_down = \"{number}ms\"\n");
        text += &format!("[tunable.\"bench.t{number}.*\"]\nmax = \"1/128 ram\"\n");
    }
    let mut draft = Draft::default();
    draft.add("bench.toml", &text);
    Policy::from(&draft.finish().expect("a good file"))
}

fn signal(scenario: &'static str, netns: u64, number: u32, limit: f64) -> Signal {
    Signal {
        scenario: scenario.into(),
        netns: NetnsCookie(netns),
        subject: "10.0.0.1:443 from 10.0.0.2:40000".into(),
        count: number,
        figures: vec![
            Figure::new("rate", limit * 50.0, "B/s"),
            Figure::new("min_rtt", 20_000.0, "us"),
            Figure::new("buffer", limit, "B"),
            Figure::new("limit", limit, "B"),
            Figure::new("locked", 0.0, ""),
            Figure::new("scaling_ratio", 128.0, ""),
        ],
    }
}

/// The limit that this process's namespace has now.
fn own_limit(name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    let last = text
        .split_ascii_whitespace()
        .last()
        .and_then(|number| number.parse().ok());
    last.unwrap_or(131_072.0)
}

/// Everything that a running daemon would know.
struct World {
    tuners: Vec<Box<dyn Tuner>>,
    governor: Governor,
    values: HashMap<Knob, Value>,
    machine: Machine,
}

impl World {
    fn new() -> World {
        let machine = Machine::now().expect("/proc");
        let mut tuners: Vec<Box<dyn Tuner>> = vec![Box::<TcpBuffer>::default()];
        let learner: Spec = serde_json::from_str(r#"{"name": "limit"}"#).expect("a learner");
        tuners.extend((1..TUNERS).map(|number| {
            Box::new(Another {
                name: format!("t{number}"),
                learner: learner.clone(),
            }) as Box<dyn Tuner>
        }));
        let mut governor = Governor::new(policy());
        let mut values = HashMap::new();
        // Two hours ago: known, and no reason to refuse.
        let before = Instant::now()
            .checked_sub(Duration::from_secs(7200))
            .unwrap_or_else(Instant::now);
        for tuner in &tuners {
            for tunable in tuner.tunables() {
                let numbers = tunable.bound.ranges(&machine).len();
                let name = tunable.name.to_string();
                governor.register(tunable, tuner.name()).expect("one owner");
                for netns in 0..NAMESPACES {
                    let knob = Knob {
                        tunable: name.clone(),
                        netns: NetnsCookie(netns),
                    };
                    let value = Value::new(vec![131_072; numbers]);
                    governor.name_place(knob.netns, || format!("/run/netns/web-{netns}"));
                    for _ in 0..3 {
                        governor.changed(&knob, 1, before);
                    }
                    // A little each: all of them must leave budget for the decisions to come.
                    governor.charge(&knob, &value.with_last(131_071), &value);
                    values.insert(knob, value);
                }
            }
        }
        World {
            tuners,
            governor,
            values,
            machine,
        }
    }

    /// One decision, and how long it took. The kernel is asked for values where `kernel` is given.
    fn decide(
        &mut self,
        index: usize,
        signal: &Signal,
        kernel: Option<&RefCell<Namespaces>>,
    ) -> (Duration, usize, usize) {
        let World {
            tuners,
            governor,
            values,
            machine,
        } = self;
        let outlook = Outlook {
            values,
            kernel,
            machine,
            seen: RefCell::default(),
        };
        let start = Instant::now();
        let listeners = tuners
            .iter()
            .filter(|tuner| tuner.listens(&signal.scenario))
            .count();
        let mut applied = 0;
        let proposals = tuners[index].on_signal(signal, &outlook);
        for proposal in &proposals {
            let Some(current) = outlook.read(&proposal.knob) else {
                continue;
            };
            let decision = governor.decide(proposal, &current, machine, Moment::now());
            applied += usize::from(matches!(decision, Decision::Apply(_)));
        }
        let took = start.elapsed();
        assert_eq!(listeners, 0);
        (took, proposals.len(), applied)
    }
}

struct Row {
    what: &'static str,
    /// Microseconds.
    times: Vec<f64>,
    proposals: usize,
    applied: usize,
}

impl Row {
    fn measure(
        what: &'static str,
        world: &mut World,
        count: usize,
        kernel: Option<&RefCell<Namespaces>>,
    ) -> Row {
        let mut row = Row {
            what,
            times: Vec::with_capacity(count),
            proposals: 0,
            applied: 0,
        };
        let limits = (own_limit("tcp_rmem"), own_limit("tcp_wmem"));
        let mut lots = 0x9e37_79b9_7f4a_7c15_u64;
        for turn in 0..count + count / 10 {
            lots = lots
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let netns = (lots >> 33) % NAMESPACES;
            // Only tcp-buffer has parameters that the kernel knows; else each tuner as often as any.
            let index = if kernel.is_some() {
                0
            } else {
                (lots >> 17) as usize % TUNERS
            };
            let scenario = if lots & (1 << 40) == 0 {
                "receive-limited"
            } else {
                "send-limited"
            };
            // What the tuner is told fits what it finds.
            let limit = match (kernel, scenario) {
                (None, _) => 131_072.0,
                (Some(_), "receive-limited") => limits.0,
                (Some(_), _) => limits.1,
            };
            let signal = signal(scenario, netns, turn as u32, limit);
            let (took, proposals, applied) = world.decide(index, &signal, kernel);
            // The first tenth warms up.
            if turn >= count / 10 {
                row.times.push(took.as_secs_f64() * 1e6);
                row.proposals += proposals;
                row.applied += applied;
            }
        }
        row
    }

    /// Microseconds.
    fn at(&self, share: f64) -> f64 {
        quantile(&self.times, share).unwrap_or(f64::NAN)
    }

    fn holds(&self) -> bool {
        self.at(0.99) < GOAL.as_secs_f64() * 1e6
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let count = if args.quick { 20_000 } else { 200_000 };
    let mut world = World::new();
    let rows = match Namespaces::new() {
        Ok(namespaces) => {
            let namespaces = RefCell::new(namespaces);
            vec![
                Row::measure("values at hand, all tuners", &mut world, count, None),
                Row::measure(
                    "values read from the kernel, tcp-buffer",
                    &mut world,
                    count,
                    Some(&namespaces),
                ),
            ]
        }
        Err(error) => {
            eprintln!("no values from the kernel: {error}");
            vec![Row::measure(
                "values at hand, all tuners",
                &mut world,
                count,
                None,
            )]
        }
    };
    let figures: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "what": row.what, "decisions": row.times.len(), "proposals": row.proposals, "applied": row.applied,
                "p50_us": row.at(0.5), "p99_us": row.at(0.99), "goal_us": GOAL.as_micros() as u64,
                "holds": row.holds(),
            })
        })
        .collect();
    if args.json {
        println!(
            "{}",
            json!({ "tuners": TUNERS, "namespaces": NAMESPACES, "rows": figures })
        );
    } else {
        println!(
            "{TUNERS} tuners, {NAMESPACES} namespaces, {} tunables",
            6 + (TUNERS - 1) * TUNABLES
        );
        println!(
            "{:<42} {:>9} {:>9} {:>10} {:>8}",
            "signal to verdict", "p50 us", "p99 us", "goal us", "holds"
        );
        for row in &rows {
            let holds = if row.holds() { "yes" } else { "NO" };
            println!(
                "{:<42} {:>9.2} {:>9.2} {:>10} {holds:>8}",
                row.what,
                row.at(0.5),
                row.at(0.99),
                GOAL.as_micros()
            );
        }
    }
    // A decision that proposes nothing would be quick for no good reason.
    if rows.iter().any(|row| row.applied * 2 < row.times.len()) {
        eprintln!(
            "less than half of the signals led to a change: the bench does not measure what it says"
        );
        return ExitCode::FAILURE;
    }
    if rows.iter().all(Row::holds) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
