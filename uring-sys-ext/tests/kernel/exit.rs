//! Requests that complete when their process has ended.

use std::{
    fs,
    io::{self, Read},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    ptr::null_mut,
    thread,
    time::{Duration, Instant},
};

use io_uring::{IoUring, opcode::Nop, squeue::Flags};
use uring_sys_ext::process::{OpFlags, Stage};

use crate::guest::{
    Request, Trap, apart, assert_children_end, assert_no_child, become_user, cancel,
    cancel_at_any_moment, children, field, guest, open_fds, push, results, ring, wait, within,
};

const SECOND: Duration = Duration::from_secs(1);

fn shell(script: &str) -> Box<Request> {
    Request::new("/bin/sh", &["sh", "-c", script]).to_exit()
}

/// A program that goes on for longer than any test waits.
fn sleep() -> Box<Request> {
    Request::new("/bin/sleep", &["sleep", "1000"]).to_exit()
}

/// Submits it as 1, and waits until its program runs; returns its PID.
fn begin(ring: &mut IoUring, request: &mut Request) -> i32 {
    push(ring, &request.entry().user_data(1));
    ring.submit().unwrap();
    the_program()
}

/// The only child, once it may be looked into. It has another name a little sooner, while it is not yet its own.
fn the_program() -> i32 {
    let until = Instant::now() + 30 * SECOND;
    loop {
        let mut all = children().into_iter();
        if let Some(program) = all.find(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok()) {
            return program;
        }
        assert!(Instant::now() < until, "no program runs");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_result_is_the_status() {
    guest!();
    let mut ring = ring();
    for (script, status) in [
        ("exit 0", 0),
        ("exit 7", 7 << 8),
        ("exit 255", 255 << 8),
        ("kill -TERM $$", libc::SIGTERM),
        ("kill -KILL $$", libc::SIGKILL),
    ] {
        let mut request = shell(script);
        assert_eq!(request.run_on(&mut ring), status, "{script}");
        assert_eq!(request.attributes.failed_stage(), Some(Stage::None));
        assert_no_child();
    }
}

#[test]
fn what_never_runs_fails_as_ever() {
    guest!();
    let mut request = Request::new("/no/such", &["x"]).to_exit();
    request.fails(libc::ENOENT, Stage::Exec);
    Request::of_true()
        .to_exit()
        .with(|attributes| attributes.cwd_fd(99))
        .fails(libc::EBADF, Stage::Descriptors);
}

#[test]
fn a_hint_alone_is_refused_and_beside_it_changes_no_result() {
    guest!();
    let mut request = Request::of_true();
    request.op_flags = OpFlags::SYNC;
    assert_eq!(request.run(), -libc::EINVAL);
    assert_no_child();
    let deferring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(64);
    for mut ring in [ring(), deferring.unwrap()] {
        for code in 0..50 {
            let mut request = shell(&format!("exit {code}"));
            request.op_flags |= OpFlags::SYNC;
            assert_eq!(request.run_on(&mut ring), code << 8);
        }
        assert_no_child();
    }
}

#[test]
fn each_of_many_gets_its_own() {
    guest!();
    let mut ring = ring();
    let mut requests: Vec<_> = (0..60)
        .map(|code| shell(&format!("sleep 0.{}; exit {code}", code % 7)))
        .collect();
    for (code, request) in requests.iter_mut().enumerate() {
        push(&mut ring, &request.entry().user_data(code as u64));
    }
    let mut done = results(&mut ring, requests.len());
    done.sort_unstable();
    for (code, status) in done {
        assert_eq!(status, (code as i32) << 8);
    }
    assert_no_child();
}

/// As `wait(2)` has it where the first thread ends before another one ends the process.
#[test]
fn a_thread_may_decide_for_all() {
    guest!();
    // clone(VM | FS | FILES | SIGHAND | THREAD | SYSVSEM); the first thread: exit(1);
    // the second: nanosleep(50 ms), exit_group(5)
    const CODE: &[u8] =
        b"\xbf\x00\x0f\x05\x00\x48\x8d\x35\x43\0\0\0\xb8\x38\0\0\0\x0f\x05\x85\xc0\x74\x0c\
        \xbf\x01\0\0\0\xb8\x3c\0\0\0\x0f\x05\x48\x8d\x3d\x15\0\0\0\x31\xf6\xb8\x23\0\0\0\x0f\x05\
        \xbf\x05\0\0\0\xb8\xe7\0\0\0\x0f\x05\0\0\0\0\0\0\0\0\x80\xf0\xfa\x02\0\0\0\0";
    const PATH: &str = "/tmp/two-threads";
    fs::write(PATH, elf(CODE)).unwrap();
    fs::set_permissions(PATH, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(Request::new(PATH, &["x"]).ends(), 5);
    for _ in 0..20 {
        assert_eq!(Request::new(PATH, &["x"]).to_exit().run(), 5 << 8);
    }
    fs::remove_file(PATH).unwrap();
    assert_no_child();
}

/// A program of x86-64 for the kernel alone: one segment, which begins with the headers.
fn elf(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for number in [BASE + HEADERS, 64, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x05\0\0\0");
    for number in [0, BASE, BASE, size, size, 4096] {
        file.extend(number.to_le_bytes());
    }
    file.extend(code);
    file
}

#[test]
fn its_end_is_nobody_elses() {
    guest!();
    assert!(apart(|| {
        // SAFETY: of this process, which has one thread.
        let pending = || unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigpending(&raw mut set);
            libc::sigismember(&raw const set, libc::SIGCHLD)
        };
        // SAFETY: blocks a signal of this process.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, null_mut());
        }
        assert_eq!(Request::of_true().to_exit().run(), 0);
        assert_eq!(pending(), 0);
        // As where SIGCHLD is ignored: who waits, waits for its end, and is then told of nothing.
        let mut ring = ring();
        let mut request = shell("sleep 0.3; exit 3");
        let pid = begin(&mut ring, &mut request);
        // SAFETY: a null status is allowed.
        let waited = unsafe { libc::waitpid(pid, null_mut(), 0) };
        let errno = io::Error::last_os_error().raw_os_error();
        assert_eq!((waited, errno), (-1, Some(libc::ECHILD)));
        assert_eq!(results(&mut ring, 1), [(1, 3 << 8)]);
        // And those of its own are as ever.
        assert_eq!(Request::of_true().ends(), 0);
        assert_eq!(pending(), 1);
    }));
}

#[test]
fn cancelling_ends_the_program() {
    guest!();
    let fds = open_fds();
    let mut ring = ring();
    let mut request = sleep().pidfd();
    begin(&mut ring, &mut request);
    assert_eq!(cancel(&mut ring), (-libc::ECANCELED, 0));
    // It had run.
    assert_eq!(request.attributes.failed_stage(), Some(Stage::None));
    assert_no_child();
    drop(ring);
    assert_eq!(open_fds(), fds, "the pidfd is taken back");
}

#[test]
fn before_it_runs_it_is_cancelled_as_ever() {
    guest!();
    let trap = Trap::new();
    let mut ring = ring();
    let request = trap.catch(&mut ring, Request::of_true().to_exit());
    assert_eq!(cancel(&mut ring), (-libc::ECANCELED, 0));
    assert_eq!(request.attributes.failed_stage(), Some(Stage::Exec));
    assert_no_child();
}

#[test]
fn many_are_cancelled_at_any_moment() {
    guest!();
    cancel_at_any_moment(
        300,
        || Request::of_true().to_exit(),
        |status| assert_eq!(status, 0),
    );
}

#[test]
fn a_linked_timeout_bounds_how_long_it_runs() {
    guest!();
    let mut ring = ring();
    let done = within(&mut ring, &mut sleep(), Duration::from_millis(300));
    assert_eq!(done, (-libc::ECANCELED, -libc::ETIME));
    assert_no_child();
    let mut request = Request::of_true().to_exit();
    let done = within(&mut ring, &mut request, 60 * SECOND);
    assert_eq!(done, (0, -libc::ECANCELED));
}

#[test]
fn a_chain_goes_on_after_success_only() {
    guest!();
    let mut ring = ring();
    let file = "/tmp/made-by-the-first";
    let chain = |first: &str, ring: &mut IoUring| {
        let mut requests = [shell(first), shell(&format!("test -e {file}"))];
        for (at, request) in requests.iter_mut().enumerate() {
            let entry = request.entry().user_data(at as u64).flags(Flags::IO_LINK);
            push(ring, &entry);
        }
        push(ring, &Nop::new().build().user_data(2));
        results(ring, 3)
    };
    let made = chain(&format!("sleep 0.1; echo >{file}"), &mut ring);
    assert_eq!(made, [(0, 0), (1, 0), (2, 0)]);
    fs::remove_file(file).unwrap();
    let not = -libc::ECANCELED;
    let failed = chain("exit 1", &mut ring);
    assert_eq!(failed, [(0, 1 << 8), (1, not), (2, not)]);
    let second = chain("exit 0", &mut ring);
    assert_eq!(second, [(0, 0), (1, 1 << 8), (2, not)]);
    assert_no_child();
}

#[test]
fn a_ring_that_is_closed_ends_the_program() {
    guest!();
    let mut ring = ring();
    let mut request = sleep();
    begin(&mut ring, &mut request);
    drop(ring);
    assert_children_end();
}

#[test]
fn a_submitter_that_ends_takes_the_program_along() {
    guest!();
    let (mut reader, writer) = io::pipe().unwrap();
    assert!(apart(|| {
        let mut ring = ring();
        let mut request = sleep().map(writer.as_raw_fd(), 1);
        begin(&mut ring, &mut request);
        std::mem::forget(ring);
    }));
    drop(writer);
    // The program would hold the other end.
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_program_can_be_looked_into_and_a_tracer_sees_its_end_first() {
    guest!();
    let mut ring = ring();
    let mut request = sleep();
    let pid = begin(&mut ring, &mut request);
    assert!(fs::read_link(format!("/proc/{pid}/exe")).is_ok());
    // SAFETY: a child of ours.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
    assert_eq!(seized, 0, "{}", io::Error::last_os_error());
    // SAFETY: a child of ours.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    assert_eq!(wait(pid), 128 + libc::SIGKILL);
    assert_eq!(results(&mut ring, 1), [(1, libc::SIGKILL)]);
    assert_no_child();
}

#[test]
fn a_pidfd_is_ready_at_the_end() {
    guest!();
    let mut request = shell("exit 4").pidfd();
    assert_eq!(request.run(), 4 << 8);
    assert!(request.pidfd > 2);
    let mut poll = libc::pollfd {
        fd: request.pidfd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid structure; then a descriptor that was given to us.
    unsafe {
        assert_eq!(libc::poll(&raw mut poll, 1, 0), 1);
        libc::close(request.pidfd);
    }
}

/// Who runs a set-user-ID program that takes on other ids, as su(1) does, cannot kill it, not by its request, either.
#[test]
fn what_outgrew_its_maker_is_let_go_of() {
    guest!();
    // setuid(0), nanosleep(2 s), write(1, ...), exit(0)
    const CODE: &[u8] =
        b"\x31\xff\xb8\x69\0\0\0\x0f\x05\x48\x8d\x3d\x2a\0\0\0\x31\xf6\xb8\x23\0\0\0\x0f\x05\
        \xbf\x01\0\0\0\x48\x8d\x35\x25\0\0\0\xba\x08\0\0\0\xb8\x01\0\0\0\x0f\x05\x31\xff\xb8\
        \x3c\0\0\0\x0f\x05\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0went on\n";
    const PATH: &str = "/tmp/outgrows";
    fs::write(PATH, elf(CODE)).unwrap();
    fs::set_permissions(PATH, fs::Permissions::from_mode(0o4755)).unwrap();
    let (mut reader, writer) = io::pipe().unwrap();
    assert!(apart(|| {
        become_user(1000);
        let mut ring = ring();
        let mut request = Request::new(PATH, &["x"])
            .to_exit()
            .map(writer.as_raw_fd(), 1)
            .pidfd();
        push(&mut ring, &request.entry().user_data(1));
        ring.submit().unwrap();
        let until = Instant::now() + 30 * SECOND;
        loop {
            let ids = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let all = children();
            if all
                .first()
                .is_some_and(|pid| field(&ids(pid), "Uid") == ["0"; 4])
            {
                break;
            }
            let early = ring.completion().next().map(|done| done.result());
            assert_eq!(
                early,
                None,
                "its end, at {:?}",
                request.attributes.failed_stage()
            );
            assert!(Instant::now() < until, "it does not become root");
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(cancel(&mut ring), (-libc::EPERM, 0));
        assert_eq!(request.attributes.failed_stage(), Some(Stage::None));
        // It runs, its pidfd stays, and the next one's submitter ends without waiting for it.
        assert_eq!(children().len(), 1);
        // SAFETY: asks for nothing but the descriptor's flags.
        assert!(unsafe { libc::fcntl(request.pidfd, libc::F_GETFD) } >= 0);
    }));
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "went on\n");
    fs::remove_file(PATH).unwrap();
}
