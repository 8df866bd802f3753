//! `Command` and `Child` do as std's do, on every executor.

mod common;

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    process as std_process,
};

use common::{again_with_all, in_child, says, sh, write_file};
use tempfile::TempDir;
use uring_process::{Command, Error, Stage, Stdio};

again_with_all!();

#[test]
fn arguments_arrive_as_given() {
    let args = ["", "a b", "$HOME", "*", "\"", "\n", "ä"];
    let text = says(Command::new("printf").arg("%s|").args(args));
    assert_eq!(text, args.map(|arg| format!("{arg}|")).concat());
    let odd = OsStr::from_bytes(b"\xff\xfe");
    let output = Command::new("printf").arg("%s").arg(odd).output().unwrap();
    assert_eq!(output.stdout, odd.as_bytes());
    let many: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    assert_eq!(
        says(Command::new("echo").args(&many)),
        many.join(" ") + "\n"
    );
    assert_eq!(says(sh("echo $0").arg0("zero")), "zero\n");
    assert_eq!(
        says(Command::new("cat").arg0("dog").arg("/proc/self/comm")),
        "cat\n"
    );
}

#[test]
fn environment_is_ours_with_the_changes() {
    let env = |command: &mut Command| -> Vec<String> {
        let mut lines: Vec<String> = says(command).lines().map(String::from).collect();
        lines.sort();
        lines
    };
    let std = |change: fn(&mut std_process::Command) -> &mut std_process::Command| {
        let output = change(&mut std_process::Command::new("/usr/bin/env"))
            .output()
            .unwrap();
        let mut lines: Vec<String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(String::from)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(env(&mut Command::new("/usr/bin/env")), std(|c| c));
    assert_eq!(
        env(Command::new("/usr/bin/env")
            .env("A", "1")
            .env_remove("PATH")),
        std(|c| c.env("A", "1").env_remove("PATH"))
    );
    assert_eq!(
        env(Command::new("/usr/bin/env")
            .env("A", "1")
            .env_clear()
            .envs([("B", ""), ("C", "x=y")])),
        ["B=", "C=x=y"]
    );
    assert!(env(Command::new("/usr/bin/env").env_clear()).is_empty());
}

#[test]
fn programs_are_searched_in_the_childs_path() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_file(&one, "tool", "#!/bin/sh\necho one\n", 0o755);
    write_file(&two, "tool", "#!/bin/sh\necho two\n", 0o755);
    write_file(&one, "denied", "#!/bin/sh\n", 0o644);
    write_file(&two, "denied", "#!/bin/sh\necho second\n", 0o755);
    write_file(&one, "only-denied", "#!/bin/sh\n", 0o644);
    let path = format!(
        "/nonexistent:{}:{}:/bin",
        one.path().display(),
        two.path().display()
    );
    assert_eq!(says(Command::new("tool").env("PATH", &path)), "one\n");
    assert_eq!(says(Command::new("denied").env("PATH", &path)), "second\n");
    let kind = |program: &str| {
        let ours = Command::new(program)
            .env("PATH", &path)
            .output()
            .unwrap_err()
            .kind();
        let std = std_process::Command::new(program)
            .env("PATH", &path)
            .output()
            .unwrap_err();
        assert_eq!(ours, std.kind(), "{program}");
        ours
    };
    assert_eq!(kind("only-denied"), io::ErrorKind::PermissionDenied);
    assert_eq!(kind("absent"), io::ErrorKind::NotFound);
    // Relative to the child's directory.
    assert_eq!(
        says(Command::new("./tool").current_dir(two.path())),
        "two\n"
    );
    // Without a PATH there are still /bin and /usr/bin.
    assert_eq!(says(Command::new("echo").env_clear().arg("x")), "x\n");
}

#[test]
fn what_cannot_run_says_so_as_std_does() {
    let dir = TempDir::new().unwrap();
    let text = write_file(&dir, "text", "no program\n", 0o755);
    let plain = write_file(&dir, "plain", "#!/bin/sh\n", 0o644);
    let interpreter = write_file(&dir, "interpreter", "#!/nonexistent/sh\n", 0o755);
    let programs = [
        "/nonexistent".as_ref(),
        "nonexistent-program".as_ref(),
        "".as_ref(),
        dir.path(),
        text.as_path(),
        plain.as_path(),
        interpreter.as_path(),
        "/etc/passwd/x".as_ref(),
    ];
    for program in programs {
        let ours = Command::new(program).spawn().unwrap_err();
        let std = std_process::Command::new(program).spawn().unwrap_err();
        assert_eq!(ours.kind(), std.kind(), "{program:?}");
        let error = Error::of(&ours).unwrap();
        assert_eq!(error.raw_os_error(), std.raw_os_error(), "{program:?}");
        assert_eq!(error.stage(), Some(Stage::Exec));
        assert!(ours.to_string().contains(&format!("{program:?}")), "{ours}");
    }
    assert!(
        Command::new(&text)
            .spawn()
            .unwrap_err()
            .to_string()
            .contains("#!/bin/sh"),
        "the way out"
    );
    let missing = Command::new("true")
        .current_dir("/nonexistent")
        .spawn()
        .unwrap_err();
    assert_eq!(
        Error::of(&missing).unwrap().stage(),
        Some(Stage::CurrentDir)
    );
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    let long = "x".repeat(200_000);
    let too_big = Command::new("true")
        .args(vec![&long; 100])
        .spawn()
        .unwrap_err();
    assert_eq!(too_big.kind(), io::ErrorKind::ArgumentListTooLong);
    common::no_zombie_stays();
}

#[test]
fn a_nul_byte_is_refused_wherever_it_is() {
    let kind = |command: &mut Command| command.spawn().unwrap_err().kind();
    let invalid = io::ErrorKind::InvalidInput;
    assert_eq!(kind(&mut Command::new("tr\0ue")), invalid);
    assert_eq!(kind(Command::new("true").arg("a\0b")), invalid);
    assert_eq!(kind(Command::new("true").arg0("a\0b")), invalid);
    assert_eq!(kind(Command::new("true").env("a\0b", "")), invalid);
    assert_eq!(kind(Command::new("true").env("a", "\0")), invalid);
    assert_eq!(kind(Command::new("true").current_dir("/\0")), invalid);
    assert_eq!(kind(Command::new("true").chroot("/\0")), invalid);
}

#[test]
fn statuses_are_stds() {
    for script in [
        "exit 0",
        "exit 1",
        "exit 255",
        "kill -9 $$",
        "kill -15 $$",
        "kill -11 $$",
    ] {
        let std = std_process::Command::new("sh")
            .args(["-c", script])
            .status()
            .unwrap();
        let ours = sh(script).status().unwrap();
        // Whether a core is dumped is the host's affair.
        assert_eq!(ours.into_raw() & !0x80, std.into_raw() & !0x80, "{script}");
    }
}

#[test]
fn streams_go_where_they_are_sent() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("out");
    let mut child = sh("cat; echo err >&2")
        .stdin(Stdio::piped())
        .stdout(File::create(&path).unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    assert!(child.stdout.is_none());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stderr, b"err\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "through");

    let mut first = Command::new("echo")
        .arg("piped")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(
        says(Command::new("cat").stdin(first.stdout.take().unwrap())),
        "piped\n"
    );
    first.wait().unwrap();

    assert_eq!(says(Command::new("cat").stdin(Stdio::null())), "");
    // Our own standard error as its standard output.
    let status = sh("test -e /proc/self/fd/1")
        .stdout(io::stderr())
        .status()
        .unwrap();
    assert!(status.success());
    // Nothing to read by default.
    assert_eq!(says(&mut Command::new("cat")), "");
}

#[test]
fn large_outputs_do_not_block() {
    let script = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2";
    let output = sh(script).output().unwrap();
    assert_eq!(
        (output.stdout.len(), output.stderr.len()),
        (1_000_000, 1_000_000)
    );
    let output = sh("head -c 1000000 /dev/zero")
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (1_000_000, 0));
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(&vec![7; 1_000_000]));
    let mut back = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut back).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(back, vec![7; 1_000_000]);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_child_is_waited_for_asked_and_killed() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(
        child.wait().unwrap().signal(),
        Some(libc::SIGKILL),
        "remembered"
    );
    assert_eq!(
        child.try_wait().unwrap().unwrap().signal(),
        Some(libc::SIGKILL)
    );
    child.kill().unwrap();

    let mut child = sh("exit 5").spawn().unwrap();
    common::eventually("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(5));

    // Waiting closes its standard input, so that it can end.
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_dropped_child_goes_on_as_with_std() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("done");
    let child = sh(&format!("sleep 0.1; echo yes > {}", path.display()))
        .spawn()
        .unwrap();
    let pidfd = child.into_pidfd();
    common::eventually("it wrote", || {
        std::fs::read_to_string(&path).is_ok_and(|t| t == "yes\n")
    });
    // Not to leave a zombie to the other tests.
    // SAFETY: a child of ours that nobody else waits for.
    unsafe {
        use std::os::fd::AsRawFd;
        let mut info = std::mem::zeroed();
        let id = pidfd.as_raw_fd() as u32;
        assert_eq!(
            libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED),
            0
        );
    }
}

#[test]
fn a_start_does_not_wait() {
    let mut starting = sh("exit 6").start().unwrap();
    assert!(starting.id() > 0);
    let mut child = loop {
        match starting.try_wait().unwrap() {
            Ok(child) => break child,
            Err(again) => starting = again,
        }
    };
    assert_eq!(child.wait().unwrap().code(), Some(6));
    let error = Command::new("/nonexistent")
        .start()
        .unwrap()
        .wait()
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_plan_keeps_what_it_was_made_with() {
    let mut command = sh("echo $WHO");
    let plan = command.env("WHO", "plan").capture_plan().unwrap();
    command.env("WHO", "later");
    for _ in 0..3 {
        let output = plan.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(output.stdout, b"plan\n");
    }
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let plan = plan.clone();
            std::thread::spawn(move || {
                for _ in 0..20 {
                    let output = plan.spawn().unwrap().wait_with_output().unwrap();
                    assert_eq!(output.stdout, b"plan\n");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn closures_run_in_the_child_and_their_error_is_the_starts() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().to_owned();
    let mut command = Command::new("pwd");
    // SAFETY: one system call, on memory made before.
    unsafe {
        let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
        command.pre_exec(move || match libc::chdir(path.as_ptr()) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    let physical = path.canonicalize().unwrap();
    assert_eq!(says(&mut command).trim_end(), physical.to_str().unwrap());
    assert_ne!(std::env::current_dir().unwrap(), physical);

    // SAFETY: nothing but an error.
    unsafe { command.pre_exec(|| Err(io::Error::from_raw_os_error(libc::EXDEV))) };
    let error = command.spawn().unwrap_err();
    let error = Error::of(&error).unwrap();
    assert_eq!(
        (error.stage(), error.raw_os_error()),
        (Some(Stage::PreExec), Some(libc::EXDEV))
    );
    common::no_zombie_stays();
}

#[test]
fn exec_replaces_the_process() {
    in_child("exec_replaces_the_process", || {
        let error = Command::new("/nonexistent").arg("x").exec();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        // What the harness looks for; then this process is another program.
        println!("\ntest result: ok. 1 passed; 0 failed");
        let error = sh("exit $CODE").env("CODE", "0").exec();
        panic!("{error}");
    });
}

#[test]
fn getters_and_debug_are_stds() {
    let mut ours = Command::new("prog");
    let mut std = std_process::Command::new("prog");
    ours.args(["a", "b c"])
        .env("K", "V")
        .env_remove("R")
        .current_dir("/tmp");
    std.args(["a", "b c"])
        .env("K", "V")
        .env_remove("R")
        .current_dir("/tmp");
    assert_eq!(ours.get_program(), std.get_program());
    assert!(ours.get_args().eq(std.get_args()));
    assert!(ours.get_envs().eq(std.get_envs()));
    assert_eq!(ours.get_current_dir(), std.get_current_dir());
    assert_eq!(format!("{ours:?}"), format!("{std:?}"));
    let all = format!("{:#?}", ours.uid(7).stdin(Stdio::null()));
    assert!(all.contains("stdin") && all.contains("uid: Some"), "{all}");
}
