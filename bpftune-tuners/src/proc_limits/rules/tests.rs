use proptest::prelude::*;

use super::*;
use crate::{
    proc_limits::limits::{
        AIO, AIO_MAX, FILE_MAX, FILES, INSTANCES, MAX_INSTANCES, MAX_WATCHES, USERNS, WATCHES,
    },
    testing::{HOST, HUGE, Recorded, TINY, machine, signal, targets},
};

fn start() -> Recorded {
    Recorded::new(&[
        (PID_MAX, HOST, &[32768]),
        (THREADS_MAX, HOST, &[192_000]),
        (FILE_MAX, HOST, &[65536]),
        (MAX_WATCHES, HOST, &[8192]),
        (MAX_INSTANCES, HOST, &[128]),
        (AIO_MAX, HOST, &[65536]),
        (MAX_KEYS, HOST, &[200]),
        (MAX_KEY_BYTES, HOST, &[20_000]),
        (MAX_USERNS, HOST, &[0]),
    ])
}

fn short(scenario: &'static str, used: f64, limit: f64) -> Signal {
    signal(
        scenario,
        &[("used", used), ("limit", limit), ("uid", 1000.0)],
    )
}

fn crowd(tasks: f64, kin: f64, brood: f64, young: f64) -> Signal {
    let figures = [
        ("tasks", tasks),
        ("kin", kin),
        ("brood", brood),
        ("young", young),
    ];
    signal(TASKS, &figures)
}

#[test]
fn half_of_the_watches_taken_are_reason_enough() {
    let view = start();
    let proposals = ProcLimits.on_signal(&short(WATCHES, 4097.0, 8192.0), &view);
    assert_eq!(targets(&proposals), [(MAX_WATCHES, 32768)]);
    let reason = &proposals[0].reason;
    assert!(reason.contains("4097 of 8192 are in use"), "{reason}");
}

#[test]
fn what_is_nearly_used_up_gets_room() {
    let view = start();
    for (scenario, limit, tunable, target) in [
        (FILES, 65536.0, FILE_MAX, 262_144),
        (INSTANCES, 128.0, MAX_INSTANCES, 512),
        (AIO, 65536.0, AIO_MAX, 262_144),
    ] {
        let proposals = ProcLimits.on_signal(&short(scenario, limit, limit), &view);
        assert_eq!(targets(&proposals), [(tunable, target)]);
    }
    // The kernel counts twice what a program asks of io_setup(2) for.
    let proposals = ProcLimits.on_signal(&short(AIO, 120_000.0, 65536.0), &view);
    assert_eq!(targets(&proposals), [(AIO_MAX, 524_288)]);
}

#[test]
fn what_has_room_stays() {
    let view = start();
    let few_files = short(FILES, 9000.0, 65536.0);
    assert!(ProcLimits.on_signal(&few_files, &view).is_empty());
}

#[test]
fn an_old_signal_changes_nothing() {
    let view = start();
    let before_a_change = short(WATCHES, 4097.0, 4096.0);
    assert!(ProcLimits.on_signal(&before_a_change, &view).is_empty());
}

#[test]
fn user_namespaces_are_raised_late_and_stay_off_where_they_are() {
    let view = start();
    assert!(
        ProcLimits
            .on_signal(&short(USERNS, 0.0, 0.0), &view)
            .is_empty()
    );
    let mut few = start();
    few.values.insert(knob(MAX_USERNS, &few), 100.into());
    assert!(
        ProcLimits
            .on_signal(&short(USERNS, 60.0, 100.0), &few)
            .is_empty()
    );
    let proposals = ProcLimits.on_signal(&short(USERNS, 95.0, 100.0), &few);
    assert_eq!(targets(&proposals), [(MAX_USERNS, 512)]);
}

#[test]
fn the_quota_that_is_used_up_is_raised_and_no_other() {
    let view = start();
    let keys = |used, bytes, uid| {
        let figures = [
            ("used", used),
            ("limit", 200.0),
            ("used_bytes", bytes),
            ("limit_bytes", 20_000.0),
            ("uid", uid),
        ];
        targets_of(&ProcLimits.on_signal(&signal(KEYS, &figures), &view))
    };
    assert_eq!(keys(200.0, 900.0, 1000.0), [(MAX_KEYS.to_owned(), 1024)]);
    assert_eq!(
        keys(20.0, 19_990.0, 1000.0),
        [(MAX_KEY_BYTES.to_owned(), 131_072)]
    );
    assert!(keys(10.0, 10.0, 1000.0).is_empty(), "not the user's quota");
    assert!(keys(200.0, 900.0, 0.0).is_empty(), "root has another one");
}

fn targets_of(proposals: &[Proposal]) -> Vec<(String, i64)> {
    let targets = targets(proposals).into_iter();
    targets
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[test]
fn many_threads_get_twice_the_numbers() {
    let view = start();
    let proposals = ProcLimits.on_signal(&crowd(25_000.0, 40.0, 30.0, 5.0), &view);
    assert_eq!(targets(&proposals), [(PID_MAX, 65536)]);
    assert!(proposals[0].reason.contains("no fork bomb"));
}

#[test]
fn a_fork_bomb_is_not_fed() {
    let view = start();
    for bomb in [
        crowd(25_000.0, 24_000.0, 2.0, 24_000.0),
        crowd(25_000.0, 24_000.0, 2.0, 0.0),
        crowd(25_000.0, 24_000.0, 24_000.0, 23_000.0),
    ] {
        assert!(ProcLimits.on_signal(&bomb, &view).is_empty());
    }
}

#[test]
fn a_load_that_comes_and_goes_raises_a_limit_once() {
    let mut view = start();
    let mut changes = 0;
    for _ in 0..100 {
        let limit = view.values[&knob(MAX_WATCHES, &view)].last() as f64;
        // Comes: 6000 watches. Goes: none, of which there is no signal.
        if 6000.0 * 2.0 > limit {
            let proposals = ProcLimits.on_signal(&short(WATCHES, 6000.0, limit), &view);
            changes += proposals.len();
            view.apply(&proposals);
        }
    }
    assert_eq!(changes, 1);
}

#[test]
fn every_limit_has_a_bound_of_its_machine() {
    for memory in [TINY, 24 << 30, HUGE] {
        let machine = machine(memory);
        for limit in &LIMITS {
            let tunable = limit.tunable();
            let [(low, high)] = tunable.bound.ranges(&machine)[..] else {
                panic!("{} has one number", limit.tunable);
            };
            assert!(low >= 1 && high >= low, "{}", limit.tunable);
        }
    }
    let most = |tunable: &str| Limit::of(tunable).unwrap().range(&machine(24 << 30)).1;
    assert_eq!(most(PID_MAX), 196_608);
    assert_eq!(most(THREADS_MAX), 196_608);
    assert_eq!(most(MAX_USERNS), 98_304);
    let most = |tunable: &str| Limit::of(tunable).unwrap().range(&machine(TINY)).1;
    assert_eq!(most(PID_MAX), 32768, "not below what every Linux has");
}

proptest! {
    #[test]
    fn never_proposes_less(scenario in 0usize..6, used in 0.0f64..1e9) {
        let view = start();
        let scenarios = [(FILES, FILE_MAX), (WATCHES, MAX_WATCHES), (INSTANCES, MAX_INSTANCES), (AIO, AIO_MAX),
                         (KEYS, MAX_KEYS), (USERNS, MAX_USERNS)];
        let (scenario, tunable) = scenarios[scenario];
        let limit = view.values[&knob(tunable, &view)].last();
        for proposal in ProcLimits.on_signal(&short(scenario, used, limit as f64), &view) {
            prop_assert!(proposal.target.last() >= limit * 2);
            prop_assert!(proposal.target.last() <= limit * 16);
        }
    }
}
