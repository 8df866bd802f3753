//! The system call filter of plugins.
//!
//! A list of what is denied, not of what is allowed: a plugin may be written in any language, and
//! runtimes come to need new calls. Denied is what reaches the network, other processes, other users'
//! memory, namespaces, mounts, keys, modules, BPF, clocks, or makes it harder to end the plugin.
//! A denied call fails with EPERM; clone3 with ENOSYS, so that libraries fall back to clone, whose flags
//! can be looked at.

use uring_process::SockFilter;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xC000_003E; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xC000_00B7; // AUDIT_ARCH_AARCH64

#[rustfmt::skip]
const DENIED: &[libc::c_long] = &[
    // The network. Pairs of sockets reach nobody else.
    libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4,
    // Other processes.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_kcmp,
    libc::SYS_pidfd_getfd, libc::SYS_process_madvise, libc::SYS_migrate_pages, libc::SYS_move_pages,
    libc::SYS_perf_event_open, libc::SYS_userfaultfd,
    // Out of the process group by which it is ended.
    libc::SYS_setsid, libc::SYS_setpgid,
    // Other kernel surfaces that run programs or calls for it.
    libc::SYS_bpf, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // Namespaces, mounts, root directories.
    libc::SYS_unshare, libc::SYS_setns, libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot,
    libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount,
    libc::SYS_fspick, libc::SYS_mount_setattr, libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at,
    // Keys, modules, kernels, machines.
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load,
    libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_sethostname, libc::SYS_setdomainname,
    libc::SYS_acct, libc::SYS_quotactl, libc::SYS_syslog, libc::SYS_vhangup, libc::SYS_personality,
    // Clocks.
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime,
    // Shared things that outlive it.
    libc::SYS_shmget, libc::SYS_shmat, libc::SYS_msgget, libc::SYS_semget, libc::SYS_mq_open,
    libc::SYS_mknodat, libc::SYS_fanotify_init,
    #[cfg(target_arch = "x86_64")] libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")] libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")] libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")] libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")] libc::SYS_kexec_file_load,
];

/// `CLONE_NEW*` of include/uapi/linux/sched.h: namespaces.
const NEW_NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_ANY: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Offsets in `struct seccomp_data`: the call's number, the architecture, the first argument's low word
/// (both architectures are little-endian).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> SockFilter {
    SockFilter { code, jt, jf, k }
}

const fn refuse(errno: i32) -> SockFilter {
    op(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32)
}

/// The filter; `None` on architectures that it does not know.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn filter() -> Option<Vec<SockFilter>> {
    let mut program = vec![
        op(LOAD, 0, 0, ARCHITECTURE),
        op(IF_EQUAL, 1, 0, ARCH),
        op(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        op(LOAD, 0, 0, NUMBER),
        // x32: the same calls under other numbers.
        op(IF_ANY, 0, 1, 0x4000_0000),
        refuse(libc::ENOSYS),
    ];
    for &number in DENIED {
        program.extend([op(IF_EQUAL, 0, 1, number as u32), refuse(libc::EPERM)]);
    }
    program.extend([
        op(IF_EQUAL, 0, 1, libc::SYS_clone3 as u32),
        refuse(libc::ENOSYS),
        op(IF_EQUAL, 0, 3, libc::SYS_clone as u32),
        op(LOAD, 0, 0, FIRST_ARGUMENT),
        op(IF_ANY, 0, 1, NEW_NAMESPACES),
        refuse(libc::EPERM),
        op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
    Some(program)
}

/// The filter; `None` on architectures that it does not know.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn filter() -> Option<Vec<SockFilter>> {
    None
}
