//! Executor kernel: that it is taken where it is there, and what becomes of its memory when rings and spawners do not.

use std::{
    fs,
    io::{self, Read},
    os::fd::AsRawFd,
};

use io_uring::IoUring;
use uring_process::{
    Command, Error,
    ring::{Event, Spawner},
};

use crate::{
    common::{alone, by_operation, children, fds, rss, times, unless_interrupted, until},
    ring::{follow, plan, run},
};

/// Says SKIP where there is none.
fn there() -> bool {
    let there = by_operation();
    if !there {
        println!("SKIP: processes are not made by the kernel's operation here");
    }
    there
}

/// Rings that this process has open.
fn rings() -> usize {
    let is_ring = |to: &&String| to.contains("[io_uring]");
    fds().values().filter(is_ring).count()
}

#[test]
fn asked_for_and_not_there_is_said_in_words() {
    if by_operation() || !crate::common::plain() {
        println!("SKIP: it is there, or another executor is forced");
        return;
    }
    let me = std::env::current_exe().unwrap();
    let output = std::process::Command::new(me)
        .args(["--exact", "operation::one_that_is_forced", "--nocapture"])
        .env("URING_PROCESS_FORCE", "kernel")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("this kernel has none"), "{text}");
}

/// In the process that the test above makes.
#[test]
fn one_that_is_forced() {
    match Command::new("true").status() {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert!(Error::of(&error).is_some());
            println!("{error}");
        }
    }
}

#[test]
fn every_door_takes_it() {
    if !there() {
        return;
    }
    alone(|| {
        // A waiting caller's thread keeps a ring.
        assert_eq!(rings(), 0);
        assert!(Command::new("true").status().unwrap().success());
        assert_eq!(rings(), 1);
        // Without an attribute for it, it is the next executor's.
        let mut ring = IoUring::new(8).unwrap();
        let mut spawner = Spawner::new(&ring, 1).unwrap();
        let plain = spawner.submit(&plan(&["true"])).unwrap();
        assert_eq!(spawner.pid(plain), None, "nothing is submitted yet");
        let umask = Command::new("true").umask(0).plan().unwrap();
        let umask = spawner.submit(&umask).unwrap();
        assert!(spawner.pid(umask).is_some());
        assert_eq!(follow(&mut ring, &mut spawner).ended.len(), 2);
        drop((ring, spawner));
        // Of a thread that ends nothing is left.
        let threads = || assert!(Command::new("true").status().unwrap().success());
        std::thread::spawn(threads).join().unwrap();
        until("the thread's ring is gone", || rings() == 1);
    });
}

#[test]
fn a_failure_says_its_step() {
    // Alone, for other tests' children are zombies for a moment, too.
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("no-program");
        fs::write(&file, "x").unwrap();
        let error = Command::new(&file).status().unwrap_err();
        assert_eq!(
            Error::of(&error).unwrap().stage(),
            Some(uring_process::Stage::Exec)
        );
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(children().iter().filter(|(_, s)| *s == 'Z').count(), 0);
    });
}

/// A start whose entry never gets to the kernel: its descriptors are closed, and the program does not run when a later
/// submission takes the entry along.
#[test]
fn pushed_and_left() {
    if !there() {
        return;
    }
    alone(|| {
        let mut ring = IoUring::new(16).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let before = fds().len();
        let mut spawner = Spawner::new(&ring, 1).unwrap();
        let echo = {
            let mut command = Command::new("echo");
            command.arg("ran").stdout(writer).plan().unwrap()
        };
        for _ in 0..8 {
            spawner.submit(&echo).unwrap();
        }
        spawner.push(&mut ring.submission());
        drop((spawner, echo));
        // The end of the file: nobody holds the other end, neither we nor a process.
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "");
        assert_eq!(fds().len(), before - 1);
        unless_interrupted(ring.submit_and_wait(8));
        for completion in ring.completion() {
            assert_eq!(completion.result(), -libc::EINVAL);
        }
        assert_eq!(children(), []);
        let mut spawner = Spawner::new(&ring, 1).unwrap();
        let seen = run(&mut ring, &mut spawner, &[&plan(&["echo", "x"])]);
        assert_eq!(seen.text, ["x\n"]);
    });
}

/// Rings that end at any moment: nothing of them stays but the words of entries that were never submitted.
#[test]
fn rings_that_are_dropped_leave_nothing() {
    if !there() {
        return;
    }
    alone(|| {
        let (exec, lost) = (plan(&["true"]), plan(&["/lost"]));
        // What runs is waited for by later starts, which also let go of what earlier ones held.
        let sweep = || {
            let mut ring = IoUring::new(8).unwrap();
            let mut spawner = Spawner::new(&ring, 1).unwrap();
            run(&mut ring, &mut spawner, &[&exec]);
        };
        sweep();
        let before = fds().len();
        let round = |count: usize| {
            for number in 0..count {
                let mut ring = IoUring::new(16).unwrap();
                let mut spawner = Spawner::new(&ring, 1).unwrap();
                for at in 0..4 {
                    spawner.submit([&exec, &lost][at % 2]).unwrap();
                }
                spawner.push(&mut ring.submission());
                unless_interrupted(ring.submit());
                for completion in ring.completion().take(number % 3) {
                    spawner.complete(completion.user_data(), completion.result());
                }
                if number % 2 == 0 {
                    drop(ring);
                    drop(spawner);
                } else {
                    drop(spawner);
                    drop(ring);
                }
            }
            until("nothing is left", || {
                sweep();
                children().is_empty() && fds().len() == before
            });
        };
        round(times(100));
        let memory = rss();
        round(times(200));
        let grown = rss().saturating_sub(memory);
        assert!(grown <= 1024, "{grown} KiB more");
    });
}

#[test]
fn killed_before_it_is_made() {
    if !there() {
        return;
    }
    let mut ring = IoUring::new(16).unwrap();
    let mut spawner = Spawner::new(&ring, 1).unwrap();
    let sleep = plan(&["sleep", "100"]);
    let tokens: Vec<_> = (0..4).map(|_| spawner.submit(&sleep).unwrap()).collect();
    for token in &tokens {
        spawner.kill(*token, 0).unwrap();
        spawner.kill(*token, libc::SIGKILL).unwrap();
        spawner.kill(*token, libc::SIGTERM).unwrap();
    }
    let seen = follow(&mut ring, &mut spawner);
    assert_eq!((seen.started, seen.ended.len()), (4, 4));
    use std::os::unix::process::ExitStatusExt;
    let by_kill = |status: &std::process::ExitStatus| status.signal() == Some(libc::SIGKILL);
    assert!(seen.ended.iter().all(by_kill));
}

/// A ring that may not do it: the next executor takes over, and is begun with from then on.
#[test]
fn a_ring_that_may_not() {
    if !there() {
        return;
    }
    alone(|| {
        let ring: IoUring = IoUring::builder().setup_r_disabled().build(16).unwrap();
        use io_uring::{opcode, register::Restriction};
        let mut allowed = [opcode::PollAdd::CODE, opcode::FutexWait::CODE].map(Restriction::sqe_op);
        ring.submitter()
            .register_restrictions(&mut allowed)
            .unwrap();
        ring.submitter().register_enable_rings().unwrap();
        let mut ring = ring;
        let mut spawner = Spawner::new(&ring, 1).unwrap();
        let (echo, lost) = (plan(&["echo", "x"]), plan(&["/lost"]));
        let first = spawner.submit(&echo).unwrap();
        assert_eq!(spawner.pid(first), None);
        let seen = follow(&mut ring, &mut spawner);
        assert_eq!((seen.started, seen.text.len()), (1, 1));
        let second = spawner.submit(&echo).unwrap();
        assert!(spawner.pid(second).is_some());
        spawner.submit(&lost).unwrap();
        let seen = follow(&mut ring, &mut spawner);
        assert_eq!((seen.started, seen.failed), (1, 1));
        assert!(ring.as_raw_fd() >= 0);
    });
}

/// A refusal that the ring never gave: the next executor starts the program, and the entry is no second one.
#[test]
fn a_refusal_that_is_forged() {
    if !there() {
        return;
    }
    let mut ring = IoUring::new(16).unwrap();
    let mut spawner = Spawner::new(&ring, 1).unwrap();
    let token = spawner.submit(&plan(&["echo", "x"])).unwrap();
    spawner.push(&mut ring.submission());
    // The start of the first process of the first place.
    let start = 1 << 48 | 1 << 22;
    assert!(spawner.complete(start, -libc::EIO));
    assert_eq!(spawner.pid(token), None);
    assert!(spawner.complete(start, -libc::EACCES));
    assert!(spawner.pid(token).is_some());
    let (mut invalid, mut seen) = (0, crate::ring::Seen::default());
    while spawner.in_flight() > 0 || invalid == 0 {
        spawner.push(&mut ring.submission());
        unless_interrupted(ring.submit_and_wait(1));
        for completion in ring.completion() {
            invalid += usize::from(completion.result() == -libc::EINVAL);
            spawner.complete(completion.user_data(), completion.result());
        }
        while let Some(event) = spawner.next_event() {
            seen.take(event);
        }
    }
    assert_eq!((invalid, seen.started, seen.ended.len()), (1, 1, 1));
    assert_eq!(seen.text, ["x\n"]);
}

/// A cancellation of all that a ring has ends what is not a program yet, and says so.
#[test]
fn cancelled_with_the_rest_of_the_ring() {
    if !there() {
        return;
    }
    let mut ring = IoUring::new(64).unwrap();
    let mut spawner = Spawner::new(&ring, 1).unwrap();
    let sleep = plan(&["sleep", "0.01"]);
    let (mut started, mut failed) = (0, 0);
    for _ in 0..times(20) {
        let tokens: Vec<_> = (0..8).map(|_| spawner.submit(&sleep).unwrap()).collect();
        spawner.push(&mut ring.submission());
        let all = io_uring::types::CancelBuilder::any();
        unless_interrupted(ring.submit());
        let _ = ring.submitter().register_sync_cancel(None, all);
        let mut told = 0;
        while told < tokens.len() || spawner.in_flight() > 0 {
            while let Some(event) = spawner.next_event() {
                match event {
                    Event::Started(_) => (started, told) = (started + 1, told + 1),
                    Event::Failed { error, .. } => {
                        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED), "{error}");
                        (failed, told) = (failed + 1, told + 1);
                    }
                    Event::Ended { .. } => {}
                }
            }
            if spawner.in_flight() == 0 {
                break;
            }
            spawner.push(&mut ring.submission());
            unless_interrupted(ring.submit_and_wait(1));
            for completion in ring.completion() {
                spawner.complete(completion.user_data(), completion.result());
            }
        }
    }
    assert_eq!(started + failed, 8 * times(20));
}
