//! tokio's names on our futures.

mod async_support;

use std::{io::ErrorKind, os::unix::process::ExitStatusExt, time::Duration};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use uring_process::{
    Stdio,
    tokio::{ChildStdin, ChildStdout, Command},
};

run_again_by! {
    again_by_epoll: "epoll",
    again_by_pipe: "pipe",
    again_by_fork: "fork",
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[tokio::test]
async fn output_and_status() {
    let output = sh("echo out; echo err >&2; exit 2").output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        (&*output.stdout, &*output.stderr),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert!(sh("exit 0").status().await.unwrap().success());
    // Captured in any case, as tokio does.
    let output = sh("echo out").stdout(Stdio::null()).output().await.unwrap();
    assert_eq!(output.stdout, b"out\n");
    let error = Command::new("/nonexistent").output().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = Command::new("/nonexistent").status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        Command::new("/nonexistent").spawn().unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_captures_at_a_time() {
    async_support::more_descriptors();
    let runs: Vec<_> = (0..1000)
        .map(|_| tokio::spawn(Command::new("echo").output()))
        .collect();
    for run in runs {
        assert_eq!(run.await.unwrap().unwrap().stdout, b"\n");
    }
}

#[tokio::test]
async fn lines_by_tokios_traits() {
    let mut child = sh("while read line; do echo got $line; done; echo end >&2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin: ChildStdin = child.stdin.take().unwrap();
    let stdout: ChildStdout = child.stdout.take().unwrap();
    let mut lines = BufReader::new(stdout).lines();
    for word in ["a", "b"] {
        AsyncWriteExt::write_all(&mut stdin, format!("{word}\n").as_bytes())
            .await
            .unwrap();
        stdin.flush().await.unwrap();
        assert_eq!(
            lines.next_line().await.unwrap(),
            Some(format!("got {word}"))
        );
    }
    stdin.shutdown().await.unwrap();
    drop(stdin);
    assert_eq!(lines.next_line().await.unwrap(), None);
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .await
        .unwrap();
    assert_eq!(text, "end\n");
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_megabyte_there_and_back() {
    let sent: Vec<u8> = (0..1 << 20).map(|at: u32| ((at * 7) >> 3) as u8).collect();
    let mut cat = Command::new("cat");
    let mut child = cat
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = sent.clone();
    let writer = tokio::spawn(async move { tokio::io::copy(&mut &input[..], &mut stdin).await });
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(writer.await.unwrap().unwrap(), 1 << 20);
    assert!(output.stdout == sent);
}

#[tokio::test]
async fn a_child_as_tokios() {
    let mut child = Command::new("sleep")
        .arg("600")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    assert!(child.id().is_some());
    assert_eq!(child.try_wait().unwrap(), None);
    let wait = tokio::time::timeout(Duration::from_millis(20), child.wait());
    assert!(wait.await.is_err());
    child.start_kill().unwrap();
    assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    assert_eq!(child.id(), None);
    assert_eq!(
        child.start_kill().unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(child.try_wait().unwrap().unwrap().signal(), Some(9));
}

#[tokio::test]
async fn settings_reach_the_program() {
    let mut command = sh("echo $0 $A $B $C; pwd; id -u");
    command
        .arg("name")
        .env("A", "1")
        .envs([("B", "2"), ("C", "3")])
        .env_remove("C");
    command.current_dir("/").arg0("x").process_group(0);
    command.as_command_mut().umask(0o77);
    if async_support::users::why_not().is_none() {
        command.uid(65534).gid(65534);
    }
    // SAFETY: does nothing.
    unsafe { command.pre_exec(|| Ok(())) };
    let output = command.output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("name 1 2"));
    assert_eq!(lines.next(), Some("/"));
    let mut empty = Command::new("/usr/bin/env");
    assert_eq!(empty.env_clear().output().await.unwrap().stdout, b"");
    assert_eq!(command.as_command().get_program(), "sh");
    assert!(!command.get_kill_on_drop());
    assert_eq!(command.into_command().get_program(), "sh");
}

#[tokio::test]
async fn a_pipe_from_child_to_child() {
    let mut first = sh("echo abc").stdout(Stdio::piped()).spawn().unwrap();
    let fd = first.stdout.take().unwrap().into_owned_fd().unwrap();
    let second = Command::new("tr").args(["a-z", "A-Z"]).stdin(fd).output();
    assert_eq!(second.await.unwrap().stdout, b"ABC\n");
    assert!(first.wait().await.unwrap().success());
}

#[test]
fn no_driver_and_no_runtime_is_needed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let output = runtime.block_on(sh("echo hi").output()).unwrap();
    assert_eq!(output.stdout, b"hi\n");
    let mut child = sh("exit 3").spawn().unwrap();
    assert_eq!(
        async_support::block_on(child.wait()).unwrap().code(),
        Some(3)
    );
}
