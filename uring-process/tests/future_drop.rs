//! Futures that are dropped: nothing stays. One test at a time, since they count what the whole
//! process has.

mod async_support;

use std::{
    io::ErrorKind,
    os::fd::AsRawFd,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use async_support::{
    alone, block_on, children, descriptors, eventually, join_all, nothing_is_left, poll_times,
};
use uring_process::{Command, Stdio};

run_again_by! {
    again_by_epoll: "epoll",
    again_by_pipe: "pipe",
    again_by_fork: "fork",
    again_by_clone: "clone",
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// The reactor runs and has what it keeps.
fn started() -> Vec<(i32, String)> {
    block_on(Command::new("true").status_async()).unwrap();
    eventually("no child is left", || children().is_empty());
    eventually("no pidfd is left", || {
        !descriptors().iter().any(|(_, to)| to.contains("pidfd"))
    });
    descriptors()
}

/// Drops what `make` makes after each number of polls, until it gets to its end.
fn drop_everywhere<F: Future>(make: impl Fn() -> F) {
    let before = started();
    let mut ended = 0;
    for count in 0..60 {
        ended += usize::from(poll_times(make(), count).is_some());
        if count % 6 == 0 {
            nothing_is_left(&before);
        }
    }
    nothing_is_left(&before);
    assert!(ended > 0, "it never got to its end");
}

#[test]
fn dropped_at_every_await_of_a_capture() {
    let _alone = alone();
    drop_everywhere(|| sh("echo a; echo b >&2; echo c; exit 1").output_async());
    drop_everywhere(|| {
        let capture = sh("echo a; echo b >&2; echo c").output_async();
        capture.kill_on_drop(true).timeout(Duration::from_secs(50))
    });
}

#[test]
fn dropped_at_every_await_of_a_talk() {
    let _alone = alone();
    drop_everywhere(|| async {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn_async().await.unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut buf = [0; 10];
        for _ in 0..5 {
            stdin.write_all(b"x").await.unwrap();
            assert_eq!(stdout.read(&mut buf).await.unwrap(), 1);
        }
        drop(stdin);
        stdout.read_to_end(&mut Vec::new()).await.unwrap();
        child.wait().await.unwrap();
    });
}

#[test]
fn dropped_at_every_await_of_a_kill_and_of_a_failure() {
    let _alone = alone();
    drop_everywhere(|| async {
        let spawn = Command::new("sleep").arg("600").spawn_async();
        let mut child = spawn.kill_on_drop(true).await.unwrap();
        assert!(
            child
                .wait_timeout(Duration::from_millis(1))
                .await
                .unwrap()
                .is_none()
        );
        child.kill().await.unwrap();
    });
    drop_everywhere(|| async {
        Command::new("/nonexistent")
            .spawn_async()
            .await
            .unwrap_err();
    });
}

#[test]
fn nothing_is_left_of_a_failure_when_it_is_told() {
    let _alone = alone();
    let before = started();
    for _ in 0..50 {
        block_on(Command::new("/nonexistent").spawn_async()).unwrap_err();
        assert_eq!(children(), []);
    }
    nothing_is_left(&before);
}

#[test]
fn nothing_is_left_of_a_thousand_that_were_dropped() {
    async_support::more_descriptors();
    let _alone = alone();
    let plan = sh("sleep 0.2").capture_plan().unwrap();
    let before = started();
    for round in 0..4 {
        let mut all: Vec<_> = (0..250).map(|_| plan.output_async()).collect();
        for capture in &mut all {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(std::pin::Pin::new(capture).poll(&mut cx).is_pending());
        }
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    nothing_is_left(&before);
}

#[test]
fn killed_where_that_was_asked_for_only() {
    let _alone = alone();
    let before = started();
    let sleep = || Command::new("sleep").arg("600").spawn_async();
    drop(block_on(sleep().kill_on_drop(true)).unwrap());
    nothing_is_left(&before);
    // Most likely before it is known whether it runs.
    drop(poll_times(sleep().kill_on_drop(true), 1));
    nothing_is_left(&before);
    let mut child = block_on(sleep()).unwrap();
    child.kill_on_drop(true);
    drop(child);
    nothing_is_left(&before);

    let child = block_on(sleep()).unwrap();
    let pid = child.id() as i32;
    drop(child);
    std::thread::sleep(Duration::from_millis(50));
    let running = children();
    assert!(
        matches!(&running[..], [(p, state)] if *p == pid && *state != 'Z'),
        "{running:?}"
    );
    // SAFETY: a child of ours that has not been waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    nothing_is_left(&before);
}

#[test]
fn a_time_limit_leaves_nothing() {
    let _alone = alone();
    // A plan may hold /dev/null.
    let plan = Command::new("sleep").arg("600").capture_plan().unwrap();
    let before = started();
    for output in join_all((0..50).map(|_| plan.output_async().timeout(Duration::from_millis(30))))
    {
        assert_eq!(output.unwrap_err().kind(), ErrorKind::TimedOut);
    }
    nothing_is_left(&before);
    block_on(Command::new("yes").output_async().limit(1000)).unwrap_err();
    nothing_is_left(&before);
}

#[test]
fn a_pipe_that_is_dropped_while_it_is_waited_for_is_closed() {
    let _alone = alone();
    let before = started();
    let mut command = sh("trap 'echo pipe >&2' PIPE; while echo x; do sleep 0.02; done; exit 5");
    // A pipe that is full blocks no dropped reader: the child ends by what it writes to.
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .keep_sigpipe(true);
    let mut child = block_on(command.spawn_async()).unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut buf = [0; 100];
    assert!(block_on(stdout.read(&mut buf)).unwrap() > 0);
    let mut cx = Context::from_waker(Waker::noop());
    while stdout.poll_read(&mut cx, &mut buf).is_ready() {}
    drop(stdout);
    block_on(child.wait()).unwrap();
    drop(child);

    let mut cat = Command::new("cat");
    cat.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = block_on(cat.spawn_async()).unwrap();
    {
        let stdin = child.stdin.as_mut().unwrap();
        // More than it takes at once, so that it is being waited for.
        let mut write = pin!(stdin.write_all(&[b' '; 1 << 20]));
        let _ = write.as_mut().poll(&mut cx);
    }
    drop(child.stdin.take());
    assert!(block_on(child.wait()).unwrap().success());
    drop(child);
    nothing_is_left(&before);
}

#[test]
fn with_sigchld_ignored() {
    let _alone = alone();
    let before = started();
    // SAFETY: the disposition of a signal; put back below.
    let old = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let plan = sh("exit 4").plan().unwrap();
    for _ in 0..20 {
        let end = block_on(async { plan.spawn_async().await?.wait().await });
        match end {
            Ok(status) => assert_eq!(status.code(), Some(4)),
            // Before Linux 6.15.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECHILD)),
        }
    }
    block_on(Command::new("/nonexistent").spawn_async()).unwrap_err();
    nothing_is_left(&before);
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGCHLD, old) };
}

#[test]
fn somebody_else_may_wait_for_it() {
    let _alone = alone();
    let before = started();
    for _ in 0..20 {
        let mut child = block_on(sh("exit 6").spawn_async()).unwrap();
        // SAFETY: null is allowed; the child is ours.
        unsafe { libc::waitpid(child.id() as i32, std::ptr::null_mut(), 0) };
        match block_on(child.wait()) {
            Ok(status) => assert_eq!(status.code(), Some(6)),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECHILD)),
        }
        drop(child);
    }
    nothing_is_left(&before);
}

#[test]
fn a_descriptor_that_was_taken_out_blocks_again() {
    let _alone = alone();
    let before = started();
    let mut child = block_on(
        sh("sleep 0.1; echo late")
            .stdout(Stdio::piped())
            .spawn_async(),
    )
    .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(stdout.poll_read(&mut cx, &mut [0; 10]).is_pending());
    let fd = stdout.into_owned_fd().unwrap();
    assert!(fd.as_raw_fd() > 2);
    let text = std::io::read_to_string(std::fs::File::from(fd)).unwrap();
    assert_eq!(text, "late\n");
    block_on(child.wait()).unwrap();
    drop(child);
    nothing_is_left(&before);
}

#[test]
fn a_fork_of_this_process_has_futures_of_its_own() {
    let _alone = alone();
    let before = started();
    let child = block_on(
        Command::new("sleep")
            .arg("600")
            .spawn_async()
            .kill_on_drop(true),
    )
    .unwrap();
    let pid = child.id() as i32;
    // SAFETY: glibc's fork leaves its allocator usable, and no other thread of this test has a
    // lock that the child takes: the other tests wait for `alone`, the reactor sleeps.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        drop(child);
        let output = block_on(sh("echo $PPID").output_async());
        let mine = output.is_ok_and(|output| {
            String::from_utf8_lossy(&output.stdout).trim() == std::process::id().to_string()
        });
        // SAFETY: ends the forked process, without the test harness's own ends.
        unsafe { libc::_exit(if mine { 0 } else { 1 }) };
    }
    assert!(forked > 0);
    let mut status = 0;
    let begun = std::time::Instant::now();
    // SAFETY: our child, and a status that is ours.
    while unsafe { libc::waitpid(forked, &raw mut status, libc::WNOHANG) } == 0 {
        if begun.elapsed() > Duration::from_secs(30) {
            // SAFETY: our child.
            unsafe { libc::kill(forked, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(status, 0, "futures in the forked process");
    let alive = children();
    assert!(
        alive.iter().any(|(p, state)| *p == pid && *state != 'Z'),
        "{alive:?}"
    );
    drop(child);
    nothing_is_left(&before);
}
