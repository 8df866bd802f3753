//! tokio's names: what is dropped leaves nothing. The only test of its process, which it counts in.

mod async_support;

use async_support::{children, descriptors, eventually, nothing_is_left, poll_times};
use tokio::io::AsyncReadExt;
use uring_process::{Stdio, tokio::Command};

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn dropped_at_every_await() {
    poll_times(Command::new("true").status(), usize::MAX)
        .unwrap()
        .unwrap();
    eventually("no child is left", || children().is_empty());
    eventually("no pidfd is left", || {
        !descriptors().iter().any(|(_, to)| to.contains("pidfd"))
    });
    let before = descriptors();
    for count in 0..30 {
        let _ = poll_times(sh("echo a; echo b >&2").output(), count);
        let _ = poll_times(Command::new("true").status(), count);
        let talk = async {
            let mut cat = Command::new("cat");
            cat.stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true);
            let mut child = cat.spawn().unwrap();
            let mut buf = [0; 1];
            for _ in 0..3 {
                child.stdin.as_mut().unwrap().write_all(b"x").await.unwrap();
                let stdout = child.stdout.as_mut().unwrap();
                AsyncReadExt::read_exact(stdout, &mut buf).await.unwrap();
            }
            child.kill().await.unwrap();
        };
        let _ = poll_times(talk, count);
    }
    nothing_is_left(&before);
}
