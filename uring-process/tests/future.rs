//! Futures without a runtime: what they do.

mod async_support;

use std::{
    io::ErrorKind,
    os::unix::process::ExitStatusExt,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use async_support::{block_on, join_all};
use uring_process::{Command, Error, Stage, Stdio, future};

run_again_by! {
    again_by_epoll: "epoll",
    again_by_pipe: "pipe",
    again_by_fork: "fork",
    again_by_clone: "clone",
    again_by_clone_and_epoll: "clone,epoll",
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn a_thousand_captures_at_a_time() {
    async_support::more_descriptors();
    let plan = sh("echo out; echo err >&2").capture_plan().unwrap();
    let outputs = join_all((0..1000).map(|_| plan.output_async().timeout(async_support::BOUND)));
    assert_eq!(outputs.len(), 1000);
    for output in outputs {
        let output = output.unwrap();
        assert!(output.status.success());
        assert_eq!(
            (&*output.stdout, &*output.stderr),
            (&b"out\n"[..], &b"err\n"[..])
        );
    }
}

#[test]
fn futures_can_be_sent() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    let mut command = Command::new("true");
    drop(sent(command.status_async()));
    drop(sent(command.output_timeout(Duration::from_secs(1))));
    drop(sent(command.output_async()));
    let mut child = block_on(sent(command.spawn_async())).unwrap();
    drop(sent(child.kill()));
    drop(sent(child.wait_timeout(Duration::from_secs(1))));
    drop(sent(child.wait()));
    drop(sent(child.wait_with_output()));
}

#[test]
fn a_status_is_what_the_program_left() {
    let status = |script| block_on(sh(script).status_async()).unwrap();
    assert_eq!(status("exit 0").code(), Some(0));
    assert_eq!(status("exit 7").code(), Some(7));
    assert_eq!(status("kill -9 $$").signal(), Some(9));
}

#[test]
fn a_failure_names_the_step() {
    for _ in 0..20 {
        let error = block_on(Command::new("/nonexistent").spawn_async()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Exec));
    }
    let mut command = Command::new("true");
    let error = block_on(command.current_dir("/nonexistent").output_async()).unwrap_err();
    assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::CurrentDir));
    let error = block_on(Command::new("a\0b").status_async()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made");
    let mut command = Command::new("touch");
    command.arg(&file);
    drop(command.spawn_async());
    drop(command.output_async());
    std::thread::sleep(Duration::from_millis(100));
    assert!(!file.exists());
    assert!(block_on(command.status_async()).unwrap().success());
    assert!(file.exists());
}

#[test]
fn a_megabyte_there_and_back() {
    let sent: Vec<u8> = (0..1 << 20).map(|at: u32| ((at * 7) >> 3) as u8).collect();
    let mut child = block_on(
        Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn_async(),
    )
    .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = sent.clone();
    let writer = std::thread::spawn(move || block_on(stdin.write_all(&input)));
    let output = block_on(child.wait_with_output()).unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    assert!(
        output.stdout == sent,
        "{} bytes came back",
        output.stdout.len()
    );
}

#[test]
fn reads_and_writes_by_pieces() {
    block_on(async {
        let mut command = sh("while read line; do echo got $line; done");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn_async().await.unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut buf = [0; 100];
        for word in ["a", "b"] {
            stdin
                .write_all(format!("{word}\n").as_bytes())
                .await
                .unwrap();
            let count = stdout.read(&mut buf).await.unwrap();
            assert_eq!(&buf[..count], format!("got {word}\n").as_bytes());
        }
        let nothing = stdout.poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
        assert!(nothing.is_pending());
        drop(stdin);
        assert_eq!(stdout.read(&mut buf).await.unwrap(), 0);
        assert!(child.wait().await.unwrap().success());
        assert!(child.wait().await.unwrap().success(), "again");
        assert!(child.try_wait().unwrap().unwrap().success());
        child.start_kill().unwrap();
        child.kill().await.unwrap();
    });
}

#[test]
fn a_write_to_nobody_is_a_broken_pipe() {
    block_on(async {
        let mut command = Command::new("true");
        let mut child = command.stdin(Stdio::piped()).spawn_async().await.unwrap();
        let mut stdin = child.stdin.take().unwrap();
        child.wait().await.unwrap();
        let error = stdin.write_all(&[0; 1 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn kills_and_looks() {
    block_on(async {
        let mut child = Command::new("sleep")
            .arg("600")
            .spawn_async()
            .await
            .unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        assert_eq!(child.try_wait().unwrap(), None);
        let status = child.wait_timeout(Duration::from_millis(20)).await.unwrap();
        assert_eq!(status, None);
        child.start_kill().unwrap();
        let status = child.wait_timeout(async_support::BOUND).await.unwrap();
        assert_eq!(status.unwrap().signal(), Some(9));
        let mut child = Command::new("sleep")
            .arg("600")
            .spawn_async()
            .await
            .unwrap();
        child.kill().await.unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    });
}

#[test]
fn an_end_is_seen_by_looking_only() {
    let mut child = block_on(sh("exit 3").spawn_async()).unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < async_support::BOUND);
        std::thread::yield_now();
    };
    assert_eq!(status.code(), Some(3));
}

#[test]
fn a_time_limit_kills() {
    let begun = Instant::now();
    let slow = Command::new("sleep")
        .arg("600")
        .output_timeout(Duration::from_millis(50));
    let error = block_on(slow).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("sleep"), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(50));
    let mut echo = sh("echo $$");
    let output = block_on(echo.output_timeout(async_support::BOUND)).unwrap();
    assert!(output.status.success());
    let output = block_on(echo.output_timeout(Duration::MAX)).unwrap();
    assert!(output.status.success());
}

#[test]
fn many_time_limits_hold_together() {
    let plan = Command::new("sleep").arg("600").capture_plan().unwrap();
    let quick = Command::new("echo").capture_plan().unwrap();
    let outputs = join_all((0..100).map(|at| match at % 2 {
        0 => plan.output_async().timeout(Duration::from_millis(100 + at)),
        _ => quick.output_async().timeout(async_support::BOUND),
    }));
    for (at, output) in outputs.into_iter().enumerate() {
        match at % 2 {
            0 => assert_eq!(output.unwrap_err().kind(), ErrorKind::TimedOut),
            _ => assert_eq!(output.unwrap().stdout, b"\n"),
        }
    }
}

#[test]
fn a_size_limit_kills() {
    let error = block_on(Command::new("yes").output_async().limit(3 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    let size = |limit| {
        block_on(
            sh("printf 12345; printf 123 >&2")
                .output_async()
                .limit(limit),
        )
    };
    assert_eq!(size(5).unwrap().stdout, b"12345");
    assert_eq!(size(4).unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert_eq!(size(0).unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert!(block_on(Command::new("true").output_async().limit(0)).is_ok());
}

#[test]
fn an_endless_writer_does_not_hold_up_its_thread() {
    let mut yes = Command::new("yes").output_async().kill_on_drop(true);
    let begun = Instant::now();
    for _ in 0..20 {
        let poll = std::pin::Pin::new(&mut yes).poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll.is_pending());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(begun.elapsed() < async_support::BOUND);
}

#[test]
fn many_threads_share_the_reactor() {
    let plan = sh("echo $PPID").capture_plan().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let plan = plan.clone();
            std::thread::spawn(move || {
                for _ in 0..20 {
                    let output = block_on(plan.output_async()).unwrap();
                    let parent = String::from_utf8(output.stdout).unwrap();
                    assert_eq!(parent.trim(), std::process::id().to_string());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(async_support::reactors(), 1);
}

#[test]
fn a_future_may_move_between_threads() {
    let mut capture = sh("sleep 0.1; echo there").output_async();
    let first = std::pin::Pin::new(&mut capture).poll(&mut Context::from_waker(Waker::noop()));
    assert!(first.is_pending());
    let output = std::thread::spawn(move || block_on(capture))
        .join()
        .unwrap();
    assert_eq!(output.unwrap().stdout, b"there\n");
}

#[test]
fn children_get_neither_the_reactor_nor_its_mask() {
    block_on(Command::new("true").status_async()).unwrap();
    // Of grep itself: a shell blocks signals while it starts something.
    let script = "ls -l /proc/$$/fd; exec grep SigBlk /proc/self/status";
    let output = block_on(
        sh(script)
            .fd_policy(uring_process::FdPolicy::InheritAll)
            .output_async(),
    )
    .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("anon_inode"), "{text}");
    let mask = text.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    assert_eq!(
        u64::from_str_radix(mask.unwrap().trim(), 16),
        Ok(0),
        "{text}"
    );
}

#[test]
fn a_pipe_from_child_to_child() {
    block_on(async {
        let mut first = sh("echo abc")
            .stdout(Stdio::piped())
            .spawn_async()
            .await
            .unwrap();
        let between = Stdio::try_from(first.stdout.take().unwrap()).unwrap();
        let second = Command::new("tr")
            .args(["a-z", "A-Z"])
            .stdin(between)
            .output_async();
        assert_eq!(second.await.unwrap().stdout, b"ABC\n");
        first.wait().await.unwrap();
    });
}

#[test]
fn under_tokio_without_any_driver() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let plan = sh("echo hi").capture_plan().unwrap();
        let runs: Vec<_> = (0..50).map(|_| tokio::spawn(plan.output_async())).collect();
        for run in runs {
            assert_eq!(run.await.unwrap().unwrap().stdout, b"hi\n");
        }
    });
}

#[test]
fn a_change_of_ids_is_followed_too() {
    if !async_support::users::can_change() {
        return;
    }
    let mut id = Command::new("id");
    let output = block_on(id.arg("-u").uid(65534).output_async()).unwrap();
    assert_eq!(output.stdout, b"65534\n");
    let error = block_on(Command::new("/nonexistent").uid(65534).spawn_async()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_poll_says_what_the_methods_say() {
    let mut child: future::Child = block_on(sh("exit 1").spawn_async()).unwrap();
    assert!(child.id() > 0);
    let status = block_on(std::future::poll_fn(|cx| child.poll_wait(cx))).unwrap();
    assert_eq!(status.code(), Some(1));
    let again = child.poll_wait(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(again, Poll::Ready(Ok(_))));
}
