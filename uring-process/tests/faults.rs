//! Limits reached and calls refused: an error, nothing left behind, nothing hangs.

mod common;

use std::{fs, io};

use common::{again_with_all, confine, forced, in_child, is_root, refusing, says, sh};
use uring_process::{Command, Error, Stage, Stdio};

again_with_all!();

#[test]
fn a_full_cgroup_is_would_block_and_passes() {
    let Some(cgroup) = common::Cgroup::new("full") else {
        return;
    };
    if let Err(error) = fs::write(cgroup.path().join("pids.max"), "1") {
        println!("SKIP: no pids controller in cgroup v2: {error}");
        return;
    }
    let plan = Command::new("sleep")
        .arg("60")
        .cgroup(cgroup.open())
        .plan()
        .unwrap();
    let mut first = plan.spawn().unwrap();
    let error = plan.spawn().map(drop);
    first.kill().unwrap();
    first.wait().unwrap();
    let error = error.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let mut second = plan.spawn().unwrap();
    second.kill().unwrap();
    second.wait().unwrap();
}

#[test]
fn a_limit_of_processes_is_would_block() {
    in_child("a_limit_of_processes_is_would_block", || {
        if is_root() {
            // Root has no such limit.
            // SAFETY: the process is the test's own.
            unsafe { assert_eq!(libc::setresuid(54321, 54321, 54321), 0) };
        }
        let limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: as above.
        unsafe { assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit), 0) };
        let error = Command::new("true").spawn().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Clone));
        assert!(
            error.to_string().contains("RLIMIT_NPROC"),
            "the way out: {error}"
        );
    });
}

#[test]
fn descriptors_may_run_out_at_each_step() {
    in_child("descriptors_may_run_out_at_each_step", || {
        // What is opened once and kept is opened now.
        sh("true").uid(0).output().unwrap();
        let used = common::open_fds();
        let mut outcomes = Vec::new();
        for spare in 0..16u64 {
            let limit = libc::rlimit {
                rlim_cur: used as u64 + spare,
                rlim_max: 4096,
            };
            // SAFETY: the process is the test's own.
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
            let result = Command::new("cat").stdin(Stdio::piped()).output();
            let limit = libc::rlimit {
                rlim_cur: 4096,
                rlim_max: 4096,
            };
            // SAFETY: as above.
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
            assert_eq!(
                common::open_fds(),
                used,
                "with {spare} to spare: {result:?}"
            );
            match &result {
                Ok(output) => assert!(output.status.success()),
                Err(error) => {
                    let errno = Error::of(error).unwrap().raw_os_error();
                    assert!(matches!(errno, Some(libc::EMFILE | libc::EBADF)), "{error}");
                }
            }
            outcomes.push(result.is_ok());
            common::no_zombie_stays();
        }
        assert!(
            !outcomes[0] && outcomes[15] && outcomes.is_sorted(),
            "{outcomes:?}"
        );
    });
}

#[test]
fn clone3_may_be_refused() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        in_child("clone3_may_be_refused", || {
            confine(&refusing(&[(libc::SYS_clone3, errno)]));
            assert_eq!(says(&mut sh("echo x")), "x\n");
            assert_eq!(sh("exit 4").status().unwrap().code(), Some(4));
            assert!(Command::new("/nonexistent").spawn().is_err());
            if is_root() {
                assert_eq!(says(sh("id -u").uid(12345)), "12345\n");
            }
            common::no_zombie_stays();
        });
    }
}

#[test]
fn close_range_may_be_refused() {
    in_child("close_range_may_be_refused", || {
        confine(&refusing(&[(libc::SYS_close_range, libc::ENOSYS)]));
        // SAFETY: makes a descriptor that nobody else has, without close-on-exec.
        let leaky = unsafe { libc::fcntl(0, libc::F_DUPFD, 30) };
        assert!(leaky >= 30);
        let script = format!("[ -e /proc/self/fd/{leaky} ] && echo open || echo closed");
        assert_eq!(says(&mut sh(&script)), "closed\n");
        assert!(Command::new("/nonexistent").spawn().is_err());
    });
}

#[test]
fn io_uring_may_be_refused() {
    in_child("io_uring_may_be_refused", || {
        confine(&refusing(&[(libc::SYS_io_uring_setup, libc::EPERM)]));
        assert!(io_uring::IoUring::new(8).is_err());
        assert_eq!(says(&mut sh("echo x")), "x\n");
    });
}

#[test]
fn the_launcher_may_be_refused() {
    in_child("the_launcher_may_be_refused", || {
        if !is_root() {
            println!("SKIP: changing ids needs root");
            return;
        }
        confine(&refusing(&[(libc::SYS_memfd_create, libc::EPERM)]));
        assert_eq!(
            says(sh("id -u; id -g").uid(12345).gid(23456)),
            "12345\n23456\n"
        );
        // SAFETY: takes no further argument.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 1);
    });
}

#[test]
fn pidfd_and_futex_waits_survive_signals() {
    // A handler without SA_RESTART interrupts every wait of ours.
    extern "C" fn nothing(_: i32) {}
    in_child("pidfd_and_futex_waits_survive_signals", || {
        // SAFETY: the handler does nothing; the process is the test's own.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        }
        // SAFETY: has no preconditions.
        let thread = unsafe { libc::pthread_self() };
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let noise = std::thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    // SAFETY: the thread outlives this one.
                    unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
            }
        });
        for _ in 0..20 {
            let output = sh("sleep 0.01; echo x; echo y >&2").output().unwrap();
            assert_eq!(
                (output.stdout, output.stderr),
                (b"x\n".to_vec(), b"y\n".to_vec())
            );
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        noise.join().unwrap();
    });
}

#[test]
fn a_written_program_is_never_busy() {
    if forced().contains("fork") || forced().contains("pipe") {
        // There the table is copied, as with std.
        return;
    }
    // Another thread's spawns must not hold the file open that this one writes and then runs.
    let dir = tempfile::TempDir::new().unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let other = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let plan = Command::new("/bin/true").plan().unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                plan.spawn().unwrap().wait().unwrap();
            }
        }
    });
    let mut busy = 0;
    for n in 0..300 {
        let path = common::write_file(&dir, &format!("p{n}"), "#!/bin/true\n", 0o755);
        match Command::new(&path).status() {
            Ok(status) => assert!(status.success()),
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => busy += 1,
            Err(error) => panic!("{error}"),
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    other.join().unwrap();
    assert_eq!(busy, 0);
}
