//! Requests without attributes, and how they fail.

use std::{fs::File, io::Read, os::fd::AsRawFd};

use uring_sys_ext::{
    RawSqe,
    discovery::{self, Candidates},
    opcode::Process,
    process::{Attributes, OpFlags, Stage},
};

use crate::guest::{
    Request, apart, assert_no_child, field, guest, number, one, ring, status, wait,
};

#[test]
fn discovery_finds_it() {
    guest!();
    let found = discovery::probe(&Candidates::default()).unwrap();
    assert_eq!(found.attributes_size, Attributes::SIZE_VER0);
    assert_eq!(found.clone_exec, None);
    assert_no_child();
}

#[test]
fn a_program_runs_and_is_a_child_of_ours() {
    guest!();
    let text = status().output();
    let ours = std::process::id().to_string();
    assert_eq!(field(&text, "PPid"), [ours]);
    assert_eq!(field(&text, "Name"), ["cat"]);
    assert_no_child();
}

#[test]
fn arguments_environment_and_exit_status_arrive() {
    guest!();
    let script = "echo $0 $1 $A; exit 0";
    let text = Request::new("/bin/sh", &["sh", "-c", script, "zero", "one"]).output();
    assert_eq!(text, "zero one b\n");
    assert_eq!(Request::new("/bin/sh", &["sh", "-c", "exit 7"]).ends(), 7);
    assert_eq!(
        Request::new("/bin/sh", &["sh", "-c", "kill -9 $$"]).ends(),
        128 + 9
    );
}

#[test]
fn no_attributes_are_needed() {
    guest!();
    let argv = [c"true".as_ptr(), std::ptr::null()];
    let entry = Process::new(number(), libc::AT_FDCWD, c"/bin/true".as_ptr())
        .argv(argv.as_ptr())
        .build();
    let pid = one(&mut ring(), entry);
    assert_eq!(wait(pid), 0);
    let entry = Process::new(number(), libc::AT_FDCWD, c"/no/such".as_ptr())
        .argv(argv.as_ptr())
        .build();
    assert_eq!(one(&mut ring(), entry), -libc::ENOENT);
    assert_no_child();
}

#[test]
fn the_directory_and_the_flags_are_those_of_execveat() {
    guest!();
    let bin = File::open("/bin").unwrap();
    let mut request = Request::new("true", &["true"]);
    request.dirfd = bin.as_raw_fd();
    assert_eq!(request.ends(), 0);

    let program = File::open("/bin/true").unwrap();
    let mut request = Request::new("", &["true"]);
    request.dirfd = program.as_raw_fd();
    request.exec_flags = libc::AT_EMPTY_PATH as u32;
    assert_eq!(request.ends(), 0);

    // Most programs here are links to one.
    let mut request = Request::new("/bin/sleep", &["sleep", "0"]);
    request.exec_flags = libc::AT_SYMLINK_NOFOLLOW as u32;
    request.fails(libc::ELOOP, Stage::Exec);

    let mut request = Request::new("true", &["true"]);
    request.dirfd = 999;
    request.fails(libc::EBADF, Stage::Exec);
}

#[test]
fn what_exec_refuses_leaves_nothing() {
    guest!();
    std::fs::write("/tmp/plain", "not a program").unwrap();
    std::fs::write("/tmp/odd", "\u{7f}ELF").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions("/tmp/odd", mode).unwrap();
    for (path, errno) in [
        ("/no/such", libc::ENOENT),
        ("/tmp/plain", libc::EACCES),
        ("/tmp", libc::EACCES),
        ("/tmp/odd", libc::ENOEXEC),
        ("/bin/true/x", libc::ENOTDIR),
    ] {
        Request::new(path, &["x"]).fails(errno, Stage::Exec);
    }
}

#[test]
fn a_failure_is_over_when_it_is_told() {
    guest!();
    // Without a look for children in between: a zombie would be found at the end.
    let mut ring = ring();
    for _ in 0..300 {
        assert_eq!(
            Request::new("/no/such", &["x"]).run_on(&mut ring),
            -libc::ENOENT
        );
        assert_no_child();
    }
}

#[test]
fn no_signal_tells_of_a_failure() {
    guest!();
    // In a process of one thread: any other that does not block the signal may take it, and ignores it then.
    assert!(apart(|| {
        // SAFETY: blocks a signal of this thread and asks for it; sets are initialised by the calls.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            let told_within = |seconds| {
                let time = libc::timespec {
                    tv_sec: seconds,
                    tv_nsec: 0,
                };
                libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time)
            };
            while told_within(0) > 0 {}
            Request::new("/no/such", &["x"]).fails(libc::ENOENT, Stage::Exec);
            assert!(told_within(0) < 0);
            // Of a program that has run it does.
            let mut request = Request::of_true();
            let pid = request.run();
            assert!(pid > 0);
            assert_eq!(told_within(60), libc::SIGCHLD);
            assert_eq!(wait(pid), 0);
        }
    }));
}

#[test]
fn paths_that_cannot_be_read() {
    guest!();
    Request::new("", &["x"]).fails(libc::ENOENT, Stage::Path);
    Request::new(&"x".repeat(5000), &["x"]).fails(libc::ENAMETOOLONG, Stage::Path);
    let mut attributes = Attributes::new();
    for wild in [0usize, 1, usize::MAX - 8, 0xffff_8880_0000_0000] {
        let entry = Process::new(number(), -1, std::ptr::without_provenance(wild))
            .attributes(&raw mut attributes)
            .build();
        assert_eq!(one(&mut ring(), entry), -libc::EFAULT);
        assert_eq!(attributes.failed_stage(), Some(Stage::Path));
    }
}

#[test]
fn arrays_that_cannot_be_read() {
    guest!();
    for wild in [1usize, 0xffff_8880_0000_0000] {
        let mut attributes = Attributes::new();
        let wild = std::ptr::without_provenance(wild);
        let entry = || Process::new(number(), -1, c"/bin/true".as_ptr());
        let at = &raw mut attributes;
        for entry in [
            entry().argv(wild).attributes(at),
            entry().envp(wild).attributes(at),
        ] {
            assert_eq!(one(&mut ring(), entry.build()), -libc::EFAULT);
            assert_eq!(attributes.failed_stage(), Some(Stage::Exec));
            assert_no_child();
        }
    }
}

#[test]
fn reserved_fields_and_unknown_bits_are_refused() {
    guest!();
    let mut request = Request::of_true();
    let good = RawSqe::from(request.entry());
    let bad = [
        RawSqe {
            ioprio: 1 << 2,
            ..good
        },
        RawSqe {
            buf_index: 1,
            ..good
        },
        RawSqe {
            file_index: 1,
            ..good
        },
        RawSqe {
            op_flags: 1,
            ..good
        },
        RawSqe {
            op_flags: 0x8000_0000,
            ..good
        },
        RawSqe { flags: 1, ..good }, // IOSQE_FIXED_FILE
        RawSqe { len: 95, ..good },
        RawSqe { len: 0, ..good },
        RawSqe {
            personality: 77,
            ..good
        },
    ];
    for raw in bad {
        assert_eq!(one(&mut ring(), raw.into()), -libc::EINVAL, "{raw:?}");
    }
    let select = RawSqe {
        flags: 1 << 5,
        ..good
    };
    assert_eq!(one(&mut ring(), select.into()), -libc::EOPNOTSUPP);
    assert_no_child();
}

#[test]
fn the_second_half_of_a_wide_entry_must_be_zero() {
    guest!();
    let mut ring = io_uring::IoUring::<io_uring::squeue::Entry128>::builder()
        .build(8)
        .unwrap();
    for (byte, expected) in [(0, None), (1, Some(-libc::EINVAL))] {
        let mut request = Request::of_true();
        let mut wide = uring_sys_ext::RawSqe128::from(RawSqe::from(request.entry()));
        wide.extension[63] = byte;
        // SAFETY: the request lives until its completion.
        unsafe { ring.submission().push(&wide.into()) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        let result = ring.completion().next().unwrap().result();
        match expected {
            Some(expected) => assert_eq!(result, expected),
            None => assert_eq!(wait(result), 0),
        }
    }
}

#[test]
fn a_probe_makes_nothing() {
    guest!();
    let mut request = Request::of_true().map(999, 1);
    let raw = RawSqe::from(request.entry());
    let probe = RawSqe {
        ioprio: OpFlags::PROBE.bits(),
        ..raw
    };
    assert_eq!(one(&mut ring(), probe.into()), 0);
    assert_eq!(request.attributes.failed_stage(), Some(Stage::None));
    assert_no_child();
}

#[test]
fn a_script_runs_by_its_interpreter() {
    guest!();
    std::fs::write("/tmp/script", "#!/bin/sh\nexit 5\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions("/tmp/script", mode).unwrap();
    assert_eq!(Request::new("/tmp/script", &["script"]).ends(), 5);
    // One without an interpreter fails, and leaves nothing.
    std::fs::write("/tmp/script", "#!/no/such\n").unwrap();
    Request::new("/tmp/script", &["script"]).fails(libc::ENOENT, Stage::Exec);
}

#[test]
fn the_parents_memory_and_attributes_stay() {
    guest!();
    // SAFETY: reads a property of this process.
    let dumpable = || unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
    let before = dumpable();
    let mut maps = String::new();
    File::open("/proc/self/maps")
        .unwrap()
        .read_to_string(&mut maps)
        .unwrap();
    assert_eq!(before, 1);
    let mut request = Request::of_true()
        .with(|a| a.uid(1234).gid(1234))
        .groups(&[7]);
    assert_eq!(request.ends(), 0);
    let mut request = Request::new("/no/such", &["x"]).with(|a| a.uid(1234).gid(1234));
    request.fails(libc::ENOENT, Stage::Exec);
    assert_eq!(dumpable(), before);
    assert!(!maps.is_empty());
}
