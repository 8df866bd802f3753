//! Attributes: their form, and each of those that make up what a process is.

use std::{fs::File, os::fd::AsRawFd};

use uring_sys_ext::{
    RawSqe,
    process::{AttributeFlags, Attributes, Stage},
};

use crate::guest::{Request, apart, become_user, field, guest, one, ring, status, wait};

/// Runs a request whose attributes are `bytes`, said to be `size` long; returns the result and
/// the bytes afterwards.
fn with_bytes(mut bytes: Vec<u8>, size: u32) -> (i32, Vec<u8>) {
    let mut request = Request::of_true();
    let raw = RawSqe {
        len: size,
        pad2: bytes.as_mut_ptr() as u64,
        ..RawSqe::from(request.entry())
    };
    let result = one(&mut ring(), raw.into());
    (result, bytes)
}

fn written(bytes: &[u8]) -> (u32, u32) {
    let at = |n: usize| u32::from_ne_bytes(bytes[n..n + 4].try_into().unwrap());
    (at(8), at(12))
}

#[test]
fn sizes_follow_the_rules_of_growing_structures() {
    guest!();
    // What a newer caller has, and does not use.
    for size in [96, 104, 4096] {
        let (result, bytes) = with_bytes(vec![0; 4096], size);
        assert_eq!(wait(result), 0);
        assert_eq!(written(&bytes), (96, Stage::None as u32));
    }
    // What it uses.
    for at in [96, 103] {
        let mut bytes = vec![0; 104];
        bytes[at] = 1;
        let (result, bytes) = with_bytes(bytes, 104);
        assert_eq!(result, -libc::E2BIG);
        assert_eq!(written(&bytes), (96, Stage::Attributes as u32));
    }
    // Too much, whatever the bytes are.
    for size in [4097, 8192, u32::MAX] {
        let (result, bytes) = with_bytes(vec![0; 8192], size);
        assert_eq!(result, -libc::E2BIG);
        assert_eq!(written(&bytes), (96, Stage::Attributes as u32));
    }
    // Too little: there is nothing that could be written to.
    for size in [1, 8, 95] {
        let (result, bytes) = with_bytes(vec![0; 96], size);
        assert_eq!((result, bytes), (-libc::EINVAL, vec![0; 96]));
    }
}

#[test]
fn attributes_that_cannot_be_read() {
    guest!();
    for wild in [0u64, 8, 0xffff_8880_0000_0000, u64::MAX - 7] {
        let mut request = Request::of_true();
        let raw = RawSqe {
            pad2: wild,
            ..RawSqe::from(request.entry())
        };
        assert_eq!(one(&mut ring(), raw.into()), -libc::EFAULT);
    }
}

#[test]
fn flags_and_fields_that_do_not_fit() {
    guest!();
    for bit in 14..64 {
        let mut request = Request::of_true();
        request.attributes.flags = 1 << bit;
        request.fails(libc::EINVAL, Stage::Attributes);
    }
    let none = Attributes::new();
    let stray = [
        Attributes { uid: 1, ..none },
        Attributes { gid: 1, ..none },
        Attributes { groups: 8, ..none },
        Attributes {
            groups_count: 1,
            ..none
        },
        Attributes { pgid: 1, ..none },
        Attributes { fd_map: 8, ..none },
        Attributes {
            fd_map_count: 1,
            ..none
        },
        Attributes { cwd_fd: 1, ..none },
        Attributes {
            cgroup_fd: 1,
            ..none
        },
        Attributes {
            pidfd_slot: 1,
            ..none
        },
        Attributes { pidfd: 8, ..none },
        Attributes {
            signal_mask: 1,
            ..none
        },
        Attributes {
            signal_default: 1,
            ..none
        },
        Attributes {
            namespaces: 0x2000_0000,
            ..none
        },
    ];
    let wrong = [
        none.setsid().pgid(0),
        none.pgid(-1),
        none.uid(u32::MAX),
        none.gid(u32::MAX),
        none.fd_map_only(),
        none.groups(std::ptr::null(), 65537),
        none.namespaces(1),
        none.namespaces(1 << 40),
        none.namespaces(libc::CLONE_VM as u64),
        none.namespaces(libc::CLONE_NEWUSER as u64).uid(0),
        none.namespaces(libc::CLONE_NEWUSER as u64).gid(0),
        none.pidfd_slot(1).pidfd(std::ptr::null_mut()),
    ];
    for attributes in stray.into_iter().chain(wrong) {
        Request::of_true()
            .with(|_| attributes)
            .fails(libc::EINVAL, Stage::Attributes);
    }
}

#[test]
fn ids_are_set() {
    guest!();
    let text = status()
        .with(|a| a.uid(1234).gid(5678))
        .groups(&[9, 3, 77])
        .output();
    assert_eq!(field(&text, "Uid"), ["1234"; 4]);
    assert_eq!(field(&text, "Gid"), ["5678"; 4]);
    assert_eq!(field(&text, "Groups"), ["3", "9", "77"]);
    // As with setresuid(2), a user who is not root has no capabilities.
    assert_eq!(field(&text, "CapEff"), ["0000000000000000"]);

    let text = status().groups(&[]).output();
    assert_eq!(field(&text, "Groups"), [""; 0]);
    assert_eq!(field(&text, "Uid"), ["0"; 4]);
}

#[test]
fn ids_must_be_ours_to_give() {
    guest!();
    assert!(apart(|| {
        become_user(1000);
        Request::of_true()
            .with(|a| a.uid(0))
            .fails(libc::EPERM, Stage::Uid);
        Request::of_true()
            .with(|a| a.gid(0))
            .fails(libc::EPERM, Stage::Gid);
        Request::of_true()
            .groups(&[])
            .fails(libc::EPERM, Stage::Groups);
        let mut own = Request::of_true().with(|a| a.uid(1000).gid(1000));
        assert_eq!(own.ends(), 0);
    }));
}

#[test]
fn groups_that_cannot_be_read() {
    guest!();
    let wild = std::ptr::without_provenance(8);
    Request::of_true()
        .with(|a| a.groups(wild, 3))
        .fails(libc::EFAULT, Stage::Groups);
    Request::of_true()
        .groups(&[u32::MAX])
        .fails(libc::EINVAL, Stage::Groups);
}

#[test]
fn the_new_ids_count_when_the_program_is_opened() {
    guest!();
    std::fs::create_dir_all("/tmp/closed").unwrap();
    std::fs::copy("/bin/busybox", "/tmp/closed/true").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions("/tmp/closed", mode).unwrap();
    assert_eq!(Request::new("/tmp/closed/true", &["true"]).ends(), 0);
    Request::new("/tmp/closed/true", &["true"])
        .with(|a| a.uid(1000).gid(1000))
        .fails(libc::EACCES, Stage::Exec);
    let dir = File::open("/tmp/closed").unwrap();
    Request::of_true()
        .with(|a| a.uid(1000).gid(1000).cwd_fd(dir.as_raw_fd()))
        .fails(libc::EACCES, Stage::Cwd);
}

#[test]
fn a_setuid_program_still_changes_ids() {
    guest!();
    use std::os::unix::fs::{PermissionsExt, chown};
    std::fs::copy("/bin/busybox", "/tmp/cat").unwrap();
    chown("/tmp/cat", Some(4321), None).unwrap();
    std::fs::set_permissions("/tmp/cat", PermissionsExt::from_mode(0o4755)).unwrap();
    let request = Request::new("/tmp/cat", &["cat", "/proc/self/status"]);
    let text = request.with(|a| a.uid(1000)).output();
    // busybox gives up what it does not need, all but the saved id.
    assert_eq!(field(&text, "Uid")[2], "4321", "{text}");
}

#[test]
fn sessions_and_process_groups() {
    guest!();
    let text = status().with(|a| a.setsid()).output();
    let pid = field(&text, "Pid");
    assert_eq!(field(&text, "NSsid"), pid);
    assert_eq!(field(&text, "NSpgid"), pid);
    let text = status().with(|a| a.pgid(0)).output();
    assert_eq!(field(&text, "NSpgid"), field(&text, "Pid"));
    assert_ne!(field(&text, "NSsid"), field(&text, "Pid"));
    // To join the group of another child.
    let mut leader = Request::new("/bin/sleep", &["sleep", "60"]).with(|a| a.pgid(0));
    let leader = leader.run();
    let text = status().with(|a| a.pgid(leader)).output();
    assert_eq!(field(&text, "NSpgid"), [leader.to_string()]);
    // SAFETY: a child of ours that has not been waited for.
    unsafe { libc::kill(leader, libc::SIGKILL) };
    wait(leader);
    Request::of_true()
        .with(|a| a.pgid(1 << 21))
        .fails(libc::EPERM, Stage::ProcessGroup);
}

#[test]
fn signals() {
    guest!();
    let bit = |signal: i32| 1u64 << (signal - 1);
    let hex = |mask: u64| vec![format!("{mask:016x}")];
    let mask = bit(libc::SIGUSR1) | bit(64);
    let text = status().with(|a| a.signal_mask(mask)).output();
    assert_eq!(field(&text, "SigBlk"), hex(mask));
    // Two that cannot be blocked.
    let all = status().with(|a| a.signal_mask(u64::MAX)).output();
    let expected = !(bit(libc::SIGKILL) | bit(libc::SIGSTOP));
    assert_eq!(field(&all, "SigBlk"), hex(expected));

    // SAFETY: dispositions and the mask of this process, restored below.
    unsafe {
        libc::signal(libc::SIGUSR2, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGWINCH);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        // Without attributes both are inherited.
        let text = status().output();
        assert_eq!(field(&text, "SigBlk"), hex(bit(libc::SIGWINCH)));
        let ignored = u64::from_str_radix(&field(&text, "SigIgn")[0], 16).unwrap();
        assert_ne!(ignored & bit(libc::SIGUSR2), 0);
        assert_ne!(ignored & bit(libc::SIGHUP), 0);
        let text = status()
            .with(|a| a.signal_default(bit(libc::SIGUSR2)).signal_mask(0))
            .output();
        assert_eq!(field(&text, "SigBlk"), hex(0));
        let ignored = u64::from_str_radix(&field(&text, "SigIgn")[0], 16).unwrap();
        assert_eq!(ignored & bit(libc::SIGUSR2), 0);
        assert_ne!(ignored & bit(libc::SIGHUP), 0);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::signal(libc::SIGUSR2, libc::SIG_DFL);
        libc::signal(libc::SIGHUP, libc::SIG_DFL);
    }
}

#[test]
fn handlers_are_reset() {
    guest!();
    extern "C" fn handler(_: i32) {}
    // SAFETY: a handler that does nothing; restored below.
    unsafe { libc::signal(libc::SIGUSR1, handler as *const () as libc::sighandler_t) };
    let text = status().output();
    assert_eq!(field(&text, "SigCgt"), ["0000000000000000"]);
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_DFL) };
}

#[test]
fn the_working_directory() {
    guest!();
    let proc = File::open("/proc").unwrap();
    let request = Request::new("/bin/pwd", &["pwd"]);
    let text = request.with(|a| a.cwd_fd(proc.as_raw_fd())).output();
    assert_eq!(text, "/proc\n");
    assert_ne!(std::env::current_dir().unwrap().to_str(), Some("/proc"));
    let file = File::open("/bin/true").unwrap();
    Request::of_true()
        .with(|a| a.cwd_fd(file.as_raw_fd()))
        .fails(libc::ENOTDIR, Stage::Cwd);
    Request::of_true()
        .with(|a| a.cwd_fd(999))
        .fails(libc::EBADF, Stage::Descriptors);
}

#[test]
fn a_cgroup() {
    guest!();
    let path = "/sys/fs/cgroup/mine";
    std::fs::create_dir_all(path).unwrap();
    let dir = File::open(path).unwrap();
    let request = Request::new("/bin/cat", &["cat", "/proc/self/cgroup"]);
    let text = request.with(|a| a.cgroup_fd(dir.as_raw_fd())).output();
    assert_eq!(text, "0::/mine\n");
    Request::of_true()
        .with(|a| a.cgroup_fd(999))
        .fails(libc::EBADF, Stage::Descriptors);
    let other = File::open("/tmp").unwrap();
    Request::of_true()
        .with(|a| a.cgroup_fd(other.as_raw_fd()))
        .fails(libc::EBADF, Stage::Clone);
    // One that is not ours to fill.
    assert!(apart(|| {
        let dir = File::open(path).unwrap();
        become_user(1000);
        Request::of_true()
            .with(|a| a.cgroup_fd(dir.as_raw_fd()))
            .fails(libc::EACCES, Stage::Clone);
    }));
}

#[test]
fn namespaces() {
    guest!();
    for (flag, name) in [
        (libc::CLONE_NEWNS, "mnt"),
        (libc::CLONE_NEWUTS, "uts"),
        (libc::CLONE_NEWIPC, "ipc"),
        (libc::CLONE_NEWNET, "net"),
        (libc::CLONE_NEWPID, "pid"),
        (libc::CLONE_NEWUSER, "user"),
        (libc::CLONE_NEWCGROUP, "cgroup"),
    ] {
        let link = format!("/proc/self/ns/{name}");
        let ours = std::fs::read_link(&link).unwrap();
        // The new PID namespace has no proc of its own; its init is seen from here.
        let request = Request::new("/bin/sleep", &["sleep", "60"]);
        let pid = request.with(|a| a.namespaces(flag as u64)).run();
        assert!(pid > 0, "{name}: {pid}");
        let theirs = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_ne!(ours, theirs);
        if name == "pid" {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            assert_eq!(field(&text, "NSpid"), [pid.to_string(), "1".into()]);
        }
        // SAFETY: a child of ours that has not been waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        assert_eq!(wait(pid), 128 + libc::SIGKILL);
    }
    Request::new("/no/such", &["x"])
        .with(|a| a.namespaces((libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64))
        .fails(libc::ENOENT, Stage::Exec);
}

#[test]
fn namespaces_need_the_capability() {
    guest!();
    assert!(apart(|| {
        become_user(1000);
        for flag in [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWNET,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWCGROUP,
        ] {
            Request::of_true()
                .with(|a| a.namespaces(flag as u64))
                .fails(libc::EPERM, Stage::Clone);
        }
    }));
}

#[test]
fn attributes_are_read_as_asked_for() {
    guest!();
    // All at once, as a service manager would.
    let dir = File::open("/tmp").unwrap();
    let request = status().with(|a| a.uid(7).gid(8).setsid().signal_mask(1));
    let text = request
        .groups(&[1])
        .with(|a| a.cwd_fd(dir.as_raw_fd()))
        .output();
    assert_eq!(field(&text, "Uid"), ["7"; 4]);
    assert_eq!(field(&text, "NSsid"), field(&text, "Pid"));
    assert_eq!(AttributeFlags::all().bits(), (1 << 14) - 1);
}
