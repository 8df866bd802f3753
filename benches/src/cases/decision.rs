//! A decision: from a tuner's signal to the governor's verdict.
//!
//! Every tunable has been changed in every namespace before, so that every history, limit and charge is there to be
//! looked at, and the files say something about everything.

use std::{
    cell::RefCell,
    collections::HashMap,
    time::{Duration, Instant},
};

use bpftune_core::{
    Bound, Cost, Figure, Knob, Machine, NetnsCookie, Proposal, Scope, Signal, Tunable, Tuner,
    Urgency, Value, View,
    config::Draft,
    governor::{Decision, Governor, Moment, Policy},
    learner::{Input, Learner, Reading, Spec},
    netns::Namespaces,
    sysctl,
};
use bpftune_tuners::tcp_buffer::TcpBuffer;

/// Tunables of each synthetic tuner.
const TUNABLES: usize = 4;

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
    /// By tunable: a table of all knobs would be looked into by this bench alone, and grow with its world. The engine
    /// asks the kernel.
    values: &'a HashMap<String, Value>,
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
            _ => self.values.get(&knob.tunable).cloned(),
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
        self.values.get(&knob.tunable).cloned()
    }
}

/// An operator who has a word on everything.
fn policy(tuners: usize) -> Policy {
    let mut text = String::from(
        "[governor]\nallow = [\"net.*\", \"bench.*\"]\ndeny = [\"vm.*\", \"net.ipv6.*\", \"bench.none.*\"]\n\
         deny_places = [\"/run/netns/db*\"]\nmemory_budget = \"100%\"\n\
         [maintenance]\nwindows = [\"mon-fri 22:00-06:00\", \"sat,sun\", \"mon-fri 06:00-22:00\"]\n",
    );
    for number in 0..tuners {
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
pub struct World {
    tuners: Vec<Box<dyn Tuner>>,
    governor: Governor,
    values: HashMap<String, Value>,
    machine: Machine,
    namespaces: u64,
    /// Of this process's namespace, receiving and sending.
    limits: (f64, f64),
    lots: u64,
    turn: u32,
}

impl World {
    /// With so many tuners, the first of which is tcp-buffer, and namespaces.
    ///
    /// # Panics
    /// Without /proc.
    #[must_use]
    pub fn new(tuner_count: usize, namespaces: u64) -> World {
        let machine = Machine::now().expect("/proc");
        let mut tuners: Vec<Box<dyn Tuner>> = vec![Box::<TcpBuffer>::default()];
        let learner: Spec = serde_json::from_str(r#"{"name": "limit"}"#).expect("a learner");
        tuners.extend((1..tuner_count).map(|number| {
            Box::new(Another {
                name: format!("t{number}"),
                learner: learner.clone(),
            }) as Box<dyn Tuner>
        }));
        let mut governor = Governor::new(policy(tuner_count));
        let mut values = HashMap::new();
        // Two hours ago: known, and no reason to refuse.
        let before = Instant::now()
            .checked_sub(Duration::from_secs(7200))
            .unwrap_or_else(Instant::now);
        for tuner in &tuners {
            for tunable in tuner.tunables() {
                let numbers = tunable.bound.ranges(&machine).len();
                let name = tunable.name.to_string();
                let value = Value::new(vec![131_072; numbers]);
                governor.register(tunable, tuner.name()).expect("one owner");
                for netns in 0..namespaces {
                    let knob = Knob {
                        tunable: name.clone(),
                        netns: NetnsCookie(netns),
                    };
                    governor.name_place(knob.netns, || format!("/run/netns/web-{netns}"));
                    for _ in 0..3 {
                        governor.changed(&knob, 1, before);
                    }
                    // A little each: all of them must leave budget for the decisions to come.
                    governor.charge(&knob, &value.with_last(131_071), &value);
                }
                values.insert(name, value);
            }
        }
        World {
            tuners,
            governor,
            values,
            machine,
            namespaces,
            limits: (own_limit("tcp_rmem"), own_limit("tcp_wmem")),
            lots: 0x9e37_79b9_7f4a_7c15,
            turn: 0,
        }
    }

    /// What comes next, by lot: a namespace, a tuner and a scenario. Only tcp-buffer has parameters that the kernel
    /// knows; else each tuner as often as any.
    fn next(&mut self, kernel: bool) -> (usize, Signal) {
        self.lots = self
            .lots
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.turn = self.turn.wrapping_add(1);
        let lots = self.lots;
        let index = if kernel {
            0
        } else {
            (lots >> 17) as usize % self.tuners.len()
        };
        let receives = lots & (1 << 40) == 0;
        // What the tuner is told fits what it finds.
        let limit = match (kernel, receives) {
            (false, _) => 131_072.0,
            (true, true) => self.limits.0,
            (true, false) => self.limits.1,
        };
        let scenario = if receives {
            "receive-limited"
        } else {
            "send-limited"
        };
        let netns = (lots >> 33) % self.namespaces;
        (index, signal(scenario, netns, self.turn, limit))
    }

    /// One decision by lot. The kernel is asked for values where `kernel` is given, and for the time where `now` is not.
    ///
    /// # Panics
    /// Where a tuner listens that should not.
    pub fn decide(&mut self, kernel: Option<&RefCell<Namespaces>>, now: Option<Moment>) -> Made {
        let (index, signal) = self.next(kernel.is_some());
        let World {
            tuners,
            governor,
            values,
            machine,
            ..
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
        let proposals = tuners[index].on_signal(&signal, &outlook);
        for proposal in &proposals {
            let Some(current) = outlook.read(&proposal.knob) else {
                continue;
            };
            let now = now.unwrap_or_else(Moment::now);
            let decision = governor.decide(proposal, &current, machine, now);
            applied += usize::from(matches!(decision, Decision::Apply(_)));
        }
        let took = start.elapsed();
        assert_eq!(listeners, 0);
        Made {
            took,
            proposals: proposals.len(),
            applied,
        }
    }
}

/// A decision.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// From the signal to the verdict.
    pub took: Duration,
    /// What the tuner wished.
    pub proposals: usize,
    /// What the governor let through.
    pub applied: usize,
}
