//! The door for a ring of one's own: every order of completions, every kind of ring.

mod common;

use std::{collections::HashMap, time::Duration};

use common::{again_with_all, in_child, sh};
use io_uring::{
    IoUring, cqueue,
    opcode::{Nop, Timeout},
    squeue,
    types::Timespec,
};
use uring_process::{
    Command, ExecPlan, Stdio,
    ring::{Event, Spawner, Token},
};

again_with_all!();

const TAG: u64 = 0xABCD;

fn plan(script: &str) -> ExecPlan {
    sh(script).stdin(Stdio::null()).plan().unwrap()
}

/// A ring and its spawner; drives both.
struct Loop<S: squeue::EntryMarker, C: cqueue::EntryMarker> {
    ring: IoUring<S, C>,
    spawner: Spawner,
    /// Completions that were not the spawner's: user_data and result.
    others: Vec<(u64, i32)>,
}

impl<S: squeue::EntryMarker + From<squeue::Entry>, C: cqueue::EntryMarker + Into<cqueue::Entry>>
    Loop<S, C>
{
    fn new(ring: IoUring<S, C>) -> Self {
        let spawner = Spawner::new(&ring, TAG).unwrap();
        Self {
            ring,
            spawner,
            others: Vec::new(),
        }
    }

    /// Submits, waits for something, hands it over.
    fn turn(&mut self) {
        self.spawner.push(&mut self.ring.submission());
        match self.ring.submit_and_wait(1) {
            // A SIGCHLD that came while another thread, making a child, had it blocked.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => drop(other.unwrap()),
        }
        for completion in self.ring.completion() {
            let completion: cqueue::Entry = completion.into();
            let (user_data, result) = (completion.user_data(), completion.result());
            if !self.spawner.complete(user_data, result) {
                self.others.push((user_data, result));
            }
        }
    }

    /// Until nothing is in flight. Returns what became of each: a code, a signal as negative
    /// number, or `None` for a start that failed. `Started` must come before `Ended`.
    fn finish(&mut self) -> HashMap<Token, Option<i32>> {
        use std::os::unix::process::ExitStatusExt;
        let mut outcomes = HashMap::new();
        let mut started = Vec::new();
        loop {
            while let Some(event) = self.spawner.next_event() {
                match event {
                    Event::Started(now) => {
                        assert!(!started.contains(&now.token), "once");
                        started.push(now.token);
                    }
                    Event::Failed { token, .. } => {
                        assert!(!started.contains(&token));
                        assert!(outcomes.insert(token, None).is_none(), "once");
                    }
                    Event::Ended { token, status, .. } => {
                        assert!(started.contains(&token), "started before it ended");
                        let status = status.unwrap();
                        let code = status.code().or(status.signal().map(|signal| -signal));
                        assert!(outcomes.insert(token, code).is_none(), "once");
                    }
                }
            }
            if self.spawner.in_flight() == 0 {
                return outcomes;
            }
            self.turn();
        }
    }
}

fn small() -> Loop<squeue::Entry, cqueue::Entry> {
    Loop::new(IoUring::new(64).unwrap())
}

fn mixed<S, C>(mut all: Loop<S, C>)
where
    S: squeue::EntryMarker + From<squeue::Entry>,
    C: cqueue::EntryMarker + Into<cqueue::Entry>,
{
    let mut expected = HashMap::new();
    for round in 0..10 {
        let nop: S = Nop::new().build().user_data(round).into();
        // SAFETY: a no-op points at nothing.
        unsafe { all.ring.submission().push(&nop) }.unwrap();
        for (script, outcome) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)] {
            expected.insert(all.spawner.submit(&plan(script)).unwrap(), Some(outcome));
        }
        let missing = Command::new("/nonexistent").plan().unwrap();
        expected.insert(all.spawner.submit(&missing).unwrap(), None);
    }
    assert_eq!(all.finish(), expected);
    while all.others.len() < 10 {
        all.turn();
    }
    all.others.sort_unstable();
    assert!(
        all.others
            .iter()
            .zip(0..)
            .all(|(other, round)| *other == (round, 0))
    );
}

#[test]
fn programs_and_other_entries_share_a_ring() {
    mixed(small());
    common::no_zombie_stays();
}

#[test]
fn every_kind_of_ring_will_do() {
    mixed(Loop::new(
        IoUring::<squeue::Entry, cqueue::Entry>::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(64)
            .unwrap(),
    ));
    mixed(Loop::new(
        IoUring::<squeue::Entry128, cqueue::Entry32>::builder()
            .build(64)
            .unwrap(),
    ));
    match IoUring::<squeue::Entry, cqueue::Entry>::builder()
        .setup_sqpoll(50)
        .build(64)
    {
        Ok(ring) => mixed(Loop::new(ring)),
        Err(error) => println!("SKIP: no SQPOLL ring: {error}"),
    }
}

#[test]
fn a_small_queue_makes_entries_wait() {
    let mut all = Loop::new(IoUring::new(2).unwrap());
    let plans = vec![plan("exit 1"); 20];
    let (tokens, error) = all.spawner.submit_all(&plans);
    assert!(tokens.len() == 20 && error.is_none());
    assert!(
        all.spawner.push(&mut all.ring.submission()) > 0,
        "more than fit"
    );
    assert!(all.finish().values().all(|outcome| *outcome == Some(1)));
}

#[test]
fn a_batch_ends_at_the_first_that_cannot_be_made() {
    let Some(cgroup) = common::Cgroup::new("batch") else {
        return;
    };
    if let Err(error) = std::fs::write(cgroup.path().join("pids.max"), "3") {
        println!("SKIP: no pids controller in cgroup v2: {error}");
        return;
    }
    let mut all = small();
    let sleep = Command::new("sleep")
        .arg("600")
        .cgroup(cgroup.open())
        .plan()
        .unwrap();
    let (tokens, error) = all.spawner.submit_all(&vec![sleep; 5]);
    assert_eq!(tokens.len(), 3);
    assert_eq!(error.unwrap().kind(), std::io::ErrorKind::WouldBlock);
    for token in tokens {
        all.spawner.kill(token, libc::SIGKILL).unwrap();
    }
    assert!(all.finish().values().all(|outcome| *outcome == Some(-9)));
}

#[test]
fn output_comes_by_the_pipes_of_the_start() {
    let mut all = small();
    let command = Command::new("cat")
        .arg("/proc/version")
        .stdout(Stdio::piped())
        .plan()
        .unwrap();
    let token = all.spawner.submit(&command).unwrap();
    let mut stdout = loop {
        all.turn();
        if let Some(Event::Started(started)) = all.spawner.next_event() {
            assert_eq!(
                (started.token, all.spawner.pid(token)),
                (token, Some(started.pid))
            );
            break started.stdout.unwrap();
        }
    };
    // To the end: nobody else holds the pipe.
    let text = std::io::read_to_string(&mut stdout).unwrap();
    assert_eq!(text, std::fs::read_to_string("/proc/version").unwrap());
    while all.spawner.in_flight() > 0 {
        all.turn();
    }
    assert!(matches!(
        all.spawner.next_event(),
        Some(Event::Ended { .. })
    ));
    assert_eq!(all.spawner.pid(token), None);
    let late = all.spawner.kill(token, libc::SIGKILL).unwrap_err();
    assert_eq!(late.raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn a_timeout_of_the_ring_kills() {
    let mut all = small();
    let token = all
        .spawner
        .submit(&Command::new("sleep").arg("600").plan().unwrap())
        .unwrap();
    let time = Timespec::from(Duration::from_millis(50));
    let entry = Timeout::new(&raw const time).build().user_data(1);
    // SAFETY: `time` lives to the end of the test.
    unsafe { all.ring.submission().push(&entry) }.unwrap();
    while all.others.is_empty() {
        all.turn();
    }
    assert_eq!(all.others, [(1, -libc::ETIME)]);
    all.spawner.kill(token, libc::SIGKILL).unwrap();
    let outcomes = all.finish();
    assert_eq!(outcomes.values().collect::<Vec<_>>(), [&Some(-9)]);
}

#[test]
fn completions_may_come_twice_late_or_forged() {
    let mut all = small();
    let mut seen = Vec::new();
    for round in 0..20 {
        let token = all.spawner.submit(&plan(&format!("exit {round}"))).unwrap();
        let mut ended = None;
        while ended.is_none() {
            // What never was, before anything has happened.
            for bits in 0..64u64 {
                all.spawner
                    .complete(TAG << 48 | bits << 22 | (bits & 3), -1);
                all.spawner
                    .complete(TAG << 48 | 1 << 47 | bits << 22 | (bits & 3), 0);
            }
            all.spawner.push(&mut all.ring.submission());
            all.ring.submit_and_wait(1).unwrap();
            let now: Vec<_> = all
                .ring
                .completion()
                .map(|c| (c.user_data(), c.result()))
                .collect();
            for (user_data, result) in &now {
                all.spawner.complete(*user_data, *result);
                all.spawner.complete(*user_data, -libc::ECANCELED);
            }
            seen.extend(now);
            for (user_data, result) in &seen {
                all.spawner.complete(*user_data, *result);
            }
            while let Some(event) = all.spawner.next_event() {
                if let Event::Ended {
                    token: which,
                    status,
                    ..
                } = event
                {
                    assert_eq!((which, status.unwrap().code()), (token, Some(round)));
                    ended = Some(());
                }
            }
        }
    }
    all.finish();
    common::no_zombie_stays();
}

#[test]
fn a_ring_may_go_before_its_children() {
    in_child("a_ring_may_go_before_its_children", || {
        let fds = common::open_fds();
        for round in 0..20 {
            let mut all = small();
            for _ in 0..10 {
                all.spawner.submit(&plan("sleep 0.02")).unwrap();
            }
            match round % 5 {
                0 => drop(all),
                1 => {
                    all.turn();
                    drop(all);
                }
                2 => {
                    let Loop {
                        ring, mut spawner, ..
                    } = all;
                    drop(ring);
                    // Never to be completed.
                    spawner.submit(&plan("exit 1")).unwrap();
                    drop(spawner);
                }
                3 => {
                    all.spawner.push(&mut all.ring.submission());
                    let Loop {
                        mut ring, spawner, ..
                    } = all;
                    drop(spawner);
                    ring.submit_and_wait(1).unwrap();
                }
                _ => {
                    let thread = std::thread::spawn(move || assert_eq!(all.finish().len(), 10));
                    thread.join().unwrap();
                }
            }
        }
        // A later start waits for them.
        common::eventually("all are waited for", || {
            let mut all = small();
            all.spawner.submit(&plan("exit 0")).unwrap();
            all.finish();
            drop(all);
            common::zombies().is_empty()
        });
        common::eventually("and closed", || common::open_fds() == fds);
    });
}

#[test]
fn a_forgotten_spawner_harms_nobody() {
    in_child("a_forgotten_spawner_harms_nobody", || {
        for _ in 0..20 {
            let mut all = small();
            for _ in 0..4 {
                all.spawner.submit(&plan("exit 0")).unwrap();
            }
            all.spawner.push(&mut all.ring.submission());
            all.ring.submit().unwrap();
            std::mem::forget(all.spawner);
            mixed(small());
        }
    });
}

#[test]
fn a_plan_runs_on_many_threads_at_once() {
    let plan = plan("exit 9");
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let plan = plan.clone();
            std::thread::spawn(move || {
                let mut all = small();
                for _ in 0..5 {
                    all.spawner.submit_all(&vec![plan.clone(); 10]);
                    let outcomes = all.finish();
                    assert_eq!(outcomes.len(), 10);
                    assert!(outcomes.values().all(|outcome| *outcome == Some(9)));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn no_thread_is_started_and_nothing_is_left() {
    in_child("no_thread_is_started_and_nothing_is_left", || {
        let memory = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let mut all = small();
        let plan = Command::new("/bin/true")
            .stdin(Stdio::null())
            .plan()
            .unwrap();
        let mut rounds = |count: usize| {
            for _ in 0..count {
                all.spawner.submit_all(&vec![plan.clone(); 32]);
                assert_eq!(all.finish().len(), 32);
            }
        };
        let threads = common::threads();
        rounds(40);
        let (fds, before) = (common::open_fds(), memory());
        rounds(160);
        assert_eq!(common::threads(), threads);
        assert_eq!(common::open_fds(), fds);
        assert!(common::zombies().is_empty());
        let grown = memory().saturating_sub(before);
        assert!(grown < 512, "{grown} kB more after 5,000 more processes");
    });
}
