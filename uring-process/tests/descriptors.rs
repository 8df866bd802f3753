//! Which descriptors a child has, on every executor.

mod common;

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd},
};

use common::{again_with_all, in_child, says, sh};
use uring_process::{Command, FdPolicy, Stdio};

again_with_all!();

/// The numbers of the child's descriptors, as its own shell sees them without opening any.
fn numbers(command: &mut Command) -> Vec<i32> {
    let script =
        "n=0; while [ $n -lt 1024 ]; do [ -e /proc/self/fd/$n ] && echo $n; n=$((n+1)); done";
    let text = says(command.args(["-c", script]));
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// A descriptor without close-on-exec, at or above a number.
fn leaky(at_least: i32) -> OwnedFd {
    let null = File::open("/dev/null").unwrap();
    // SAFETY: makes a new descriptor that nobody else has.
    unsafe {
        let fd = libc::fcntl(null.as_raw_fd(), libc::F_DUPFD, at_least);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    }
}

#[test]
fn a_child_has_what_is_mapped_and_nothing_else() {
    let _cloexec = File::open("/dev/null").unwrap();
    let _open = [leaky(3), leaky(20), leaky(500)];
    assert_eq!(numbers(&mut Command::new("sh")), [0, 1, 2]);
    let mut command = Command::new("sh");
    command
        .fd_map(7, File::open("/dev/null").unwrap())
        .fd_map(40, leaky(30));
    assert_eq!(numbers(&mut command), [0, 1, 2, 7, 40]);
}

#[test]
fn all_are_inherited_where_that_is_asked_for() {
    // SAFETY: makes a new descriptor that nobody else has.
    let cloexec = unsafe { OwnedFd::from_raw_fd(libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 650)) };
    let open = leaky(600);
    let mut command = Command::new("sh");
    command
        .fd_policy(FdPolicy::InheritAll)
        .fd_map(700, leaky(30));
    let found = numbers(&mut command);
    assert!(
        found.contains(&open.as_raw_fd()) && found.contains(&700),
        "{found:?}"
    );
    assert!(!found.contains(&cloexec.as_raw_fd()), "{found:?}");
}

/// A pipe, and the text by which it is known.
struct Marked {
    reader: PipeReader,
    text: String,
}

fn marked(number: usize) -> (Marked, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    (
        Marked {
            reader,
            text: format!("<{number}>"),
        },
        writer,
    )
}

/// Maps a pipe to each target, by way of descriptors of the given numbers in this process, and
/// shows that what the child writes to a target arrives in its pipe.
fn check_map(pairs: &[(i32, i32)]) {
    let mut command = Command::new("sh");
    let mut pipes = Vec::new();
    let mut script = String::new();
    for (at, (source, target)) in pairs.iter().enumerate() {
        let (pipe, writer) = marked(at);
        // SAFETY: these numbers are this process's to overwrite: it is the test's own.
        let owned = unsafe {
            assert_eq!(
                libc::dup3(writer.as_raw_fd(), *source, libc::O_CLOEXEC),
                *source
            );
            OwnedFd::from_raw_fd(*source)
        };
        command.fd_map(*target, owned);
        script += &format!("printf '{}' > /proc/self/fd/{target}; ", pipe.text);
        pipes.push(pipe);
    }
    assert!(
        command.args(["-c", &script]).status().unwrap().success(),
        "{pairs:?}"
    );
    drop(command);
    for mut pipe in pipes {
        let mut text = String::new();
        pipe.reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, pipe.text, "{pairs:?}");
    }
}

#[test]
fn maps_swap_and_rotate() {
    in_child("maps_swap_and_rotate", || {
        check_map(&[(50, 51), (51, 50)]);
        check_map(&[(50, 51), (51, 52), (52, 50)]);
        check_map(&[(50, 51), (51, 52), (52, 53)]);
        check_map(&[(52, 53), (51, 52), (50, 51)]);
        check_map(&[(50, 50), (51, 60), (60, 51)]);
        check_map(&[(50, 200), (51, 3)]);
        let many: Vec<(i32, i32)> = (0..200)
            .map(|n| (1000 + n, 1000 + (n * 7 + 3) % 200))
            .collect();
        check_map(&many);
    });
}

#[test]
fn standard_streams_can_be_mapped_too() {
    let (mut reader, writer) = io::pipe().unwrap();
    let status = sh("echo out; echo err >&2")
        .fd_map(1, writer.try_clone().unwrap())
        .fd_map(2, writer)
        .status()
        .unwrap();
    assert!(status.success());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "out\nerr\n");
}

#[test]
fn crossed_streams_arrive_crossed() {
    in_child("crossed_streams_arrive_crossed", || {
        let (mut out, out_writer) = io::pipe().unwrap();
        let (mut err, err_writer) = io::pipe().unwrap();
        let status = {
            // The child's output is our error and the other way round.
            // SAFETY: the process is the test's own.
            let (one, two) = unsafe {
                let saved = (libc::dup(1), libc::dup(2));
                libc::dup2(out_writer.into_raw_fd(), 1);
                libc::dup2(err_writer.into_raw_fd(), 2);
                saved
            };
            let status = sh("echo O; echo E >&2")
                .stdout(io::stderr())
                .stderr(io::stdout())
                .status();
            // SAFETY: as above.
            unsafe {
                libc::dup2(one, 1);
                libc::dup2(two, 2);
            }
            status
        };
        assert!(status.unwrap().success());
        let mut read = |pipe: &mut PipeReader| {
            let mut byte = [0; 2];
            pipe.read_exact(&mut byte).unwrap();
            byte
        };
        assert_eq!((&read(&mut out), &read(&mut err)), (b"E\n", b"O\n"));
    });
}

#[test]
fn closed_standard_streams_stay_closed_or_are_made() {
    in_child("closed_standard_streams_stay_closed_or_are_made", || {
        // SAFETY: the process is the test's own.
        let kept = unsafe { libc::fcntl(1, libc::F_DUPFD_CLOEXEC, 100) };
        // SAFETY: as above.
        unsafe {
            libc::close(0);
            libc::close(2);
        }
        let (mut reader, writer) = io::pipe().unwrap(); // takes 0 and 2
        let list = || {
            Command::new("ls")
                .arg("-1")
                .arg("/proc/self/fd")
                .stdout(Stdio::piped())
                .spawn()
        };
        let output = list().unwrap().wait_with_output().unwrap();
        assert!(output.status.success());
        let mut command = sh("echo to-two >&2; cat");
        let output = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(writer);
        let output = output.spawn().unwrap().wait_with_output().unwrap();
        assert!(output.status.success() && output.stdout.is_empty());
        drop(command);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "to-two\n");
        let all_null = Command::new("true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(all_null.success());
        assert!(kept > 0);
    });
}

#[test]
fn mapped_descriptors_are_owned_until_the_program_runs() {
    for _ in 0..100 {
        let (mut reader, writer) = io::pipe().unwrap();
        let plan = sh("echo there >&9").fd_map(9, writer).plan().unwrap();
        let starting = plan.start().unwrap();
        // Nobody else holds the writer now.
        drop(plan);
        let mut child = starting.wait().unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "there\n");
        child.wait().unwrap();
    }
}

#[test]
fn a_map_that_cannot_be_is_refused() {
    let null = || File::open("/dev/null").unwrap();
    let error = Command::new("true").fd_map(-1, null()).spawn().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("descriptor -1 of the child is negative"),
        "{error}"
    );
    // The later one counts.
    let mut command = sh("cat <&5");
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"later").unwrap();
    io::Seek::rewind(&mut file).unwrap();
    assert_eq!(says(command.fd_map(5, null()).fd_map(5, file)), "later");
    // Above the child's limit.
    let error = Command::new("true")
        .fd_map(i32::MAX - 5, null())
        .spawn()
        .unwrap_err();
    assert_eq!(
        uring_process::Error::of(&error).unwrap().raw_os_error(),
        Some(libc::EBADF)
    );
    common::no_zombie_stays();
}
