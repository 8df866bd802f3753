use bpftune_core::trial::Action;
use proptest::prelude::*;

use super::*;
use crate::testing::{HOST, Recorded, at, trial};

const DISK: &str = "/sys/block/vda/queue/";

fn name(file: &str) -> String {
    format!("{DISK}{file}")
}

/// A disk with a scheduler and 256 requests.
fn disk() -> Recorded {
    let mut view = Recorded::new(&[
        (&name("nr_requests"), HOST, &[256]),
        (&name("wbt_lat_usec"), HOST, &[75_000]),
        (&name("rq_affinity"), HOST, &[1]),
    ]);
    let scheduler = at(&name("scheduler"), HOST);
    view.values.insert(scheduler, Value::word("mq-deadline"));
    view
}

fn waits(reads: f64, read_99: f64, writing: f64) -> Signal {
    let figures = [
        ("reads", reads),
        ("read_99", read_99),
        ("reading", 1.0),
        ("writing", writing),
        ("default_requests", 256.0),
        ("none", 1.0),
        ("mq-deadline", 1.0),
        ("bfq", 1.0),
    ];
    let mut signal = crate::testing::signal(WAITS, &figures);
    signal.subject = "vda".into();
    signal
}

fn bad() -> Signal {
    waits(500.0, 0.008, 60.0)
}

/// What it says to a signal a second for so long, at the first time that it says something.
fn says(
    tuner: &mut BlkQueue,
    seen: &Signal,
    view: &mut Recorded,
    seconds: u64,
) -> Option<Proposal> {
    for _ in 0..seconds {
        view.now += Duration::from_secs(1);
        if let Some(proposal) = tuner.on_signal(seen, view).pop() {
            return Some(proposal);
        }
    }
    None
}

fn record(outcome: Outcome) -> Record {
    serde_json::from_value(serde_json::json!({
        "version": 1, "outcome": outcome, "action": "kept", "why": "", "value_without": "", "value_with": "",
        "layout": "interleaved", "windows_without": 1, "windows_with": 1, "window_ms": 1, "settle_ms": 1,
        "alpha": 0.05, "figures": [], "guards": [], "beside": []
    }))
    .unwrap()
}

/// The next thing that it tries, with this outcome: "nr_requests=4".
fn step(tuner: &mut BlkQueue, view: &mut Recorded, outcome: Outcome) -> Option<String> {
    let proposal = says(tuner, &bad(), view, 20)?;
    tuner.decided(&proposal, &Decision::Apply(proposal.target.clone()));
    assert_eq!(says(tuner, &bad(), view, 10), None, "one at a time");
    tuner.tried(&proposal.knob, &record(outcome));
    if outcome == Outcome::Better {
        view.apply(std::slice::from_ref(&proposal));
    }
    let file = proposal.knob.tunable.rsplit('/').next().unwrap().to_owned();
    Some(format!("{file}={}", proposal.target))
}

#[test]
fn what_helped_stays_and_the_next_is_tried_on_top() {
    let (mut tuner, mut view) = (BlkQueue::default(), disk());
    for (outcome, tried) in [
        (Outcome::Better, "nr_requests=4"),
        // No scheduler now: the kernel would forget the number of requests.
        (Outcome::Unclear, "wbt_lat_usec=2000"),
        (Outcome::Unclear, "rq_affinity=2"),
    ] {
        assert_eq!(step(&mut tuner, &mut view, outcome).as_deref(), Some(tried));
    }
    assert_eq!(
        step(&mut tuner, &mut view, Outcome::Same),
        None,
        "nothing is left"
    );
    // Reads are fine now: nothing more is wanted, whatever was not tried.
    let fine = waits(3000.0, 0.001, 60.0);
    assert_eq!(says(&mut BlkQueue::default(), &fine, &mut view, 100), None);
}

#[test]
fn what_did_not_help_rests_for_an_hour() {
    let (mut tuner, mut view) = (BlkQueue::default(), disk());
    let mut tries = 0;
    for _ in 0..30 * 60 / 20 {
        tries += u32::from(step(&mut tuner, &mut view, Outcome::Same).is_some());
    }
    assert_eq!(tries, 4, "each parameter once");
    view.now += Duration::from_secs(3600);
    assert_eq!(
        step(&mut tuner, &mut view, Outcome::Same).as_deref(),
        Some("nr_requests=4")
    );
}

#[test]
fn load_that_comes_and_goes_is_left_alone() {
    let (mut tuner, mut view) = (BlkQueue::default(), disk());
    for _ in 0..100 {
        assert_eq!(says(&mut tuner, &bad(), &mut view, 6), None);
        view.now += Duration::from_secs(6);
    }
}

#[test]
fn reads_alone_and_writes_alone_are_no_trouble() {
    let mut view = disk();
    for seen in [
        waits(150.0, 0.012, 0.5),
        waits(0.0, 0.0, 64.0),
        waits(5.0, 0.1, 64.0),
        waits(20_000.0, 0.0005, 64.0),
    ] {
        assert_eq!(says(&mut BlkQueue::default(), &seen, &mut view, 30), None);
    }
}

#[test]
fn throughput_is_another_aim() {
    let mut view = disk();
    let mut tuner = BlkQueue::default();
    tuner.set_aim(Some(Aim::Throughput));
    assert_eq!(
        step(&mut tuner, &mut view, Outcome::Better).as_deref(),
        Some("scheduler=none")
    );
    let idle = waits(500.0, 0.008, 6.0);
    assert_eq!(says(&mut tuner, &idle, &mut view, 30), None);
    let goal = |tuner: &BlkQueue| tuner.trial(SCHEDULER).guards[0].metric.name.clone();
    assert_eq!(goal(&tuner), "read and written");
    tuner.set_aim(None);
    assert_eq!(goal(&tuner), "mean wait of a read");
}

#[test]
fn a_device_that_vanished_or_has_no_queue_gets_no_proposal() {
    let mut gone = disk();
    gone.values.clear();
    assert_eq!(says(&mut BlkQueue::default(), &bad(), &mut gone, 30), None);
}

#[test]
fn a_knob_that_refuses_is_left_out() {
    let (mut tuner, mut view) = (BlkQueue::default(), disk());
    let proposal = says(&mut tuner, &bad(), &mut view, 20).unwrap();
    tuner.decided(&proposal, &Decision::Apply(proposal.target.clone()));
    // The kernel refuses the write: no trial, no word of one.
    assert_eq!(says(&mut tuner, &bad(), &mut view, 55), None);
    assert_eq!(
        step(&mut tuner, &mut view, Outcome::Same).as_deref(),
        Some("scheduler=bfq")
    );
    // The governor refuses: the next at once.
    let proposal = says(&mut tuner, &bad(), &mut view, 20).unwrap();
    let held = bpftune_core::governor::Refusal::Held {
        by: "an admin".into(),
    };
    tuner.decided(&proposal, &Decision::Refuse(held));
    let next = says(&mut tuner, &bad(), &mut view, 2).unwrap();
    assert_ne!(next.knob, proposal.knob);
}

/// Counters of a window of 0.4 s: reads that wait so long on average, milliseconds, and bytes.
fn window(counter: &Counter, wait_ms: f64, slow: f64, bytes: f64, window: usize) -> f64 {
    let wobble = 1.0 + (window % 3) as f64 / 50.0;
    match counter {
        Counter::Own(name) => match name.as_ref() {
            READS_TIMED => 200.0,
            READ_TIME => 0.2 * wait_ms * wobble,
            READS_SLOW => 200.0 * slow,
            BYTES => bytes * wobble,
            other => panic!("no counter of its own: {other}"),
        },
        _ => 0.1,
    }
}

#[test]
fn a_change_for_which_others_pay_too_much_is_taken_back() {
    let plan = || BlkQueue::default().trial(SCHEDULER);
    let (record, action) = trial(plan(), |counter, with, at| {
        let (wait, bytes) = if with { (0.3, 7e8) } else { (2.0, 1e9) };
        window(counter, wait, 0.0, bytes, at)
    });
    assert_eq!((record.outcome, action), (Outcome::Worse, Action::Reverted));
    let (record, action) = trial(plan(), |counter, with, at| {
        // The mean falls, but three in a hundred starve.
        let (wait, slow) = if with { (0.9, 0.03) } else { (2.0, 0.0) };
        window(counter, wait, slow, 1e9, at)
    });
    assert_eq!((record.outcome, action), (Outcome::Worse, Action::Reverted));
}

#[test]
fn a_gain_stays_and_what_is_as_good_goes_back() {
    let plan = || BlkQueue::default().trial(NR_REQUESTS);
    let (record, action) = trial(plan(), |counter, with, at| {
        window(counter, if with { 0.3 } else { 2.0 }, 0.0, 1e9, at)
    });
    assert_eq!((record.outcome, action), (Outcome::Better, Action::Kept));
    let (record, action) = trial(plan(), |counter, _, at| window(counter, 2.0, 0.0, 1e9, at));
    assert_ne!(record.outcome, Outcome::Better);
    assert_eq!(action, Action::Reverted);
}

proptest! {
    #[test]
    fn proposals_are_within_the_bounds(numbers in prop::collection::vec(0.0f64..1e6, 3), requests in 0i64..100_000, throughput in any::<bool>()) {
        let mut view = disk();
        view.values.insert(at(&name("nr_requests"), HOST), requests.into());
        let mut tuner = BlkQueue::default();
        tuner.set_aim(throughput.then_some(Aim::Throughput));
        let seen = waits(numbers[0], numbers[1], numbers[2]);
        if let Some(proposal) = says(&mut tuner, &seen, &mut view, 10) {
            let tunables = tuner.tunables();
            let tunable = tunables.iter().find(|t| t.covers(&proposal.knob.tunable)).unwrap();
            match tunable.bound.words() {
                Some(words) => prop_assert!(words.contains(&proposal.target.as_word().unwrap())),
                None => {
                    let (low, high) = tunable.bound.ranges(&view.machine)[0];
                    prop_assert!((low..=high).contains(&proposal.target.last()));
                }
            }
        }
    }
}
