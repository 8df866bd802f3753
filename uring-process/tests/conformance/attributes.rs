//! What the child is besides its program.

use std::os::unix::process::ExitStatusExt;

use uring_process::{Command, Error, Stage};

use crate::{
    both,
    common::{errno, filter, root},
};

/// What the kernel says of a child. Without two of the C library's own signals, which it lets
/// std's child ignore.
const STATE: &str = "grep -E '^(Umask|Uid|Gid|Groups|Sig(Blk|Ign|Cgt)|Cap|NoNewPrivs|Seccomp:)' \
                     /proc/self/status | sed -E '/^SigIgn/s/..(.{7})$/__\\1/'";

/// Runs a shell's words in a changed command; what it prints.
fn says(script: &str, change: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    change(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_plain_child_is_as_stds() {
    both!("sh", |c| c.args(["-c", STATE]));
    both!("cat", |c| c.arg("/proc/self/limits"));
    both!("sh", |c| c.args(["-c", "ulimit -a; nice; umask; pwd"]));
}

#[test]
fn groups_and_sessions() {
    both!("sh", |c| c
        .args([
            "-c",
            "cut -d' ' -f5 /proc/$$/stat | grep -qx $$ && echo leads"
        ])
        .process_group(0));
    both!("true", |c| c.process_group(-5));
    both!("true", |c| c.process_group(999_999_999));
    let leads = "read pid name state parent group session rest < /proc/$$/stat; \
                 test $pid = $session && test $pid = $group && echo leads";
    assert_eq!(says(leads, |c| _ = c.setsid(true)), "leads");
    let mut leader = Command::new("sleep")
        .arg("60")
        .process_group(0)
        .spawn()
        .unwrap();
    let group = leader.id() as i32;
    let joined = says("cut -d' ' -f5 /proc/$$/stat", |c| {
        _ = c.process_group(group)
    });
    assert_eq!(joined, group.to_string());
    leader.kill().unwrap();
    leader.wait().unwrap();
}

#[test]
fn umask_nice_and_limits() {
    assert_eq!(says("umask", |c| _ = c.umask(0o137)), "0137");
    assert_eq!(says("nice", |c| _ = c.nice(7)), "7");
    let limits = says("ulimit -n; ulimit -Hn; ulimit -c", |c| {
        c.rlimit(libc::RLIMIT_NOFILE, 20, 40)
            .rlimit(libc::RLIMIT_CORE, 0, 0);
    });
    assert_eq!(limits, "20\n40\n0");
    if root() {
        assert_eq!(says("nice", |c| _ = c.nice(-3)), "-3");
    }
    let error = Command::new("true")
        .rlimit(libc::RLIMIT_NOFILE, 5, 4)
        .spawn()
        .unwrap_err();
    assert_eq!(errno(&error), Some(libc::EINVAL));
    assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Limits));
}

#[test]
fn no_new_privs_and_seccomp() {
    let field = |name: &str, change: fn(&mut Command)| {
        says(&format!("grep {name}: /proc/self/status | cut -f2"), change)
    };
    assert_eq!(
        field("NoNewPrivs", |_| ()),
        field("NoNewPrivs", |c| _ = c.env("A", ""))
    );
    assert_eq!(field("NoNewPrivs", |c| _ = c.no_new_privs()), "1");
    let forbid = |c: &mut Command| {
        c.no_new_privs()
            .seccomp_filter(&filter(&[libc::SYS_mkdir, libc::SYS_mkdirat], libc::EXDEV));
    };
    assert_eq!(field("Seccomp", forbid), "2");
    let mut mkdir = Command::new("mkdir");
    forbid(mkdir.arg("/tmp/uring-process-must-not-be"));
    let output = mkdir.output().unwrap();
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("ross-device"),
        "{output:?}"
    );

    // The failure is told from within the filter.
    let mut missing = Command::new("/nonexistent");
    forbid(&mut missing);
    assert_eq!(errno(&missing.spawn().unwrap_err()), Some(libc::ENOENT));
    // A filter that is none.
    let error = Command::new("true")
        .no_new_privs()
        .seccomp_filter(&[])
        .spawn()
        .unwrap_err();
    assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Confine));
    // One that forbids even the exec.
    let none = filter(&[libc::SYS_execve], libc::EPERM);
    let error = Command::new("true")
        .no_new_privs()
        .seccomp_filter(&none)
        .spawn()
        .unwrap_err();
    assert_eq!(errno(&error), Some(libc::EPERM));
    assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Exec));
}

#[test]
fn a_filter_that_kills_shows_as_the_status() {
    let mut code = filter(&[libc::SYS_mkdir, libc::SYS_mkdirat], 0);
    for instruction in &mut code {
        if instruction.code == 0x06 && instruction.k != libc::SECCOMP_RET_ALLOW {
            instruction.k = libc::SECCOMP_RET_KILL_PROCESS;
        }
    }
    let status = Command::new("mkdir")
        .arg("/tmp/uring-process-must-not-be")
        .rlimit(libc::RLIMIT_CORE, 0, 0)
        .no_new_privs()
        .seccomp_filter(&code)
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(libc::SIGSYS));
}

#[test]
fn signal_mask_and_sigpipe() {
    let field = |name: &str, change: &dyn Fn(&mut Command)| {
        let text = says(&format!("grep {name}: /proc/self/status | cut -f2"), change);
        u64::from_str_radix(&text, 16).unwrap()
    };
    let usr = 1 << (libc::SIGUSR1 - 1) | 1 << (libc::SIGTERM - 1) | 1 << 39;
    assert_eq!(field("SigBlk", &|c| _ = c.signal_mask(usr)), usr);
    assert_eq!(field("SigBlk", &|c| _ = c.signal_mask(0)), 0);
    let pipe = 1 << (libc::SIGPIPE - 1);
    // Rust's runtime ignores it in this process.
    assert_eq!(field("SigIgn", &|_| ()) & pipe, 0);
    assert_eq!(field("SigIgn", &|c| _ = c.keep_sigpipe(true)) & pipe, pipe);
}

#[test]
fn the_directory_and_the_root() {
    both!("pwd", |c| c.current_dir("/proc"));
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path();
    // A root with one program, which needs no libraries: the launcher's stand-in is a hard link to
    // a static one, where there is such.
    std::fs::create_dir_all(there.join("in")).unwrap();
    let mut missing = Command::new("/bin/sh");
    let error = missing.chroot(there).spawn().unwrap_err();
    assert_eq!(
        errno(&error),
        Some(libc::ENOENT),
        "the program is looked up within"
    );
    let error = Command::new("true")
        .chroot("/nonexistent")
        .spawn()
        .unwrap_err();
    assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Chroot));
    let error = Command::new("/x")
        .chroot(there)
        .current_dir("/not")
        .spawn()
        .unwrap_err();
    assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::CurrentDir));
    // The same root again: the directory becomes "/", unless one is set.
    assert_eq!(says("pwd", |c| _ = c.chroot("/")), "/");
    assert_eq!(
        says("pwd", |c| _ = c.chroot("/").current_dir("/proc")),
        "/proc"
    );
    assert_eq!(
        says("pwd", |c| _ = c.current_dir("/proc").chroot("/")),
        "/proc"
    );
}

#[test]
fn all_at_once() {
    let text = says(
        "umask; nice; ulimit -n; pwd; cut -d' ' -f6 /proc/$$/stat | grep -qx $$ && echo own",
        |c| {
            c.umask(0o77)
                .nice(5)
                .rlimit(libc::RLIMIT_NOFILE, 30, 30)
                .current_dir("/usr")
                .setsid(true)
                .no_new_privs()
                .env("A", "1");
        },
    );
    assert_eq!(text, "0077\n5\n30\n/usr\nown");
}
