//! Rings and spawners that end, move, or are forgotten.

use std::{thread, time::Duration};

use io_uring::IoUring;
use uring_process::{Command, ring::Spawner};

use crate::{
    common::{alone, children, fds, rss, times, unless_interrupted, until},
    ring::{follow, plan, run},
};

fn zombies() -> usize {
    children().iter().filter(|(_, state)| *state == 'Z').count()
}

/// A start after which nothing of spawners that were dropped is left.
fn sweep() {
    let mut ring = IoUring::new(8).unwrap();
    let mut spawner = Spawner::new(&ring, 1).unwrap();
    run(&mut ring, &mut spawner, &[&plan(&["true"])]);
}

#[test]
fn a_ring_dropped_while_children_run() {
    alone(|| {
        sweep();
        let before = fds();
        for _ in 0..times(50) {
            let mut ring = IoUring::new(16).unwrap();
            let mut spawner = Spawner::new(&ring, 1).unwrap();
            for _ in 0..4 {
                spawner.submit(&plan(&["sleep", "0.01"])).unwrap();
            }
            spawner.push(&mut ring.submission());
            ring.submit().unwrap();
            drop(ring);
            drop(spawner);
        }
        until("all are over", || {
            children().iter().all(|(_, state)| *state == 'Z')
        });
        sweep();
        assert_eq!(children(), []);
        until("the rings are gone", || fds() == before);
    });
}

#[test]
fn a_spawner_dropped_while_children_run_and_then_another() {
    alone(|| {
        sweep();
        let before = fds();
        let mut ring = IoUring::new(64).unwrap();
        for round in 0..times(100) {
            let mut spawner = Spawner::new(&ring, 1).unwrap();
            for _ in 0..4 {
                spawner.submit(&plan(&["true"])).unwrap();
            }
            // Some not even pushed, some submitted.
            if round % 3 > 0 {
                spawner.push(&mut ring.submission());
            }
            if round % 3 > 1 {
                ring.submit().unwrap();
            }
            drop(spawner);
            if round % 3 == 1 {
                // What was pushed and not submitted goes with its ring.
                ring = IoUring::new(64).unwrap();
            }
            let mut other = Spawner::new(&ring, 2).unwrap();
            other.submit(&plan(&["echo", "x"])).unwrap();
            let mut seen = crate::ring::Seen::default();
            while other.in_flight() > 0 {
                other.push(&mut ring.submission());
                unless_interrupted(ring.submit_and_wait(1));
                for completion in ring.completion() {
                    other.complete(completion.user_data(), completion.result());
                }
                while let Some(event) = other.next_event() {
                    seen.take(event);
                }
            }
            assert_eq!((seen.started, seen.ended.len()), (1, 1));
        }
        until("all are over", || children().len() == zombies());
        drop(ring);
        sweep();
        assert_eq!(children(), []);
        until("the ring is gone", || fds() == before);
    });
}

#[test]
fn a_spawner_forgotten() {
    alone(|| {
        let mut ring = IoUring::new(64).unwrap();
        for _ in 0..20 {
            let mut spawner = Spawner::new(&ring, 1).unwrap();
            spawner.submit(&plan(&["true"])).unwrap();
            spawner.push(&mut ring.submission());
            ring.submit().unwrap();
            std::mem::forget(spawner);
        }
        drop(ring);
        let mut ring = IoUring::new(64).unwrap();
        let mut spawner = Spawner::new(&ring, 1).unwrap();
        let echo = plan(&["echo", "x"]);
        let seen = run(&mut ring, &mut spawner, &[&echo; 20]);
        assert_eq!((seen.started, seen.ended.len()), (20, 20));
        // SAFETY: takes the forgotten ones, which are over or about to be.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0 {}
    });
}

#[test]
fn a_spawner_moved_to_another_thread() {
    let mut ring = IoUring::new(16).unwrap();
    let mut spawner = Spawner::new(&ring, 1).unwrap();
    for _ in 0..8 {
        spawner.submit(&plan(&["sleep", "0.02"])).unwrap();
    }
    spawner.push(&mut ring.submission());
    ring.submit().unwrap();
    let seen = thread::spawn(move || follow(&mut ring, &mut spawner))
        .join()
        .unwrap();
    assert_eq!((seen.started, seen.ended.len()), (8, 8));
}

#[test]
fn the_thread_that_started_it_may_end() {
    for _ in 0..times(100) {
        let starting = thread::spawn(|| Command::new("true").start().unwrap())
            .join()
            .unwrap();
        assert!(starting.wait().unwrap().wait().unwrap().success());
    }
}

#[test]
fn one_plan_from_eight_threads() {
    let echo = plan(&["echo", "x"]);
    thread::scope(|scope| {
        for number in 0..8 {
            let echo = &echo;
            scope.spawn(move || {
                let mut ring = IoUring::new(16).unwrap();
                let mut spawner = Spawner::new(&ring, 1).unwrap();
                for _ in 0..times(10) {
                    if number % 2 == 0 {
                        let seen = run(&mut ring, &mut spawner, &[echo, echo]);
                        assert_eq!(seen.text, ["x\n", "x\n"]);
                    } else {
                        let output = echo.spawn().unwrap().wait_with_output().unwrap();
                        assert_eq!(output.stdout, b"x\n");
                    }
                }
            });
        }
    });
}

#[test]
fn twenty_thousand_leave_nothing() {
    alone(|| {
        let mut ring = IoUring::new(64).unwrap();
        let mut spawner = Spawner::new(&ring, 1).unwrap();
        // The plain command, as it costs least: what it does is no matter.
        let (works, lost) = (Command::new("/bin/true").plan().unwrap(), plan(&["/lost"]));
        let before = fds();
        let mut round = |count: usize| {
            for _ in 0..count / 20 {
                let mut plans = [&works; 20];
                plans[7] = &lost;
                let seen = run(&mut ring, &mut spawner, &plans);
                assert_eq!((seen.started, seen.failed), (19, 1));
            }
            rss()
        };
        let first = round(times(5_000));
        let last = round(times(15_000));
        assert!(
            last <= first + 512,
            "resident: {first} KiB, then {last} KiB"
        );
        assert_eq!(fds(), before);
        assert_eq!(children(), []);
        thread::sleep(Duration::from_millis(1));
    });
}
