//! The door for a ring of one's own.

use std::{
    collections::HashMap,
    io::{self, Read},
    os::{fd::AsRawFd, unix::process::ExitStatusExt},
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use uring_process::{
    Command, ExecPlan,
    ring::{Event, Spawner, Token},
};

use crate::common::{alone, by_operation, unless_interrupted};

/// The order in which events came, checked against what is promised.
#[derive(Default)]
pub(crate) struct Seen {
    running: HashMap<Token, i32>,
    pub(crate) started: usize,
    pub(crate) failed: usize,
    pub(crate) ended: Vec<std::process::ExitStatus>,
    pub(crate) text: Vec<String>,
}

impl Seen {
    pub(crate) fn take(&mut self, event: Event) {
        match event {
            Event::Started(started) => {
                self.started += 1;
                assert!(self.running.insert(started.token, started.pid).is_none());
                if let Some(mut out) = started.stdout {
                    let mut text = String::new();
                    out.read_to_string(&mut text).unwrap();
                    self.text.push(text);
                }
            }
            Event::Failed { token, .. } => {
                self.failed += 1;
                assert!(!self.running.contains_key(&token), "failed, but started");
            }
            Event::Ended { token, pid, status } => {
                assert_eq!(
                    self.running.remove(&token),
                    Some(pid),
                    "ended before it started"
                );
                self.ended.push(status.unwrap());
            }
        }
    }
}

/// Follows all until nothing is in flight.
pub(crate) fn follow<S, C>(ring: &mut IoUring<S, C>, spawner: &mut Spawner) -> Seen
where
    S: squeue::EntryMarker + From<squeue::Entry>,
    C: cqueue::EntryMarker + Into<cqueue::Entry> + Clone,
{
    let mut seen = Seen::default();
    let timeout = types::Timespec::new().sec(20);
    let wait = types::SubmitArgs::new().timespec(&timeout);
    loop {
        while let Some(event) = spawner.next_event() {
            seen.take(event);
        }
        if spawner.in_flight() == 0 {
            assert!(seen.running.is_empty());
            return seen;
        }
        spawner.push(&mut ring.submission());
        match ring.submitter().submit_with_args(1, &wait) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => panic!("{error}; {spawner:?}"),
        }
        let done: Vec<cqueue::Entry> = ring.completion().map(Into::into).collect();
        for completion in done {
            assert!(spawner.complete(completion.user_data(), completion.result()));
        }
    }
}

pub(crate) fn finish(ring: &mut IoUring, spawner: &mut Spawner) {
    follow(ring, spawner);
}

pub(crate) fn run(ring: &mut IoUring, spawner: &mut Spawner, plans: &[&ExecPlan]) -> Seen {
    let (tokens, error) = spawner.submit_all(plans.iter().copied());
    assert!(error.is_none() && tokens.len() == plans.len(), "{error:?}");
    follow(ring, spawner)
}

pub(crate) fn plan(words: &[&str]) -> ExecPlan {
    Command::new(words[0])
        .args(&words[1..])
        .capture_plan()
        .unwrap()
}

type Plain = IoUring<squeue::Entry, cqueue::Entry>;

fn many<S, C>(mut ring: IoUring<S, C>)
where
    S: squeue::EntryMarker + From<squeue::Entry>,
    C: cqueue::EntryMarker + Into<cqueue::Entry> + Clone,
{
    let mut spawner = Spawner::new(&ring, 0xBEEF).unwrap();
    let (echo, exit, lost) = (
        plan(&["echo", "x"]),
        plan(&["sh", "-c", "exit 5"]),
        plan(&["/lost"]),
    );
    for _ in 0..30 {
        for plan in [&echo, &lost, &exit] {
            spawner.submit(plan).unwrap();
        }
    }
    let seen = follow(&mut ring, &mut spawner);
    assert_eq!((seen.started, seen.failed, seen.ended.len()), (60, 30, 60));
    assert_eq!(
        seen.ended
            .iter()
            .filter(|status| status.code() == Some(5))
            .count(),
        30
    );
    assert_eq!(seen.text.iter().filter(|text| *text == "x\n").count(), 30);
}

#[test]
fn many_with_failing_ones_among_them() {
    alone(|| {
        let before = crate::common::fds();
        let tasks = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let threads = tasks();
        many(IoUring::new(64).unwrap());
        // The kernel's own workers show as threads for a while; ours would be named as we are.
        let own: Vec<String> = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| !name.starts_with("iou-"))
            .collect();
        assert_eq!(own.len(), threads, "{own:?}");
        assert_eq!(crate::common::fds(), before);
        assert_eq!(crate::common::children(), []);
    });
}

#[test]
fn rings_of_all_kinds() {
    many(IoUring::new(64).unwrap());
    many(
        Plain::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(64)
            .unwrap(),
    );
    many(
        Plain::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .build(64)
            .unwrap(),
    );
    many(
        IoUring::<squeue::Entry128, cqueue::Entry32>::builder()
            .build(64)
            .unwrap(),
    );
    many(Plain::builder().setup_sqpoll(10).build(64).unwrap());
}

#[test]
fn a_submission_queue_of_two() {
    let mut ring = Plain::builder().setup_cqsize(4).build(2).unwrap();
    let mut spawner = Spawner::new(&ring, 3).unwrap();
    let echo = plan(&["echo", "x"]);
    for _ in 0..10 {
        spawner.submit(&echo).unwrap();
    }
    // The end is waited for from the beginning, or from when the kernel has made the process.
    let waiting = if by_operation() { 8 } else { 18 };
    assert_eq!(spawner.push(&mut ring.submission()), waiting);
    assert_eq!(spawner.push(&mut ring.submission()), waiting);
    let seen = follow(&mut ring, &mut spawner);
    assert_eq!((seen.started, seen.ended.len()), (10, 10));
    many(IoUring::new(2).unwrap());
}

/// The entry that waits for the launcher's outcome is made while the outcome is known already, and
/// other children get the numbers of what is closed then.
#[test]
fn children_with_other_ids_among_others() {
    if !crate::common::root() {
        return;
    }
    let mut ring = IoUring::new(64).unwrap();
    let mut spawner = Spawner::new(&ring, 3).unwrap();
    let ids = Command::new("echo")
        .arg("x")
        .uid(65534)
        .capture_plan()
        .unwrap();
    let lost = Command::new("/lost").uid(65534).capture_plan().unwrap();
    let echo = plan(&["echo", "x"]);
    let mut seen = Seen::default();
    let (mut submitted, count) = (0, crate::common::times(150));
    while submitted < count || spawner.in_flight() > 0 {
        if submitted < count {
            for plan in [&ids, &echo, &lost] {
                spawner.submit(plan).unwrap();
            }
            submitted += 1;
        }
        spawner.push(&mut ring.submission());
        unless_interrupted(ring.submit_and_wait(1));
        std::thread::sleep(std::time::Duration::from_millis(2));
        for completion in ring.completion() {
            spawner.complete(completion.user_data(), completion.result());
        }
        while let Some(event) = spawner.next_event() {
            seen.take(event);
        }
    }
    assert_eq!(
        (seen.started, seen.failed, seen.text.len()),
        (2 * count, count, 2 * count)
    );
    assert!(seen.text.iter().all(|text| text == "x\n"));
}

#[test]
fn among_entries_of_ones_own() {
    let mut ring = IoUring::new(32).unwrap();
    let mut spawner = Spawner::new(&ring, 7).unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    let mut command = Command::new("echo");
    let token = spawner
        .submit(&command.arg("hello").stdout(writer).plan().unwrap())
        .unwrap();
    drop(command);
    let mut buffer = [0u8; 16];
    let read = opcode::Read::new(types::Fd(reader.as_raw_fd()), buffer.as_mut_ptr(), 16);
    // SAFETY: the buffer and the pipe live until the completions have come, below.
    unsafe {
        let mut queue = ring.submission();
        queue
            .push(&opcode::Nop::new().build().user_data(41))
            .unwrap();
        queue.push(&read.build().user_data(42)).unwrap();
    }
    let (mut own, mut ended) = (Vec::new(), false);
    while !ended || own.len() < 2 {
        spawner.push(&mut ring.submission());
        unless_interrupted(ring.submit_and_wait(1));
        for completion in ring.completion() {
            if !spawner.complete(completion.user_data(), completion.result()) {
                own.push((completion.user_data(), completion.result()));
            }
        }
        while let Some(event) = spawner.next_event() {
            if let Event::Ended { token: over, .. } = event {
                assert_eq!(over, token);
                ended = true;
            }
        }
    }
    own.sort_unstable();
    assert_eq!(own, [(41, 0), (42, 6)]);
    assert_eq!(&buffer[..6], b"hello\n");
    drop(reader.read(&mut buffer));
}

#[test]
fn kill_by_token_by_timeout_and_by_a_stale_token() {
    let mut ring = IoUring::new(8).unwrap();
    let mut spawner = Spawner::new(&ring, 7).unwrap();
    let sleep = plan(&["sleep", "60"]);
    let token = spawner.submit(&sleep).unwrap();
    let known = !by_operation();
    assert_eq!(spawner.pid(token).is_some(), known);
    assert_eq!(spawner.pidfd(token).is_some(), known);
    assert!(spawner.kill(token, 999).is_err());
    spawner.kill(token, libc::SIGTERM).unwrap();
    let seen = follow(&mut ring, &mut spawner);
    assert_eq!(seen.ended[0].signal(), Some(libc::SIGTERM));
    let stale = |spawner: &Spawner| {
        let error = spawner.kill(token, libc::SIGKILL).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
        assert_eq!(
            (spawner.pid(token), spawner.pidfd(token).is_none()),
            (None, true)
        );
    };
    stale(&spawner);
    let other = spawner.submit(&sleep).unwrap();
    assert_ne!(other, token);
    stale(&spawner);
    // A timeout entry of one's own ends it.
    let time = types::Timespec::new().nsec(20_000_000);
    let entry = opcode::Timeout::new(&raw const time).build().user_data(1);
    // SAFETY: the time lives until the completion has come, below.
    unsafe { ring.submission().push(&entry).unwrap() };
    let mut ended = None;
    while ended.is_none() {
        spawner.push(&mut ring.submission());
        unless_interrupted(ring.submit_and_wait(1));
        for completion in ring.completion() {
            if completion.user_data() == 1 {
                spawner.kill(other, libc::SIGKILL).unwrap();
            } else {
                spawner.complete(completion.user_data(), completion.result());
            }
        }
        while let Some(event) = spawner.next_event() {
            if let Event::Ended { status, .. } = event {
                ended = Some(status);
            }
        }
    }
    assert_eq!(ended.unwrap().unwrap().signal(), Some(libc::SIGKILL));
    finish(&mut ring, &mut spawner);
}

#[test]
fn completions_twice_and_late() {
    let mut ring = IoUring::new(64).unwrap();
    let mut spawner = Spawner::new(&ring, 9).unwrap();
    let (echo, lost) = (plan(&["echo", "x"]), plan(&["/lost"]));
    let mut late: Vec<(u64, i32)> = Vec::new();
    for _ in 0..20 {
        spawner.submit(&echo).unwrap();
        spawner.submit(&lost).unwrap();
        let mut seen = Seen::default();
        while spawner.in_flight() > 0 {
            spawner.push(&mut ring.submission());
            unless_interrupted(ring.submit_and_wait(1));
            for completion in ring.completion() {
                let pair = (completion.user_data(), completion.result());
                spawner.complete(pair.0, pair.1);
                spawner.complete(pair.0, pair.1);
                late.push(pair);
            }
            for (user_data, result) in &late {
                assert!(spawner.complete(*user_data, *result));
            }
            while let Some(event) = spawner.next_event() {
                seen.take(event);
            }
        }
        assert_eq!((seen.started, seen.failed, seen.ended.len()), (1, 1, 1));
    }
}

/// Every child gets copies of all descriptors below 64, so a crowd's pidfds do not stay there.
#[test]
fn a_crowd_leaves_low_numbers_free() {
    alone(|| {
        let mut ring = IoUring::new(256).unwrap();
        let mut spawner = Spawner::new(&ring, 1).unwrap();
        let plan = Command::new("sleep").arg("100").plan().unwrap();
        let tokens: Vec<_> = (0..40).map(|_| spawner.submit(&plan).unwrap()).collect();
        let mut started = 0;
        while started < tokens.len() {
            spawner.push(&mut ring.submission());
            unless_interrupted(ring.submit_and_wait(1));
            for completion in ring.completion() {
                spawner.complete(completion.user_data(), completion.result());
            }
            while let Some(event) = spawner.next_event() {
                started += usize::from(matches!(event, Event::Started(_)));
            }
        }
        let low = |token: &&Token| spawner.pidfd(**token).unwrap().as_raw_fd() < 64;
        let low = tokens.iter().filter(low).count();
        // Those that are made while there are few. The kernel makes all at once.
        assert_eq!(low, if by_operation() { 0 } else { 8 });
        for token in &tokens {
            spawner.kill(*token, libc::SIGKILL).unwrap();
        }
        while spawner.in_flight() > 0 {
            spawner.push(&mut ring.submission());
            unless_interrupted(ring.submit_and_wait(1));
            for completion in ring.completion() {
                spawner.complete(completion.user_data(), completion.result());
            }
        }
    });
}
