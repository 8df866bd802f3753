//! tcp-buffer in the simulator: recorded signals, and seeded paths.

use bpftune_core::{
    Knob, Value,
    learner::{Spec, limit},
    sim::{
        Event, Host, Setup, replay,
        suite::{self, Family, Scenario},
    },
};
use bpftune_tuners::tcp_buffer::TcpBuffer;

/// What the daemon did on a real connection: the demo's link, 20 ms round trip, with 1 Gbit/s or without bound.
const RECORDINGS: [&str; 3] = [
    include_str!("signals/receive-1gbit-20ms.jsonl"),
    include_str!("signals/send-1gbit-20ms.jsonl"),
    include_str!("signals/receive-unbound-20ms.jsonl"),
];

#[test]
fn recorded_signals_bring_the_decisions_that_the_daemon_took() {
    for text in RECORDINGS {
        let recording = replay::read(text).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let value = |line: &serde_json::Value, key: &str| -> Value {
            line[key].as_str().unwrap().parse().unwrap()
        };
        let knob = Knob {
            tunable: lines[0]["tunable"].as_str().unwrap().to_owned(),
            netns: recording[0].signal.netns,
        };
        let start = (knob, value(&lines[0], "old"));
        // As it was then.
        let bold = TcpBuffer::new(growth(2.0)).unwrap();
        let mut host = Host::new(Setup::default(), Box::new(bold), [start]).unwrap();
        let did: Vec<(Value, Value)> = replay::replay(&mut host, &recording)
            .into_iter()
            .filter_map(|event| match event {
                Event::Changed { old, new, .. } => Some((old, new)),
                Event::Judged { .. } => None,
            })
            .collect();
        let wanted: Vec<(Value, Value)> = lines
            .iter()
            .map(|line| (value(line, "old"), value(line, "new")))
            .collect();
        assert!(did.len() >= 4);
        assert_eq!(did, wanted);
    }
}

#[test]
fn on_any_path_it_comes_to_the_whole_rate_and_stays() {
    let plain = Family {
        name: "tcp-buffer",
        draw: |seed| Scenario::tcp(Box::<TcpBuffer>::default(), seed),
    };
    let bold = Family {
        name: "growth 2",
        draw: |seed| Scenario::tcp(Box::new(TcpBuffer::new(growth(2.0)).unwrap()), seed),
    };
    for (family, overshoot) in [(plain, 1.5), (bold, 2.0)] {
        let summary = &suite::run(&[family], 100)[0];
        assert_eq!(summary.reversals, 0, "{summary:?}");
        assert!(summary.converged >= 0.97, "{summary:?}");
        assert!(summary.overshoot < overshoot, "{summary:?}");
    }
}

fn growth(growth: f64) -> Spec {
    Spec::Limit(limit::Params {
        growth,
        least: growth,
        most: 8.0,
    })
}
