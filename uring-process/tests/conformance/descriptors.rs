//! Which descriptors a child has.

use std::{
    fs::File,
    io::{self, Read, Seek},
    os::fd::{AsRawFd, OwnedFd},
};

use uring_process::{Command, Error, FdPolicy, Stage, Stdio};

use crate::common::{alone, limit};

/// A file whose text says which one it is.
fn named(name: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, name.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

/// What the child has at these numbers, by `cat`.
fn reads(command: &mut Command, numbers: &[i32]) -> String {
    let files: Vec<String> = numbers
        .iter()
        .map(|n| format!("/proc/self/fd/{n}"))
        .collect();
    let output = command.args(files).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Puts the files exactly at these numbers of this process.
fn at(numbers: &[i32]) -> Vec<OwnedFd> {
    use std::os::fd::FromRawFd;
    numbers
        .iter()
        .map(|number| {
            let file = named(&format!("<{number}>"));
            // SAFETY: the number is free in this process, which the tests have to themselves.
            unsafe {
                assert_eq!(
                    libc::fcntl(*number, libc::F_GETFD),
                    -1,
                    "{number} is in use"
                );
                assert_eq!(
                    libc::dup3(file.as_raw_fd(), *number, libc::O_CLOEXEC),
                    *number
                );
                OwnedFd::from_raw_fd(*number)
            }
        })
        .collect()
}

#[test]
fn a_mapped_child_has_nothing_else() {
    alone(|| {
        // Open ones of each kind, low and high.
        let plain = named("x");
        // SAFETY: flags of our own descriptors.
        unsafe {
            libc::fcntl(plain.as_raw_fd(), libc::F_SETFD, 0);
            for number in [50, 51, 999] {
                libc::dup2(plain.as_raw_fd(), number);
            }
        }
        let list = |command: &mut Command| {
            let output = command.arg("/proc/self/fd").output().unwrap();
            String::from_utf8(output.stdout).unwrap().replace('\n', " ")
        };
        // One more is its own.
        assert_eq!(list(&mut Command::new("ls")), "0 1 2 3 ");
        let mut command = Command::new("ls");
        command.fd_map(60, named("y")).fd_map(4, named("z"));
        assert_eq!(list(&mut command), "0 1 2 3 4 60 ");
        let mut std = std::process::Command::new("ls");
        let std = std.arg("/proc/self/fd").output().unwrap();
        let mut ours = Command::new("ls");
        let ours = ours
            .arg("/proc/self/fd")
            .fd_policy(FdPolicy::InheritAll)
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&ours.stdout),
            String::from_utf8_lossy(&std.stdout)
        );
        assert!(String::from_utf8_lossy(&ours.stdout).contains("999"));
    });
}

#[test]
fn swaps_cycles_and_chains() {
    alone(|| {
        let maps: &[&[(i32, i32)]] = &[
            &[(21, 22), (22, 21)],
            &[(21, 22), (22, 23), (23, 21)],
            &[(21, 22), (22, 23), (23, 24)],
            &[(24, 23), (23, 22), (22, 21)],
            &[(21, 21), (22, 22)],
            &[(21, 21), (22, 23), (23, 22), (100, 21)],
            &[(21, 900), (900, 21)],
            &[(3, 21), (4, 22), (5, 23), (6, 3)],
        ];
        for policy in [FdPolicy::Mapped, FdPolicy::InheritAll] {
            for map in maps {
                let mut sources: Vec<i32> = map.iter().map(|(_, source)| *source).collect();
                sources.sort_unstable();
                sources.dedup();
                let high: Vec<i32> = sources.iter().copied().filter(|n| *n > 6).collect();
                let mut held: Vec<(i32, OwnedFd)> = high.iter().copied().zip(at(&high)).collect();
                let mut command = Command::new("cat");
                command.fd_policy(policy);
                let mut expected = String::new();
                for (target, source) in *map {
                    let file = match held.iter().position(|(number, _)| number == source) {
                        // The very number, not a copy of it.
                        Some(place) => held.swap_remove(place).1,
                        None => named(&format!("<{source}>")).into(),
                    };
                    command.fd_map(*target, file);
                    expected.push_str(&format!("<{source}>"));
                }
                let targets: Vec<i32> = map.iter().map(|(target, _)| *target).collect();
                assert_eq!(reads(&mut command, &targets), expected, "{map:?}");
            }
        }
    });
}

#[test]
fn two_hundred_mappings() {
    alone(|| {
        let numbers: Vec<i32> = (300..500).collect();
        let mut files = at(&numbers);
        let mut command = Command::new("cat");
        let mut expected = String::new();
        let targets: Vec<i32> = numbers.iter().map(|n| 300 + (n - 300) * 7 % 200).collect();
        for (target, (source, file)) in targets.iter().zip(numbers.iter().zip(files.drain(..))) {
            command.fd_map(*target, file);
            expected.push_str(&format!("<{source}>"));
        }
        assert_eq!(reads(&mut command, &targets), expected);
    });
}

#[test]
fn a_map_up_to_the_limit_of_descriptors() {
    alone(|| {
        limit(libc::RLIMIT_NOFILE, 256);
        let files = at(&[254, 255]);
        let mut command = Command::new("cat");
        for (target, file) in [255, 254].into_iter().zip(files) {
            command.fd_map(target, file);
        }
        assert_eq!(reads(&mut command, &[255, 254]), "<254><255>");
        let error = Command::new("true")
            .fd_map(256, named("x"))
            .spawn()
            .unwrap_err();
        assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Descriptors));
        let error = Command::new("true")
            .fd_map(-1, named("x"))
            .spawn()
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_map_goes_over_the_streams() {
    let mut command = Command::new("cat");
    command.stdin(Stdio::null()).fd_map(0, named("mapped"));
    assert_eq!(command.output().unwrap().stdout, b"mapped");
    let (mut reader, writer) = io::pipe().unwrap();
    let writer = OwnedFd::from(writer);
    let mut command = Command::new("sh");
    command.args(["-c", "echo out; echo err >&2"]);
    command
        .fd_map(1, writer.try_clone().unwrap())
        .fd_map(2, writer);
    let output = command.output().unwrap();
    drop(command);
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "out\nerr\n");
    let mut later = Command::new("cat");
    later.fd_map(5, named("first")).fd_map(5, named("second"));
    assert_eq!(reads(&mut later, &[5]), "second");
}

#[test]
fn with_closed_streams_of_our_own() {
    for mask in 1..8 {
        closed_streams(mask);
    }
}

/// What a shell has open, without anything that it opens for that: all of it is built in.
pub(crate) const KINDS: &str = "all=; for n in 0 1 2 3 4 5 6 7; do k=none; f=/proc/$$/fd/$n; \
     [ -e $f ] && k=file; [ -p $f ] && k=pipe; [ -c $f ] && k=device; all=\"$all$n $k \"; done; \
     echo $all";

/// Runs std and us with some of our 0, 1, 2 closed, and compares what the child has.
fn closed_streams(mask: i32) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("{KINDS} > {}", file.path().display());
    let run = |ours: bool, piped: bool| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child
            .args([
                "--exact",
                "descriptors::child_with_closed_streams",
                "--nocapture",
            ])
            .env(
                "CLOSED",
                format!("{mask} {} {}", i32::from(ours), i32::from(piped)),
            )
            .env("SCRIPT", &script);
        let status = child.output().unwrap().status;
        let text = std::fs::read_to_string(file.path()).unwrap();
        std::fs::write(file.path(), "").unwrap();
        (status.code(), text)
    };
    for piped in [false, true] {
        let (ours, std) = (run(true, piped), run(false, piped));
        assert_eq!(ours, std, "closed: {mask:03b}, piped: {piped}");
        assert_eq!(ours.0, Some(0));
        assert!(ours.1.contains("7 none"), "{ours:?}");
    }
}

#[test]
fn child_with_closed_streams() {
    let Ok(what) = std::env::var("CLOSED") else {
        return;
    };
    let script = std::env::var("SCRIPT").unwrap();
    let words: Vec<i32> = what.split(' ').map(|word| word.parse().unwrap()).collect();
    for number in 0..3 {
        if words[0] >> number & 1 == 1 {
            // SAFETY: closes a stream of this process, which ends soon.
            unsafe { libc::close(number) };
        }
    }
    let done = match (words[1] == 1, words[2] == 1) {
        (true, piped) => {
            let mut command = Command::new("sh");
            command
                .args(["-c", &script])
                .fd_policy(FdPolicy::InheritAll);
            match piped {
                true => command.output().map(|o| o.status),
                false => command.status(),
            }
        }
        (false, piped) => {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &script]);
            match piped {
                true => command.output().map(|o| o.status),
                false => command.status(),
            }
        }
    };
    // libtest would print.
    std::process::exit(i32::from(!done.is_ok_and(|status| status.success())));
}

#[test]
fn a_mapped_descriptor_may_be_closed_at_once() {
    for _ in 0..crate::common::times(200) {
        let (mut reader, writer) = io::pipe().unwrap();
        let starting = {
            let mut command = Command::new("echo");
            command.arg("x").stdout(Stdio::null()).fd_map(1, writer);
            command.start().unwrap()
        };
        // Everything of ours is closed, and its numbers are others now.
        let _others = (named("a"), named("b"), named("c"));
        assert!(starting.wait().unwrap().wait().unwrap().success());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x\n");
    }
}

#[test]
fn a_plan_keeps_its_descriptors() {
    let plan = Command::new("cat").fd_map(0, named("")).plan().unwrap();
    for _ in 0..3 {
        assert!(plan.spawn().unwrap().wait().unwrap().success());
    }
}
