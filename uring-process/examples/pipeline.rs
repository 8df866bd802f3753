//! A shell's pipeline, `printf ... | sort | uniq -c`, without a shell.
//!
//! cargo run -p uring-process --example pipeline

use std::io;

use uring_process::{Command, Stdio};

fn main() -> io::Result<()> {
    let mut words = Command::new("printf")
        .args(["%s\n", "pear", "apple", "pear", "fig", "apple", "pear"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut sort = Command::new("sort")
        .stdin(words.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?)
        .stdout(Stdio::piped())
        .spawn()?;
    let count = Command::new("uniq")
        .arg("-c")
        .stdin(sort.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = count.wait_with_output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    for status in [words.wait()?, sort.wait()?, output.status] {
        if !status.success() {
            return Err(io::Error::other(format!(
                "a part of the pipeline failed: {status}"
            )));
        }
    }
    Ok(())
}
