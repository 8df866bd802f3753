//! Strings, lookup of the program, and its failures: as std.

use std::{
    ffi::OsStr,
    fs,
    io::{ErrorKind, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{both, common::Outcome};

/// A file with this text, executable or not.
fn file(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.join(name);
    // Written by another process: no other test's child ever holds it open for writing.
    let mut child = std::process::Command::new("sh")
        .args(["-c", "cat > \"$0\""])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn failed(outcome: &Outcome, kind: ErrorKind, errno: Option<i32>) {
    assert_eq!(*outcome, Outcome::Failed(kind, errno));
}

#[test]
fn arguments_arrive_as_given() {
    let long = "x".repeat(100_000);
    let outcome = both!("sh", |c| c
        .args([
            "-c",
            // Not the last command, in whose place a shell may put itself.
            "cat /proc/$$/cmdline; :",
            "me",
            "",
            "a b\n",
            "$HOME *",
            "é"
        ])
        .arg(OsStr::from_bytes(b"\xff"))
        .arg(&long));
    assert!(outcome.text().contains(&long));
    assert!(both!("sh", |c| c.arg0("other").args(["-c", "echo $0"])).text() == "other\n");
    both!("/bin/sh", |c| c
        .arg0("")
        .args(["-c", "cat /proc/$$/cmdline; :"]));
}

fn sorted(outcome: Outcome) -> Vec<String> {
    let mut lines: Vec<_> = outcome.text().split('\0').map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_environment_is_stds() {
    macro_rules! env {
        (|$c:ident| $change:expr) => {{
            let std = {
                let mut command = std::process::Command::new("/bin/cat");
                let $c = command.arg("/proc/self/environ");
                let _ = $change;
                Outcome::of(command.output())
            };
            let ours = {
                let mut command = uring_process::Command::new("/bin/cat");
                let $c = command.arg("/proc/self/environ");
                let _ = $change;
                Outcome::of(command.output())
            };
            let (ours, std) = (sorted(ours), sorted(std));
            assert_eq!(ours, std);
            ours
        }};
    }
    env!(|c| c.env("A", "1"));
    env!(|c| &c);
    env!(|c| c.envs([("A", "1"), ("B", ""), ("A", "2")]).env_remove("B"));
    env!(|c| c.env_remove("PATH").env("PATH", "/x"));
    env!(|c| c.env("A", "1").env_clear().env("B", "x=y"));
    env!(|c| c.env("Z", "1").env_clear().env_remove("Z"));
    assert_eq!(env!(|c| c.env_clear()), [""]);
    assert_eq!(env!(|c| c.env_clear().env("", "v")), ["", "=v"]);
}

#[test]
fn a_program_is_searched_in_the_childs_path() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().to_str().unwrap();
    file(
        dir.path(),
        "some-program",
        "#!/bin/sh\necho found $0\n",
        0o755,
    );
    fs::create_dir(dir.path().join("none")).unwrap();
    fs::create_dir_all(dir.path().join("denied/some-program")).unwrap();
    file(dir.path(), "plain", "#!/bin/sh\n", 0o644);
    both!("some-program");
    for path in [
        format!("/nonexistent:{there}"),
        format!("{there}/"),
        format!("{there}/none:{there}/plain:{there}/denied:{there}"),
        format!("{there}/denied:{there}/none"),
        there.to_owned(),
        String::new(),
        ":".to_owned(),
        format!("{}:{there}", "y".repeat(300)),
    ] {
        both!("some-program", |c| c.env("PATH", &path));
        both!("some-program", |c| c.env("PATH", &path).current_dir(there));
    }
    both!("some-program", |c| c.env("PATH", ".").current_dir(there));
    // libc passes over what is too long.
    let long = format!("{}:{there}", "z/".repeat(3000));
    both!("some-program", |c| c.env("PATH", &long));
    both!("plain", |c| c.env("PATH", there));
    both!("none", |c| c.env("PATH", there));
    both!("sh", |c| c.env_clear().args(["-c", "echo $PATH"]));
    both!("true", |c| c.env_remove("PATH"));
    both!("nonexistent", |c| c.env_remove("PATH"));
}

#[test]
fn a_program_with_a_slash_is_not_searched() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path();
    fs::create_dir(there.join("sub")).unwrap();
    file(there, "sub/prog", "#!/bin/sh\npwd\n", 0o755);
    both!("sub/prog");
    both!("sub/prog", |c| c.env("PATH", there));
    let outcome = both!("sub/prog", |c| c.current_dir(there));
    assert_eq!(
        Path::new(outcome.text().trim()),
        there.canonicalize().unwrap()
    );
    both!("./sub/../sub/prog", |c| c.current_dir(there));
    both!(there.join("sub/prog"), |c| c.current_dir("/"));
    both!("./true", |c| c.current_dir("/bin"));
}

#[test]
fn what_is_no_program_fails_as_with_std() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path();
    let none = ErrorKind::NotFound;
    failed(&both!(""), none, Some(libc::ENOENT));
    failed(&both!("/nonexistent"), none, Some(libc::ENOENT));
    failed(&both!("nonexistent-program"), none, Some(libc::ENOENT));
    failed(
        &both!("/bin/sh/x"),
        ErrorKind::NotADirectory,
        Some(libc::ENOTDIR),
    );
    let denied = ErrorKind::PermissionDenied;
    failed(&both!("/tmp"), denied, Some(libc::EACCES));
    failed(&both!("/"), denied, Some(libc::EACCES));
    let plain = file(there, "plain", "#!/bin/sh\n", 0o644);
    failed(&both!(&plain), denied, Some(libc::EACCES));
    let lost = file(there, "lost", "#!/nonexistent\n", 0o755);
    failed(&both!(&lost), none, Some(libc::ENOENT));
    let text = file(there, "text", "echo no interpreter\n", 0o755);
    both!(&text);
    let ours = uring_process::Command::new(&text).output().unwrap_err();
    assert_eq!(crate::common::errno(&ours), Some(libc::ENOEXEC));
    assert!(ours.to_string().contains("#!/bin/sh"), "{ours}");
    both!(file(there, "empty", "", 0o755));
    std::os::unix::fs::symlink("loop", there.join("loop")).unwrap();
    both!(there.join("loop"));
    both!("x".repeat(300));
    both!(format!("/{}", "x".repeat(5000)));
    both!("true", |c| c.current_dir("/nonexistent"));
    both!("true", |c| c.current_dir("/bin/sh"));
    both!("true", |c| c.current_dir(""));
}

#[test]
fn nul_bytes_are_refused() {
    let invalid = |outcome| failed(&outcome, ErrorKind::InvalidInput, None);
    invalid(both!("tr\0ue"));
    invalid(both!("true", |c| c.arg("\0")));
    invalid(both!("true", |c| c.arg0("a\0")));
    invalid(both!("true", |c| c.env("a\0", "b")));
    invalid(both!("true", |c| c.env("a", "\0b")));
    invalid(both!("true", |c| c.current_dir("/\0")));
    let error = uring_process::Command::new("true")
        .arg("\0")
        .spawn()
        .unwrap_err();
    assert!(error.to_string().contains("an argument"), "{error}");
}

#[test]
fn too_much_is_too_much() {
    let big = "x".repeat(130_000);
    both!("true", |c| c.arg(&big));
    let too_long = ErrorKind::ArgumentListTooLong;
    let one = "x".repeat(140_000);
    failed(&both!("true", |c| c.arg(&one)), too_long, Some(libc::E2BIG));
    let many = vec!["y"; 3_000_000 / 10];
    failed(
        &both!("true", |c| c
            .args(&many)
            .env("A", &big)
            .args(vec![&big; 50])),
        too_long,
        Some(libc::E2BIG),
    );
    let wc = both!("sh", |c| c
        .args(["-c", "echo $#", "sh"])
        .args(vec!["z"; 20_000]));
    assert_eq!(wc.text(), "20000\n");
}

#[test]
fn errors_name_the_program_and_the_step() {
    use uring_process::{Command, Error, Stage};
    let step = |command: &mut Command| {
        let error = command.spawn().unwrap_err();
        assert!(error.to_string().starts_with("cannot run \""), "{error}");
        Error::of(&error).unwrap().stage()
    };
    assert_eq!(step(&mut Command::new("/nonexistent")), Some(Stage::Exec));
    let gone = step(Command::new("true").current_dir("/nonexistent"));
    assert_eq!(gone, Some(Stage::CurrentDir));
    assert_eq!(step(Command::new("true").arg("\0")), None);
    let kept = step(Command::new("true").rlimit(999, 1, 1));
    assert_eq!(kept, Some(Stage::Limits));
}

#[test]
fn getters_and_debug_are_stds() {
    macro_rules! same {
        (|$c:ident| $change:expr) => {{
            let mut std = std::process::Command::new("a b");
            let mut ours = uring_process::Command::new("a b");
            {
                #[allow(unused_imports)]
                use std::os::unix::process::CommandExt as _;
                let $c = &mut std;
                let _ = $change;
            }
            let $c = &mut ours;
            let _ = $change;
            assert_eq!(format!("{ours:?}"), format!("{std:?}"));
            assert_eq!(ours.get_program(), std.get_program());
            assert!(ours.get_args().eq(std.get_args()));
            assert!(ours.get_envs().eq(std.get_envs()));
            assert_eq!(ours.get_current_dir(), std.get_current_dir());
        }};
    }
    same!(|c| &c);
    same!(|c| c.arg("x").args(["y z", "\"", "é"]).current_dir("/d"));
    same!(|c| c.env("K", "v").env_remove("L").env("B", "1 2"));
    same!(|c| c.env("K", "v").env_clear().env("M", ""));
    same!(|c| c.arg0("zero").arg("one"));
}
