use proptest::prelude::*;

use super::*;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// A task that began long ago, in a session of its own; sums in ms.
fn task(pid: u32, ran: u64, waited: u64, slept: u64) -> Task {
    Task {
        session: pid.into(),
        ran: ms(ran),
        waited: ms(waited),
        slept,
        pid,
        name: *b"editor\0\0\0\0\0\0\0\0\0\0",
        ..Task::default()
    }
}

fn looks(looks: &[(u64, &[Task])]) -> Tally {
    let mut tally = Tally::default();
    for (at, tasks) in looks {
        tally.look(ms(*at), tasks.iter().copied());
    }
    tally
}

/// A task that draws frames of 5 ms beside a build of 16 jobs: 16 of them in a second, each 40 ms later than it could.
#[test]
fn waits_are_counted_in_the_middle_of_work_too() {
    let before = [task(1, 5_000, 40_000, 1_000)];
    let after = [task(1, 5_080, 40_640, 1_016)];
    let tally = looks(&[(10_000, &before), (11_000, &after)]);
    let Totals {
        woken,
        waited,
        very_long,
    } = tally.totals;
    assert_eq!((woken, waited, very_long), (16.0, 0.64, 0.0));
    assert_eq!(tally.longest.wait, ms(40));
    assert!(tally.longest.name.starts_with(b"editor"));
    // Nothing else has been seen, yet both processors worked.
    let found = tally.sessions.waits(2.0, 2.0);
    assert_eq!((found.modest.times, found.modest.long), (16.0, 16.0));
}

#[test]
fn who_computes_is_not_counted_but_uses_its_session_up() {
    let frames = |n: u64| task(1, 100 * n, 300 * n, 20 * n);
    let job = |n: u64| task(2, 900 * n, 1_000 * n, 3 * n);
    let tally = looks(&[(1_000, &[frames(1), job(1)]), (2_000, &[frames(2), job(2)])]);
    assert_eq!(tally.totals.woken, 20.0);
    let found = tally.sessions.waits(2.0, 2.0);
    assert_eq!(found.modest.long, 20.0, "the job has nine times as much");
}

#[test]
fn work_that_goes_on_is_counted_when_it_is_done() {
    let tally = looks(&[
        (1_000, &[task(1, 10, 0, 5)]),
        (2_000, &[task(1, 15, 60, 5)]),
        (3_000, &[task(1, 18, 80, 6)]),
    ]);
    assert_eq!((tally.totals.woken, tally.totals.waited), (1.0, 0.08));
    assert_eq!(tally.totals.very_long, 1.0);
}

#[test]
fn a_thousand_wake_ups_a_second_say_as_much_as_a_hundred() {
    let tally = looks(&[
        (1_000, &[task(1, 0, 0, 0), task(2, 0, 0, 0)]),
        (2_000, &[task(1, 100, 0, 100_000), task(2, 100, 500, 50)]),
    ]);
    assert_eq!(tally.totals.woken, 101.0 + 50.0);
    assert_eq!(tally.totals.waited, 0.5);
}

#[test]
fn what_is_new_counts_where_it_began_since() {
    let born = |at| Task {
        began: ms(at),
        ..task(1, 8, 20, 2)
    };
    let old = looks(&[(1_000, &[]), (2_000, &[born(500)])]);
    assert_eq!(old.totals.woken, 0.0, "when it ran nobody knows");
    let new = looks(&[(1_000, &[]), (2_000, &[born(1_500)])]);
    assert_eq!((new.totals.woken, new.totals.waited), (2.0, 0.02));
    // A number that another task has now.
    let other = looks(&[(1_000, &[task(1, 900, 900, 900)]), (2_000, &[born(1_500)])]);
    assert_eq!(other.totals.woken, 2.0);
}

#[test]
fn totals_outlive_a_silence() {
    let mut tally = looks(&[
        (1_000, &[task(1, 0, 0, 0)]),
        (2_000, &[task(1, 10, 90, 10)]),
    ]);
    tally.forget();
    tally.look(ms(60_000), [task(1, 500, 5_000, 500)].into_iter());
    assert_eq!(tally.totals.woken, 10.0);
    assert_eq!(tally.totals.waited, 0.09);
    assert_eq!(tally.sessions.waits(2.0, 2.0).rest.times, 0.0);
}

proptest! {
    #[test]
    fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Task::parse(&bytes);
    }

    /// Sums that run backwards, clocks that stand still.
    #[test]
    fn no_numbers_make_it_panic(
        looks in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>()), 0..8),
    ) {
        let mut tally = Tally::default();
        for (at, ran, waited, slept) in looks {
            let task = task(1, ran.into(), waited.into(), slept.into());
            tally.look(ms(at.into()), [task].into_iter());
            let waits = tally.sessions.waits(2.0, 2.0);
            prop_assert!(waits.modest.long <= waits.modest.times && waits.rest.long <= waits.rest.times);
        }
    }
}

#[test]
fn mirrors_the_program() {
    let program = include_str!("../cpu_sched.bpf.c");
    let body = program.split_once("struct task {").unwrap().1;
    let fields: Vec<&str> = body
        .lines()
        .map(str::trim)
        .take_while(|line| *line != "};")
        .filter_map(|line| line.strip_suffix(';'))
        .collect();
    assert_eq!(
        fields,
        [
            "__u64 session",
            "__u64 began_ns",
            "__u64 ran_ns",
            "__u64 waited_ns",
            "__u64 slept",
            "__u32 pid",
            "__u32 grouped",
            "char comm[16]"
        ]
    );
}
