use bpftune_core::{
    Figure, Urgency,
    trial::{Action, Outcome, Record},
};

use super::*;
use crate::testing::{HOST, Recorded, at, trial};

const DB: &str = "/sys/fs/cgroup/system.slice/db.service/memory.high";
const MIB: i64 = 1 << 20;

fn view(high: Option<i64>) -> Recorded {
    let mut view = Recorded::new(&[]);
    let value = high.map_or(Value::word("max"), Value::from);
    view.values.insert(at(DB, HOST), value);
    view
}

fn heard(scenario: &'static str, held: i64, stalled: f64) -> Signal {
    Signal {
        scenario: scenario.into(),
        netns: HOST,
        subject: "db.service".into(),
        count: 1,
        figures: vec![
            Figure::new("held", held as f64, "bytes"),
            Figure::new("stalled", stalled, ""),
        ],
    }
}

fn wished(view: &Recorded, signal: &Signal) -> Option<(Value, Urgency)> {
    let mut wanted = CgroupMem::default().on_signal(signal, view);
    assert!(wanted.len() < 2);
    wanted
        .pop()
        .map(|proposal| (proposal.target, proposal.urgency))
}

#[test]
fn a_calm_service_is_asked_for_a_twentieth_at_a_time() {
    let mut seen = view(None);
    let (mut held, mut limits) = (1000 * MIB, Vec::new());
    for _ in 0..3 {
        let (target, urgency) = wished(&seen, &heard(IDLE, held, 0.0)).unwrap();
        assert_eq!(urgency, Urgency::Gain);
        assert_eq!(target.last() % 4096, 0, "whole pages");
        held = target.last();
        limits.push(held / MIB);
        seen.apply(&CgroupMem::default().on_signal(&heard(IDLE, held * 100 / 95, 0.0), &seen));
    }
    assert_eq!(limits, [950, 902, 857]);
}

#[test]
fn it_leaves_alone_who_waits_who_is_small_and_whom_somebody_limits() {
    assert_eq!(wished(&view(None), &heard(IDLE, 1000 * MIB, 0.001)), None);
    assert_eq!(wished(&view(None), &heard(IDLE, 100 * MIB, 0.0)), None);
    assert_eq!(
        wished(&view(Some(2000 * MIB)), &heard(IDLE, 1000 * MIB, 0.0)),
        None
    );
    assert_eq!(
        wished(&Recorded::new(&[]), &heard(IDLE, 1000 * MIB, 0.0)),
        None
    );
    // Under the limit of somebody else a service that waits is their business, too.
    assert_eq!(
        wished(&view(Some(900 * MIB)), &heard(PRESSED, 900 * MIB, 0.5)),
        None
    );
    let mut torn = heard(IDLE, 1000 * MIB, 0.0);
    torn.figures.pop();
    assert_eq!(wished(&view(None), &torn), None);
}

#[test]
fn who_waits_gets_more_and_who_waits_badly_gets_all() {
    let mut seen = view(None);
    let wanted = CgroupMem::default().on_signal(&heard(IDLE, 1000 * MIB, 0.0), &seen);
    seen.apply(&wanted);
    assert_eq!(wished(&seen, &heard(PRESSED, 950 * MIB, 0.001)), None);
    let (more, urgency) = wished(&seen, &heard(PRESSED, 950 * MIB, 0.01)).unwrap();
    assert_eq!((more.last() / MIB, urgency), (1140, Urgency::Harm));
    let (all, _) = wished(&seen, &heard(PRESSED, 950 * MIB, 0.2)).unwrap();
    assert_eq!(all, Value::word("max"));
}

#[test]
fn bounds_fit_small_machines_and_large_ones() {
    for memory in [crate::testing::TINY, crate::testing::HUGE] {
        let machine = crate::testing::machine(memory);
        for (low, high) in CgroupMem::default().tunables()[0].bound.ranges(&machine) {
            assert!(low == 64 * MIB && low < high && high <= memory as i64);
        }
    }
}

/// What a service held and how long it waited, in each second, without the limit and with it.
#[derive(Clone, Copy)]
struct Went {
    held: [f64; 2],
    waited: [f64; 2],
}

fn tried(went: Went) -> (Record, Action) {
    let mut held = (0.0, 0.0);
    let last = std::cell::RefCell::new(&mut held);
    trial(CgroupMem::default().trial(HIGH), |counter, with, window| {
        let side = usize::from(with);
        match counter {
            // A level: the helper sums up what a counter grows by.
            Counter::Own(name) if name == HELD => {
                let mut last = last.borrow_mut();
                let now = went.held[side] * (1.0 + (window % 3) as f64 * 0.001);
                let grew = now - last.0;
                last.0 = now;
                grew
            }
            Counter::Own(name) if name == STALLED => {
                went.waited[side] * (1.0 + (window % 4) as f64 * 0.01)
            }
            _ => 0.0,
        }
    })
}

#[test]
fn memory_that_nobody_misses_stays_with_the_host() {
    let (record, action) = tried(Went {
        held: [1000.0, 950.0],
        waited: [0.0, 0.0],
    });
    assert_eq!((record.outcome, action), (Outcome::Better, Action::Kept));
}

/// Less memory held, and the service waits for what it reads again and again.
#[test]
fn less_memory_is_no_gain_where_the_service_waits_for_it() {
    let (record, action) = tried(Went {
        held: [1000.0, 950.0],
        waited: [0.0, 0.05],
    });
    assert_eq!((record.outcome, action), (Outcome::Worse, Action::Reverted));
}

/// A job that comes each ten minutes: calm between, pressed then. It tempts to take and give again and again, and a trial
/// between two jobs finds nothing wrong.
#[test]
fn a_service_with_jobs_now_and_then_is_not_limited_to_and_fro() {
    let (mut tuner, mut seen) = (CgroupMem::default(), view(None));
    let mut limits = Vec::new();
    for minute in 0..200 {
        seen.now = Duration::from_secs(60 * minute);
        let job = minute % 10 == 9;
        let signal = match (job, seen.values[&at(DB, HOST)] == Value::word("max")) {
            (true, false) => heard(PRESSED, 950 * MIB, 0.2),
            (true, true) => continue,
            (false, _) => heard(IDLE, 1000 * MIB, 0.0),
        };
        // The governor lets no limit fall that is there already.
        let wanted = tuner.on_signal(&signal, &seen);
        if wanted
            .iter()
            .any(|wanted| Some(&wanted.target) != seen.values.get(&at(DB, HOST)))
            && (job || limits.len() % 2 == 0)
        {
            limits.extend(wanted.iter().map(|wanted| wanted.target.to_string()));
            seen.apply(&wanted);
        }
    }
    let limit = (950 * MIB).to_string();
    assert_eq!(limits, [&limit, "max", &limit, "max"], "once in two hours");
}
