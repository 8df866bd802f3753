//! What a sandbox without io_uring looks like.

use std::{io, mem::offset_of, thread};

use uring_sys_ext::{
    Error,
    discovery::{self, Candidates},
    query,
};

/// Makes a system call fail with an errno, for this thread and those that it starts.
fn refuse(syscall: libc::c_long, errno: i32) -> io::Result<()> {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = [
        op(
            libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
            0,
            0,
            offset_of!(libc::seccomp_data, nr) as u32,
        ),
        op(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            syscall as u32,
        ),
        op(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | errno as u32,
        ),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: both calls concern this thread only; the filter is valid during the call, which
    // copies it.
    let failed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
            ) != 0
    };
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Runs `check` on a thread that has the filter, and ends with it.
fn where_refused(syscall: libc::c_long, errno: i32, check: impl FnOnce() + Send + 'static) {
    let confined = thread::spawn(move || match refuse(syscall, errno) {
        Ok(()) => check(),
        Err(error) => println!("SKIP: no seccomp filters: {error}"),
    });
    if let Err(panic) = confined.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn discovery_says_that_io_uring_is_refused() {
    for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS] {
        where_refused(libc::SYS_io_uring_setup, errno, move || {
            let probed = discovery::probe(&Candidates::default());
            let got = discovery::get(&Candidates::default());
            for result in [probed, got] {
                let Err(error @ Error::Refused(_)) = result else {
                    panic!("{result:?}")
                };
                assert!(error.is_unsupported());
                let Error::Refused(source) = error else {
                    unreachable!()
                };
                assert_eq!(source.raw_os_error(), Some(errno));
            }
        });
    }
    // An error is not kept: this thread is free to use io_uring.
    match discovery::get(&Candidates::default()) {
        Ok(_) => {}
        Err(error) => println!("SKIP: {error}"),
    }
}

#[test]
fn query_says_that_io_uring_is_refused() {
    for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS] {
        where_refused(libc::SYS_io_uring_register, errno, move || {
            let result = query::opcodes();
            let Err(Error::Refused(source)) = result else {
                panic!("{result:?}")
            };
            assert_eq!(source.raw_os_error(), Some(errno));
        });
    }
}

#[test]
fn a_kernel_without_close_range_is_an_error_and_not_tried_on() {
    where_refused(libc::SYS_close_range, libc::ENOSYS, || {
        let result = discovery::probe(&Candidates::default());
        assert!(matches!(result, Err(Error::Discovery { .. })), "{result:?}");
    });
}
