//! Standard streams.

use std::{
    fs::File,
    io::{Read, Seek, Write},
};

use uring_process::{Command, Stdio};

use crate::{both, common::alone};

#[test]
fn null_piped_and_files_are_as_std() {
    crate::common::pass_on_nothing();
    let show = crate::descriptors::KINDS;
    let outcome = both!("sh", |c| c.args(["-c", show]).stdin(Stdio::null()));
    assert!(outcome.text().contains("0 device"), "{outcome:?}");
    both!("sh", |c| c.args(["-c", show]).stderr(Stdio::null()));
    both!("sh", |c| c
        .args(["-c", "cat; echo to >&2"])
        .stdin(Stdio::null()));
    both!("sh", |c| c.args(["-c", "cat"]).stdin(Stdio::piped()));
    both!("cat", |c| c.stdin(File::open("/proc/version").unwrap()));
    both!("sh", |c| c.args(["-c", "echo gone"]).stdout(Stdio::null()));
    let file = tempfile::tempfile().unwrap();
    both!("echo", |c| c.arg("x").stdout(file.try_clone().unwrap()));
    let (mut text, mut file) = (String::new(), file);
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "x\nx\n");
}

#[test]
fn output_captures_and_status_inherits() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo out; echo err >&2; cat; exit 3"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    let same = "for n in 0 1 2; do test /proc/$$/fd/$n -ef /proc/$PPID/fd/$n || exit 1; done";
    assert!(
        Command::new("sh")
            .args(["-c", same])
            .status()
            .unwrap()
            .success()
    );
    let mut child = Command::new("sh").args(["-c", same]).spawn().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_megabyte_on_both_pipes_does_not_deadlock() {
    let both = "dd if=/dev/zero bs=1024 count=1024 2>/dev/null; \
                head -c 1048576 /dev/zero >&2; \
                dd if=/dev/zero bs=1024 count=1024 2>/dev/null";
    let output = Command::new("sh").args(["-c", both]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        (output.stdout.len(), output.stderr.len()),
        (2 << 20, 1 << 20)
    );
    let child = Command::new("sh")
        .args(["-c", both])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (0, 1 << 20));
}

#[test]
fn a_pipeline_of_children() {
    let mut echo = Command::new("sh")
        .args(["-c", "echo one; echo two"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let sort = Command::new("sort")
        .arg("-r")
        .stdin(echo.stdout.take().unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(sort.wait_with_output().unwrap().stdout, b"two\none\n");
    assert!(echo.wait().unwrap().success());
    // The end of the input arrives: no copy of the writing end is left anywhere.
    let mut cat = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut other = Command::new("sleep").arg("30").spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"text").unwrap();
    assert_eq!(cat.wait_with_output().unwrap().stdout, b"text");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn wait_closes_standard_input() {
    let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    assert!(cat.wait().unwrap().success());
    let cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    assert!(cat.wait_with_output().unwrap().status.success());
}

#[test]
fn own_streams_can_be_given() {
    alone(|| {
        let file = tempfile::tempfile().unwrap();
        use std::os::fd::AsRawFd;
        // SAFETY: this process's standard error becomes the file.
        assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), 2) }, 2);
        Command::new("echo")
            .arg("x")
            .stdout(std::io::stderr())
            .status()
            .unwrap();
        Command::new("sh")
            .args(["-c", "echo y >&2"])
            .stderr(std::io::stderr())
            .status()
            .unwrap();
        let (mut text, mut file) = (String::new(), file);
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x\ny\n");
    });
}

#[test]
fn a_command_with_a_file_can_run_twice() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new("echo");
    command.arg("again").stdout(writer);
    for _ in 0..3 {
        assert!(command.status().unwrap().success());
    }
    let plan = command.plan().unwrap();
    drop(command);
    assert!(plan.spawn().unwrap().wait().unwrap().success());
    drop(plan);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "again\n".repeat(4));
}
