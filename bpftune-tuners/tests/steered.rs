//! irq-steer in the simulator: signals that a daemon acted on, and what it did.
#![cfg(feature = "irq-steer")]

use bpftune_core::{
    Cpus, Knob, NetnsCookie, Value,
    sim::{Event, Host, NETNS, Setup, replay},
};
use bpftune_tuners::irq_steer::IrqSteer;

/// Two network cards of a virtual machine on one processor, Linux 6.12.
const INTERRUPTS: &str = include_str!("signals/interrupts-two-cards.jsonl");
/// 64 connections between two namespaces, steered to two processors, Linux 6.18.
const READS: &str = include_str!("signals/reads-elsewhere-64.jsonl");

fn knob(tunable: &str, netns: NetnsCookie) -> Knob {
    Knob {
        tunable: tunable.into(),
        netns,
    }
}

fn cpus(list: &str) -> Value {
    list.parse::<Cpus>().unwrap().into()
}

/// Gives a recording to a tuner on two processors: parameters that it changed, with the new values.
fn replayed(text: &str, values: Vec<(Knob, Value)>) -> Vec<(String, String)> {
    let both: Cpus = "0-1".parse().unwrap();
    let tuner = Box::new(IrqSteer::new(vec![both.clone()], both));
    let mut host = Host::new(Setup::default(), tuner, values).unwrap();
    let recording = replay::read(text).unwrap();
    let did = replay::replay(&mut host, &recording).into_iter();
    did.filter_map(|event| match event {
        Event::Changed { knob, new, .. } => Some((knob.tunable, new.to_string())),
        Event::Judged { .. } => None,
    })
    .collect()
}

/// What the daemon did, as the recording's lines say.
fn recorded(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let word = |key: &str| line[key].as_str().unwrap().to_owned();
            (word("tunable"), word("new"))
        })
        .collect()
}

#[test]
fn an_interrupt_of_two_on_one_processor_is_moved() {
    let values = |affinity: &str| {
        vec![
            (
                knob("/proc/irq/25/smp_affinity_list", NETNS),
                cpus(affinity),
            ),
            // Steered by somebody, so that only the interrupt is left to move.
            (
                knob("/sys/class/net/eth0/queues/rx-0/rps_cpus", NetnsCookie(1)),
                cpus("0"),
            ),
        ]
    };
    assert_eq!(replayed(INTERRUPTS, values("0-1")), recorded(INTERRUPTS));
    assert_eq!(replayed(INTERRUPTS, values("0")), []);
}

#[test]
fn packets_follow_readers_by_two_steps() {
    let netns = replay::read(READS).unwrap()[0].signal.netns;
    let values = |steered: &str| {
        vec![
            (knob("net.core.rps_sock_flow_entries", NETNS), 0.into()),
            (
                knob("/sys/class/net/v0/queues/rx-0/rps_flow_cnt", netns),
                0.into(),
            ),
            (
                knob("/sys/class/net/v0/queues/rx-0/rps_cpus", netns),
                cpus(steered),
            ),
        ]
    };
    assert_eq!(recorded(READS).len(), 2);
    assert_eq!(replayed(READS, values("0-1")), recorded(READS));
    assert_eq!(replayed(READS, values("1")), []);
}
