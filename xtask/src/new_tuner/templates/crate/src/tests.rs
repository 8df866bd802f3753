//! The rules on signals that are written down, and the source on this machine. No root needed.

use bpftune_core::{Machine, NetnsCookie, Source as _, Value, netns::Namespaces};

use super::*;

const NETNS: NetnsCookie = NetnsCookie(1);

/// What a tuner sees: one value.
struct Seen {
    value: Option<Value>,
    machine: Machine,
}

impl View for Seen {
    fn value(&self, knob: &Knob) -> Option<Value> {
        let known = knob.tunable == TUNABLE && knob.netns == NETNS;
        self.value.clone().filter(|_| known)
    }

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn host_netns(&self) -> NetnsCookie {
        NETNS
    }

    fn changed(&self) -> Vec<(Knob, Value)> {
        Vec::new()
    }
}

fn seen(value: Option<i64>) -> Seen {
    Seen {
        value: value.map(Value::from),
        machine: Machine::now().expect("/proc"),
    }
}

#[test]
fn an_overflow_doubles_the_room() {
    let signal = source::signal(NETNS, 12.5);
    let proposals = MyTuner.on_signal(&signal, &seen(Some(1024)));
    assert_eq!(proposals.len(), 1);
    assert_eq!(proposals[0].target, Value::from(2048));
    assert!(proposals[0].reason.contains("12.5 connections a second"));
}

#[test]
fn what_is_not_there_is_left_alone() {
    let signal = source::signal(NETNS, 12.5);
    assert!(MyTuner.on_signal(&signal, &seen(None)).is_empty());
    let other = Signal {
        scenario: "receive-limited".into(),
        ..signal
    };
    assert!(MyTuner.on_signal(&other, &seen(Some(1024))).is_empty());
}

#[test]
fn the_source_is_silent_while_nothing_happens() {
    let mut source = Overflows::new().expect("a timer");
    let mut signals = Vec::new();
    let mut namespaces = Namespaces::new().expect("/proc");
    source
        .drain(&mut namespaces, &mut signals)
        .expect("a quiet timer");
    assert!(signals.is_empty());
    assert_eq!(
        source.rate(),
        None,
        "the first look has nothing to compare with"
    );
    assert!(source.rate().is_some(), "the counter is there");
}
