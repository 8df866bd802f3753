//! What somebody with a ring could try, and that it fails.

use std::{
    fs::{self, File},
    io,
    mem::offset_of,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
};

use io_uring::{IoUring, opcode::AsyncCancel, register::Restriction};
use uring_sys_ext::process::{Attributes, Stage};

use crate::guest::{
    Request, Trap, apart, assert_no_child, become_user, children, field, guest, number, one, push,
    results, ring, status, wait,
};

#[test]
fn a_personality_is_used_only_where_it_is_asked_for() {
    guest!();
    let mut ring = ring();
    // SAFETY: ids of this process, and back.
    let id = unsafe {
        assert_eq!(libc::setresgid(222, 222, 0), 0);
        assert_eq!(libc::setresuid(111, 111, 0), 0);
        let id = ring.submitter().register_personality().unwrap();
        assert_eq!(libc::setresuid(0, 0, 0), 0);
        assert_eq!(libc::setresgid(0, 0, 0), 0);
        // That has made this process undumpable, which other tests look at.
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1), 0);
        id
    };
    let run = |ring: &mut IoUring, personality: u16, path: &str| {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut request =
            Request::new(path, &["cat", "/proc/self/status"]).map(writer.as_raw_fd(), 1);
        let entry = request.entry().personality(personality);
        let pid = one(ring, entry);
        drop(writer);
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).unwrap();
        if pid > 0 {
            assert_eq!(wait(pid), 0);
        }
        (pid, text)
    };
    for _ in 0..3 {
        let (_, text) = run(&mut ring, id, "/bin/cat");
        assert_eq!(field(&text, "Uid")[..2], ["111", "111"]);
        assert_eq!(field(&text, "Gid")[..2], ["222", "222"]);
        assert_eq!(run(&mut ring, id, "/no/such").0, -libc::ENOENT);
        let (_, text) = run(&mut ring, 0, "/bin/cat");
        assert_eq!(field(&text, "Uid"), ["0"; 4]);
        assert_eq!(field(&text, "Gid"), ["0"; 4]);
    }
    // This process has kept its own.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(field(&own, "Uid"), ["0"; 4]);
    ring.submitter().unregister_personality(id).unwrap();
    assert_eq!(run(&mut ring, id, "/bin/cat").0, -libc::EINVAL);
}

#[test]
fn no_new_privileges_is_inherited() {
    guest!();
    use std::os::unix::fs::{PermissionsExt, chown};
    fs::copy("/bin/busybox", "/tmp/setuid").unwrap();
    chown("/tmp/setuid", Some(4321), None).unwrap();
    fs::set_permissions("/tmp/setuid", PermissionsExt::from_mode(0o4755)).unwrap();
    assert!(apart(|| {
        // SAFETY: an attribute of this process.
        let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(set, 0);
        let request = Request::new("/tmp/setuid", &["cat", "/proc/self/status"]);
        let text = request.with(|a| a.uid(1000)).output();
        assert_eq!(field(&text, "NoNewPrivs"), ["1"]);
        assert_eq!(field(&text, "Uid"), ["1000"; 4]);
    }));
}

/// Lets system calls through, but for one whose lower half of the first argument has a bit of the
/// mask, or any with a mask of 0.
fn forbid(call: libc::c_long, mask: u32) {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let give = libc::BPF_RET | libc::BPF_K;
    let nr = offset_of!(libc::seccomp_data, nr) as u32;
    let first = offset_of!(libc::seccomp_data, args) as u32;
    let test = if mask == 0 {
        op(libc::BPF_JMP | libc::BPF_JA, 0, 0, 0)
    } else {
        op(libc::BPF_JMP | libc::BPF_JSET, 0, 1, mask)
    };
    let mut program = [
        op(load, 0, 0, nr),
        op(libc::BPF_JMP | libc::BPF_JEQ, 0, 3, call as u32),
        op(load, 0, 0, first),
        test,
        op(give, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        op(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: concerns this process only; the filter is copied by the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter),
            0
        );
    }
}

#[test]
fn a_filter_is_inherited() {
    guest!();
    assert!(apart(|| {
        forbid(libc::SYS_chdir, 0);
        assert_eq!(field(&status().output(), "Seccomp"), ["2"]);
        let text = Request::new("/bin/sh", &["sh", "-c", "cd / || echo no"]).output();
        assert!(text.contains("no"), "{text}");
    }));
}

#[test]
fn a_filter_against_the_system_call_is_one_against_the_operation() {
    guest!();
    let none = Attributes::new();
    let groups = [1u32];
    let here = File::open("/").unwrap();
    for (call, attributes, stage) in [
        (libc::SYS_execveat, none, Stage::Exec),
        (libc::SYS_clone, none, Stage::Clone),
        (libc::SYS_setresuid, none.uid(1), Stage::Uid),
        (libc::SYS_setresgid, none.gid(1), Stage::Gid),
        (
            libc::SYS_setgroups,
            none.groups(groups.as_ptr(), 1),
            Stage::Groups,
        ),
        (libc::SYS_fchdir, none.cwd_fd(here.as_raw_fd()), Stage::Cwd),
        (libc::SYS_setsid, none.setsid(), Stage::Session),
        (libc::SYS_setpgid, none.pgid(0), Stage::ProcessGroup),
    ] {
        let worked = apart(|| {
            forbid(call, 0);
            Request::of_true()
                .with(|_| attributes)
                .fails(libc::EPERM, stage);
            if attributes.flags != 0 {
                assert_eq!(Request::of_true().ends(), 0);
            }
        });
        assert!(worked, "{stage:?}");
    }
    // One that looks at the flags of clone(2), as those against namespaces do.
    assert!(apart(|| {
        forbid(libc::SYS_clone, libc::CLONE_NEWUSER as u32);
        assert_eq!(Request::of_true().ends(), 0);
        Request::of_true()
            .with(|a| a.namespaces(libc::CLONE_NEWUSER as u64))
            .fails(libc::EPERM, Stage::Clone);
    }));
}

#[test]
fn nobody_looks_into_a_child_that_is_not_born() {
    guest!();
    let trap = Trap::new();
    let mut ring = ring();
    let request = Request::of_true().with(|a| a.uid(1000).gid(1000));
    let _request = trap.catch(&mut ring, request.groups(&[]));
    let [child] = children()[..] else {
        panic!("{:?}", children());
    };
    let path = |name: &str| format!("/proc/{child}/{name}");
    let text = fs::read_to_string(path("status")).unwrap();
    assert_eq!(field(&text, "Uid"), ["1000"; 4]);
    // Its files belong to root, whom it no longer is.
    for name in ["oom_score_adj", "mem", "environ", "fd"] {
        assert_eq!(fs::metadata(path(name)).unwrap().uid(), 0, "{name}");
    }
    let nobody_can = || {
        for name in ["exe", "cwd", "ns/mnt", "fd/0"] {
            assert!(fs::read_link(path(name)).is_err(), "{name}");
        }
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: neither reads nor writes memory.
        unsafe {
            let traced = libc::ptrace(libc::PTRACE_SEIZE, child, none, none);
            let errno = io::Error::last_os_error().raw_os_error();
            assert_eq!((traced, errno), (-1, Some(libc::EPERM)));
            let traced = libc::ptrace(libc::PTRACE_ATTACH, child, none, none);
            let errno = io::Error::last_os_error().raw_os_error();
            assert_eq!((traced, errno), (-1, Some(libc::EPERM)));
        }
    };
    // This process would read its own memory, so others have to try.
    let nobody_reads = || {
        for name in ["mem", "environ", "maps", "auxv"] {
            assert!(fs::read(path(name)).is_err(), "{name}");
        }
        let word = 0u64;
        let local = libc::iovec {
            iov_base: (&raw const word).cast_mut().cast(),
            iov_len: 8,
        };
        // SAFETY: reads a word that is at the same place there, and writes to it here.
        unsafe {
            let read = libc::process_vm_readv(child, &raw const local, 1, &raw const local, 1, 0);
            let errno = io::Error::last_os_error().raw_os_error();
            assert_eq!((read, errno), (-1, Some(libc::EPERM)));
        }
    };
    // Neither root nor the user whose ids it has.
    nobody_can();
    assert!(apart(|| {
        nobody_can();
        nobody_reads();
    }));
    assert!(apart(|| {
        become_user(1000);
        nobody_can();
        nobody_reads();
        assert!(fs::write(path("oom_score_adj"), "1000").is_err());
    }));
    push(&mut ring, &AsyncCancel::new(1).build().user_data(2));
    results(&mut ring, 2);
    assert_no_child();
}

#[test]
fn the_limit_of_processes_counts() {
    guest!();
    assert!(apart(|| {
        become_user(1001);
        let mut sleeper = Request::new("/bin/sleep", &["sleep", "60"]);
        let sleeper = sleeper.run();
        assert!(sleeper > 0);
        let limit = libc::rlimit {
            rlim_cur: 2,
            rlim_max: 2,
        };
        // SAFETY: a limit of this process; the child is ours.
        unsafe { assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit), 0) };
        let mut request = Request::of_true();
        for _ in 0..20 {
            assert_eq!(request.run(), -libc::EAGAIN);
            assert_eq!(request.attributes.failed_stage(), Some(Stage::Clone));
        }
        // SAFETY: a child of ours.
        unsafe { libc::kill(sleeper, libc::SIGKILL) };
        wait(sleeper);
        // Failures do not stay on the account.
        for _ in 0..20 {
            assert_eq!(Request::new("/no/such", &["x"]).run(), -libc::ENOENT);
        }
        assert_eq!(request.ends(), 0);
    }));
}

#[test]
fn the_limit_counts_for_the_new_user_too() {
    guest!();
    assert!(apart(|| {
        let mut sleeper = Request::new("/bin/sleep", &["sleep", "60"]).with(|a| a.uid(1002));
        let sleeper = sleeper.run();
        assert!(sleeper > 0);
        let limit = libc::rlimit {
            rlim_cur: 1,
            rlim_max: 1,
        };
        // SAFETY: a limit of this process; the child is ours.
        unsafe { assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit), 0) };
        Request::of_true().with(|a| a.uid(1002)).run();
        let mut request = Request::of_true().with(|a| a.uid(1002));
        assert_eq!(request.run(), -libc::EAGAIN);
        assert_eq!(request.attributes.failed_stage(), Some(Stage::Exec));
        // SAFETY: as above.
        unsafe { libc::kill(sleeper, libc::SIGKILL) };
        wait(sleeper);
    }));
}

#[test]
fn the_limit_of_a_cgroup_counts() {
    guest!();
    let path = "/sys/fs/cgroup/small";
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+pids").unwrap();
    fs::create_dir_all(path).unwrap();
    fs::write(format!("{path}/pids.max"), "0").unwrap();
    let dir = File::open(path).unwrap();
    let fd = dir.as_raw_fd();
    Request::of_true()
        .with(|a| a.cgroup_fd(fd))
        .fails(libc::EAGAIN, Stage::Clone);
    fs::write(format!("{path}/pids.max"), "1").unwrap();
    for _ in 0..20 {
        let mut request = Request::new("/no/such", &["x"]).with(|a| a.cgroup_fd(fd));
        assert_eq!(request.run(), -libc::ENOENT);
        let mut request = Request::of_true().with(|a| a.cgroup_fd(fd));
        assert_eq!(request.ends(), 0);
    }
}

#[test]
fn a_restricted_ring_is() {
    guest!();
    let mut ring = IoUring::builder().setup_r_disabled().build(8).unwrap();
    let nop = Restriction::sqe_op(io_uring::opcode::Nop::CODE);
    ring.submitter().register_restrictions(&mut [nop]).unwrap();
    ring.submitter().register_enable_rings().unwrap();
    let mut request = Request::of_true();
    assert_eq!(request.run_on(&mut ring), -libc::EACCES);
    // And allowed where it is.
    let mut ring = IoUring::builder().setup_r_disabled().build(8).unwrap();
    let process = Restriction::sqe_op(number().get());
    ring.submitter()
        .register_restrictions(&mut [process])
        .unwrap();
    ring.submitter().register_enable_rings().unwrap();
    let pid = request.run_on(&mut ring);
    assert_eq!(wait(pid), 0);
}

#[test]
fn without_io_uring_there_is_nothing() {
    guest!();
    let switch = "/proc/sys/kernel/io_uring_disabled";
    fs::write(switch, "2").unwrap();
    let refused = IoUring::new(8).map(drop).unwrap_err();
    fs::write(switch, "0").unwrap();
    assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
}

#[test]
fn a_user_namespace_gives_nothing_outside() {
    guest!();
    assert!(apart(|| {
        become_user(1003);
        let user = libc::CLONE_NEWUSER as u64;
        // Of its own it has all, and outside of it nothing.
        let text = status().with(|a| a.namespaces(user)).output();
        assert_eq!(field(&text, "Uid"), ["65534"; 4]);
        let request = Request::new("/bin/sh", &["sh", "-c", "kill -0 1 || echo no"]);
        let text = request.with(|a| a.namespaces(user)).output();
        assert!(text.contains("no"), "{text}");
        for set in [
            Attributes::new().uid(0),
            Attributes::new().gid(0),
            Attributes::new().groups([0u32].as_ptr(), 1),
        ] {
            Request::of_true()
                .with(|_| set.namespaces(user))
                .fails(libc::EINVAL, Stage::Attributes);
        }
    }));
}

#[test]
fn landlock_is_inherited() {
    guest!();
    assert!(apart(|| {
        // From include/uapi/linux/landlock.h: handle execution, and allow none.
        let handled = 1u64;
        // SAFETY: concerns this process only; the attribute is valid during the call.
        unsafe {
            let rules = libc::syscall(444, &raw const handled, 8, 0);
            assert!(rules >= 0, "{}", io::Error::last_os_error());
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::syscall(446, rules, 0), 0);
        }
        let mut request = Request::of_true();
        assert_eq!(request.run(), -libc::EACCES);
        assert_eq!(request.attributes.failed_stage(), Some(Stage::Exec));
    }));
}
