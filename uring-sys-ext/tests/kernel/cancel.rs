//! Requests that are ended before their program runs.

use std::{io, thread, time::Duration};

use io_uring::{
    opcode::{AsyncCancel, Nop},
    squeue::Flags,
    types::CancelBuilder,
};
use uring_sys_ext::process::Stage;

use crate::guest::{
    Request, Trap, apart, assert_children_end, assert_no_child, cancel, cancel_at_any_moment,
    children, guest, one, push, results, ring, wait, within,
};

#[test]
fn a_cancelled_request_leaves_nothing() {
    guest!();
    let trap = Trap::new();
    let mut ring = ring();
    let request = trap.catch(&mut ring, Request::of_true());
    assert_eq!(cancel(&mut ring), (-libc::ECANCELED, 0));
    assert_eq!(request.attributes.failed_stage(), Some(Stage::Exec));
    assert_no_child();
}

#[test]
fn one_that_is_held_up_goes_on() {
    guest!();
    let trap = Trap::new();
    let mut ring = ring();
    let _request = trap.catch(&mut ring, Request::of_true());
    trap.open();
    let done = results(&mut ring, 1);
    assert!(done[0].1 > 0, "{done:?}");
    assert_eq!(wait(done[0].1), 0);
    assert_no_child();
}

#[test]
fn all_and_any_and_by_operation() {
    guest!();
    let trap = Trap::new();
    let mut ring = ring();
    let mut requests: Vec<_> = (0..4)
        .map(|_| Request::of_true().argv_at(trap.address()))
        .collect();
    for request in &mut requests {
        push(&mut ring, &request.entry().user_data(1));
    }
    ring.submit().unwrap();
    trap.wait_for_victim();
    let all = CancelBuilder::user_data(1).all();
    let count = ring.submitter().register_sync_cancel(None, all);
    assert!(count.is_ok(), "{count:?}");
    for (_, result) in results(&mut ring, 4) {
        assert_eq!(result, -libc::ECANCELED);
    }
    assert_no_child();
}

#[test]
fn what_is_not_there_cannot_be_cancelled() {
    guest!();
    let mut ring = ring();
    assert_eq!(one(&mut ring, AsyncCancel::new(77).build()), -libc::ENOENT);
    let mut request = Request::of_true();
    let pid = request.run_on(&mut ring);
    assert_eq!(one(&mut ring, AsyncCancel::new(1).build()), -libc::ENOENT);
    assert_eq!(wait(pid), 0);
}

#[test]
fn a_linked_timeout_ends_it() {
    guest!();
    let trap = Trap::new();
    let mut ring = ring();
    let mut request = Request::of_true().argv_at(trap.address());
    let done = within(&mut ring, &mut request, Duration::from_millis(200));
    assert_eq!(done, (-libc::ECANCELED, -libc::ETIME));
    assert_no_child();
    // One that comes in time.
    let mut request = Request::of_true();
    let (pid, timeout) = within(&mut ring, &mut request, Duration::from_secs(60));
    assert_eq!(timeout, -libc::ECANCELED);
    assert_eq!(wait(pid), 0);
}

#[test]
fn a_link_goes_on_after_a_pid_only() {
    guest!();
    let mut ring = ring();
    for (path, link, expected) in [
        ("/bin/true", Flags::IO_LINK, 0),
        ("/no/such", Flags::IO_LINK, -libc::ECANCELED),
        ("/no/such", Flags::IO_HARDLINK, 0),
    ] {
        let mut request = Request::new(path, &["true"]);
        push(&mut ring, &request.entry().user_data(1).flags(link));
        push(&mut ring, &Nop::new().build().user_data(2));
        let done = results(&mut ring, 2);
        assert_eq!(done[0].0, 1);
        assert_eq!(done[1], (2, expected), "{path}");
        if done[0].1 > 0 {
            assert_eq!(wait(done[0].1), 0);
        }
    }
    // And it comes after what it is linked to.
    let mut request = Request::of_true();
    push(
        &mut ring,
        &Nop::new().build().user_data(2).flags(Flags::IO_LINK),
    );
    push(&mut ring, &request.entry().user_data(1));
    let done = results(&mut ring, 2);
    assert_eq!(done[0], (2, 0));
    assert_eq!(wait(done[1].1), 0);
    assert_no_child();
}

#[test]
fn a_killed_child_is_an_interrupted_request() {
    guest!();
    let trap = Trap::new();
    let mut ring = ring();
    let _request = trap.catch(&mut ring, Request::of_true());
    let [child] = children()[..] else {
        panic!("{:?}", children());
    };
    // It is there, and yet nobody who waits is told of it.
    // SAFETY: a null status is allowed.
    let waited = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    assert_eq!(
        (waited, io::Error::last_os_error().raw_os_error()),
        (-1, Some(libc::ECHILD))
    );
    // SAFETY: a child of ours, that is held.
    unsafe { libc::kill(child, libc::SIGKILL) };
    assert_eq!(results(&mut ring, 1), [(1, -libc::EINTR)]);
    assert_no_child();
}

#[test]
fn a_ring_that_is_closed_ends_what_is_pending() {
    guest!();
    let trap = Trap::new();
    let mut ring = ring();
    let _request = trap.catch(&mut ring, Request::of_true());
    drop(ring);
    assert_children_end();
}

#[test]
fn a_process_that_ends_takes_what_is_pending_along() {
    guest!();
    let (mut reader, writer) = io::pipe().unwrap();
    assert!(apart(|| {
        let trap = Trap::new();
        let mut ring = ring();
        let _request = trap.catch(&mut ring, Request::of_true());
    }));
    drop(writer);
    // Whoever still lived would hold the other end.
    assert_eq!(io::Read::read(&mut reader, &mut [0]).unwrap(), 0);
}

#[test]
fn a_process_that_execs_takes_what_is_pending_along() {
    guest!();
    let (mut reader, writer) = io::pipe().unwrap();
    assert!(apart(|| {
        let trap = Trap::new();
        let mut ring = ring();
        let _request = trap.catch(&mut ring, Request::of_true());
        let argv = [c"true".as_ptr(), std::ptr::null()];
        // SAFETY: becomes another program.
        unsafe { libc::execv(c"/bin/true".as_ptr(), argv.as_ptr()) };
        panic!("exec");
    }));
    drop(writer);
    assert_eq!(io::Read::read(&mut reader, &mut [0]).unwrap(), 0);
}

#[test]
fn a_thread_that_ends_takes_what_is_pending_along() {
    guest!();
    let trap = Trap::new();
    let mut ring = ring();
    let mut request = Request::of_true().argv_at(trap.address());
    let entry = request.entry().user_data(1);
    thread::scope(|scope| {
        let ring = &mut ring;
        let trap = &trap;
        scope.spawn(move || {
            push(ring, &entry);
            ring.submit().unwrap();
            trap.wait_for_victim();
        });
    });
    assert_eq!(results(&mut ring, 1), [(1, -libc::ECANCELED)]);
    assert_no_child();
}

#[test]
fn many_are_cancelled_at_any_moment() {
    guest!();
    cancel_at_any_moment(200, Request::of_true, |pid| {
        assert!(pid > 0);
        assert_eq!(wait(pid), 0);
    });
}
