//! Kinds of rings, and ways by which an entry gets to be issued.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use io_uring::{
    IoUring,
    opcode::{Nop, PollAdd},
    squeue::Flags,
    types::Fixed,
};
use uring_sys_ext::process::Stage;

use crate::guest::{
    Request, assert_no_child, field, guest, one, push, results, ring, status, wait,
};

fn works_on(ring: &mut IoUring) {
    let ours = std::process::id().to_string();
    let text = status().with(|a| a.setsid()).output_on(ring);
    assert_eq!(field(&text, "PPid"), [ours]);
    let mut request = Request::new("/no/such", &["x"]);
    assert_eq!(request.run_on(ring), -libc::ENOENT);
    assert_eq!(request.attributes.failed_stage(), Some(Stage::Exec));
    // A batch.
    let mut requests: Vec<_> = (0..32).map(|_| Request::of_true()).collect();
    for request in &mut requests {
        push(ring, &request.entry().user_data(1));
    }
    for (_, pid) in results(ring, 32) {
        assert_eq!(wait(pid), 0);
    }
    assert_no_child();
}

#[test]
fn single_issuer_and_deferred_task_work() {
    guest!();
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(64)
        .unwrap();
    works_on(&mut ring);
}

/// A waiter for both is woken once; for the first alone, when that has come.
#[test]
fn one_enter_waits_for_start_and_end() {
    guest!();
    let mut ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(8)
        .unwrap();
    ring.submitter().register_files_sparse(1).unwrap();
    let poll = PollAdd::new(Fixed(0), libc::POLLIN as u32).build();
    for (path, starts) in [("/bin/true", true), ("/no/such", false)] {
        let mut request = Request::new(path, &["x"]).with(|a| a.pidfd_slot(0));
        push(&mut ring, &request.entry().user_data(1));
        push(&mut ring, &poll.clone().user_data(2));
        ring.submit_and_wait(2).unwrap();
        let mut all: Vec<_> = ring
            .completion()
            .map(|c| (c.user_data(), c.result()))
            .collect();
        all.sort_unstable();
        assert_eq!(all.len(), 2, "{all:?}");
        let (first, end) = (all[0].1, all[1].1);
        assert!(end & i32::from(libc::POLLIN) != 0, "{all:?}");
        match starts {
            true => assert_eq!(wait(first), 0),
            false => assert_eq!(first, -libc::ENOENT),
        }
    }
    let mut sleeps = Request::new("/bin/sleep", &["sleep", "1"]).with(|a| a.pidfd_slot(0));
    push(&mut ring, &sleeps.entry().user_data(1));
    push(&mut ring, &poll.user_data(2));
    ring.submit_and_wait(1).unwrap();
    let pid = ring.completion().next().unwrap().result();
    assert!(pid > 0 && ring.completion().next().is_none());
    ring.submit_and_wait(1).unwrap();
    assert_eq!(wait(pid), 0);
    assert_no_child();
}

#[test]
fn cooperative_task_work() {
    guest!();
    let mut ring = IoUring::builder()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .build(64)
        .unwrap();
    works_on(&mut ring);
}

#[test]
fn an_ordinary_ring_from_many_threads() {
    guest!();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut ring = ring();
                    for _ in 0..20 {
                        let pid = Request::of_true().run_on(&mut ring);
                        assert_eq!(wait(pid), 0);
                        let result = Request::new("/no/such", &["x"]).run_on(&mut ring);
                        assert_eq!(result, -libc::ENOENT);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    assert_no_child();
    works_on(&mut ring());
}

#[test]
fn a_polled_submission_queue_is_refused() {
    guest!();
    let mut ring = IoUring::builder().setup_sqpoll(50).build(8).unwrap();
    let mut request = Request::of_true();
    assert_eq!(request.run_on(&mut ring), -libc::EOPNOTSUPP);
    assert_no_child();
}

#[test]
fn polled_completions_are_refused() {
    guest!();
    let mut ring = IoUring::builder().setup_iopoll().build(8).unwrap();
    let mut request = Request::of_true();
    let entry = request.entry();
    push(&mut ring, &entry);
    ring.submit().unwrap();
    assert_eq!(ring.completion().next().unwrap().result(), -libc::EINVAL);
    assert_no_child();
}

#[test]
fn by_way_of_a_worker_the_parent_is_the_submitter() {
    guest!();
    let mut ring = ring();
    let ours = std::process::id().to_string();
    for _ in 0..20 {
        let (mut reader, writer) = std::io::pipe().unwrap();
        use std::os::fd::AsRawFd;
        let mut request = status().map(writer.as_raw_fd(), 1);
        let entry = request.entry().flags(Flags::ASYNC);
        let pid = one(&mut ring, entry);
        assert!(pid > 0, "{pid}");
        drop(writer);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(field(&text, "PPid"), std::slice::from_ref(&ours));
        assert_eq!(wait(pid), 0);
        let mut request = Request::new("/no/such", &["x"]);
        let entry = request.entry().flags(Flags::ASYNC);
        assert_eq!(one(&mut ring, entry), -libc::ENOENT);
        assert_no_child();
    }
}

#[test]
fn a_drained_entry_waits_for_those_before_it() {
    guest!();
    let mut ring = ring();
    let mut first = Request::of_true();
    let mut second = Request::of_true();
    push(&mut ring, &first.entry().user_data(1));
    push(
        &mut ring,
        &second.entry().user_data(2).flags(Flags::IO_DRAIN),
    );
    let done = results(&mut ring, 2);
    let order: Vec<u64> = done.iter().map(|(user_data, _)| *user_data).collect();
    assert_eq!(order, [1, 2]);
    assert_eq!(wait(done[0].1), 0);
    assert_eq!(wait(done[1].1), 0);
}

#[test]
fn a_success_can_be_silent() {
    guest!();
    let mut ring = ring();
    let mut request = Request::of_true().pidfd();
    push(
        &mut ring,
        &request.entry().user_data(1).flags(Flags::SKIP_SUCCESS),
    );
    ring.submit().unwrap();
    // SAFETY: a null status is allowed. Until the program runs there is no child to wait for.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } < 0 {
        thread::yield_now();
    }
    push(&mut ring, &Nop::new().build().user_data(2));
    assert_eq!(results(&mut ring, 1), [(2, 0)]);
    // SAFETY: the number was given to us.
    unsafe { libc::close(request.pidfd) };
    let mut request = Request::new("/no/such", &["x"]);
    push(
        &mut ring,
        &request.entry().user_data(1).flags(Flags::SKIP_SUCCESS),
    );
    assert_eq!(results(&mut ring, 1), [(1, -libc::ENOENT)]);
}

#[test]
fn signals_that_come_in_between_do_no_harm() {
    guest!();
    extern "C" fn handler(_: i32) {}
    // SAFETY: a handler that does nothing.
    unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
    let stop = AtomicBool::new(false);
    // SAFETY: names this thread.
    let target = unsafe { libc::pthread_self() };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: the thread outlives this one.
                unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
                thread::sleep(std::time::Duration::from_micros(300));
            }
        });
        let mut ring = ring();
        for _ in 0..100 {
            let mut request = Request::of_true();
            push(&mut ring, &request.entry().user_data(1));
            let done = results(&mut ring, 1);
            assert!(done[0].1 > 0, "{done:?}");
            let mut status = 0;
            // SAFETY: writes the status.
            while unsafe { libc::waitpid(done[0].1, &raw mut status, 0) } < 0 {}
            assert_eq!(status, 0);
        }
        stop.store(true, Ordering::Relaxed);
    });
    // SAFETY: restores the default.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_DFL) };
    assert_no_child();
}
