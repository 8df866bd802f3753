//! The descriptor map, and pidfds.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use io_uring::opcode::Nop;
use uring_sys_ext::process::Stage;

use crate::guest::{
    Request, Trap, apart, assert_no_child, guest, one, open_fds, push, results, ring, wait,
};

/// A request that lists its open descriptors, one in a line with what it is.
fn listing() -> Box<Request> {
    let script = "cd /proc/self/fd; for f in *; do [ -e $f ] && echo $f; done; exit 0";
    Request::new("/bin/sh", &["sh", "-c", script])
}

fn numbers(text: &str) -> Vec<i32> {
    let mut numbers: Vec<i32> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// A descriptor without close-on-exec, with this number.
fn plain(number: i32) -> OwnedFd {
    // SAFETY: descriptors of this process; the number is free.
    unsafe {
        assert_eq!(libc::fcntl(number, libc::F_GETFD), -1);
        assert_eq!(libc::dup2(0, number), number);
        OwnedFd::from_raw_fd(number)
    }
}

#[test]
fn a_map_adds_and_only_replaces() {
    guest!();
    let inherited = plain(50);
    let text = listing().output();
    assert!(numbers(&text).contains(&50), "{text}");
    let text = listing().map(0, 60).with(|a| a.fd_map_only()).output();
    let found = numbers(&text);
    assert!(found.contains(&60) && found.contains(&1), "{text}");
    assert!(!found.contains(&50) && !found.contains(&0), "{text}");
    drop(inherited);
    // None at all.
    let mut request = Request::of_true();
    request.attributes = request.attributes.fd_map(std::ptr::null(), 0).fd_map_only();
    assert_eq!(request.ends(), 0);
}

#[test]
fn close_on_exec_of_the_source_does_not_count() {
    guest!();
    let file = File::open("/proc/version").unwrap();
    let text = Request::new("/bin/cat", &["cat"])
        .map(file.as_raw_fd(), 0)
        .output();
    assert!(text.starts_with("Linux version 6.12"), "{text}");
    // A source that is its own target.
    let file = File::open("/proc/version").unwrap();
    let fd = file.as_raw_fd();
    let path = format!("/proc/self/fd/{fd}");
    let text = Request::new("/bin/cat", &["cat", &path])
        .map(fd, fd)
        .output();
    assert!(text.starts_with("Linux version"), "{text}");
}

#[test]
fn two_can_be_swapped() {
    guest!();
    let (one, two) = (plain(70), plain(71));
    let file = |text: &str| {
        let path = format!("/tmp/{text}");
        std::fs::write(&path, text).unwrap();
        File::open(path).unwrap()
    };
    let (a, b) = (file("a"), file("b"));
    // SAFETY: numbers that this test owns.
    unsafe {
        libc::dup2(a.as_raw_fd(), 70);
        libc::dup2(b.as_raw_fd(), 71);
    }
    let script = "cat <&70; cat <&71";
    let text = Request::new("/bin/sh", &["sh", "-c", script])
        .map(70, 71)
        .map(71, 70)
        .output();
    assert_eq!(text, "ba");
    drop((one, two));
}

#[test]
fn maps_that_are_refused() {
    guest!();
    Request::of_true()
        .map(999, 1)
        .fails(libc::EBADF, Stage::Descriptors);
    Request::of_true()
        .map(-1, 1)
        .fails(libc::EBADF, Stage::Descriptors);
    for (a, b) in [(5, 5), (-1, 6), (6, i32::MAX)] {
        Request::of_true()
            .map(0, a)
            .map(0, b)
            .fails(libc::EINVAL, Stage::Descriptors);
    }
    let wild = std::ptr::without_provenance(8);
    Request::of_true()
        .with(|a| a.fd_map(wild, 3))
        .fails(libc::EFAULT, Stage::Descriptors);
    Request::of_true()
        .with(|a| a.fd_map(wild, u32::MAX))
        .fails(libc::EINVAL, Stage::Attributes);
}

#[test]
fn the_directory_is_the_submitters_whatever_the_map_does() {
    guest!();
    let bin = File::open("/bin").unwrap();
    let mut request = Request::new("true", &["true"])
        .map(0, bin.as_raw_fd())
        .with(|a| a.fd_map_only());
    request.dirfd = bin.as_raw_fd();
    assert_eq!(request.ends(), 0);
    let mut request = listing().map(0, 0).with(|a| a.fd_map_only());
    let program = File::open("/bin/busybox").unwrap();
    request.dirfd = program.as_raw_fd();
    let found = numbers(&request.output());
    // The shell has the directory that it lists, and nothing else above.
    assert!(found.iter().all(|fd| [0, 1, 3].contains(fd)), "{found:?}");
}

#[test]
fn the_submitters_table_stays_and_pipes_end_with_the_program() {
    guest!();
    let before = open_fds();
    let (reader, writer) = io::pipe().unwrap();
    let mut request = Request::of_true()
        .map(writer.as_raw_fd(), 1)
        .with(|a| a.fd_map_only());
    let pid = request.run();
    drop(writer);
    wait(pid);
    let mut poll = libc::pollfd {
        fd: reader.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid structure.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 5_000) }, 1);
    assert_eq!(poll.revents, libc::POLLHUP);
    drop(reader);
    assert_eq!(open_fds(), before);
}

#[test]
fn a_failed_child_has_let_go_of_its_pipes() {
    guest!();
    let (reader, writer) = io::pipe().unwrap();
    let mut request = Request::new("/no/such", &["x"]).map(writer.as_raw_fd(), 1);
    assert_eq!(request.run(), -libc::ENOENT);
    drop(writer);
    let mut poll = libc::pollfd {
        fd: reader.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid structure.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 0) }, 1);
}

#[test]
fn a_pidfd() {
    guest!();
    let mut request = Request::new("/bin/sleep", &["sleep", "60"]).pidfd();
    let pid = request.run();
    assert!(pid > 0);
    // SAFETY: the kernel has given it to us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(request.pidfd) };
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
    assert!(info.unwrap().contains(&format!("Pid:\t{pid}\n")));
    // SAFETY: takes integers only.
    unsafe {
        let flags = libc::fcntl(pidfd.as_raw_fd(), libc::F_GETFD);
        assert_eq!(flags, libc::FD_CLOEXEC);
        let none = std::ptr::null::<libc::siginfo_t>();
        let sent = libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            none,
            0,
        );
        assert_eq!(sent, 0);
    }
    assert_eq!(wait(pid), 128 + libc::SIGKILL);
}

#[test]
fn a_pidfd_of_a_failure_is_taken_back() {
    guest!();
    Request::new("/no/such", &["x"])
        .pidfd()
        .fails(libc::ENOENT, Stage::Exec);
    // No memory for its number.
    for wild in [0usize, 8] {
        Request::of_true()
            .with(|a| a.pidfd(std::ptr::without_provenance_mut(wild)))
            .fails(libc::EFAULT, Stage::Pidfd);
    }
    // No number for it.
    assert!(apart(|| {
        let mut ring = ring();
        let mut request = Request::of_true().pidfd();
        let limit = libc::rlimit {
            rlim_cur: ring.as_raw_fd() as u64 + 1,
            rlim_max: 1024,
        };
        // SAFETY: a limit of this process.
        unsafe {
            for fd in 0..ring.as_raw_fd() {
                if libc::fcntl(fd, libc::F_GETFD) < 0 {
                    libc::dup2(ring.as_raw_fd(), fd);
                }
            }
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
        }
        assert_eq!(request.run_on(&mut ring), -libc::EMFILE);
        assert_eq!(request.attributes.failed_stage(), Some(Stage::Pidfd));
        let mut request = Request::of_true();
        assert_eq!(wait(request.run_on(&mut ring)), 0);
    }));
}

#[test]
fn direct_slots() {
    guest!();
    let mut ring = ring();
    let mut request = Request::of_true().with(|a| a.pidfd_slot(0));
    assert_eq!(request.run_on(&mut ring), -libc::ENXIO);
    assert_eq!(request.attributes.failed_stage(), Some(Stage::Pidfd));
    assert_no_child();
    ring.submitter().register_files_sparse(2).unwrap();

    // A chosen slot, and then any: polled by its number, it tells of the end.
    let mut chosen = Request::of_true().with(|a| a.pidfd_slot(1));
    let first = chosen.run_on(&mut ring);
    assert!(first > 0);
    let mut slot = -1;
    let mut any = Request::of_true().with(|a| a.pidfd_slot_alloc(&raw mut slot));
    let second = any.run_on(&mut ring);
    assert!(second > 0 && slot == 0, "{second} {slot}");
    for slot in [1, 0] {
        let poll =
            io_uring::opcode::PollAdd::new(io_uring::types::Fixed(slot), libc::POLLIN as u32);
        let found = one(&mut ring, poll.build());
        assert!(found > 0 && found & libc::POLLIN as i32 != 0, "{found}");
    }
    wait(first);
    wait(second);

    // All are taken.
    let mut request = Request::of_true().with(|a| a.pidfd_slot_alloc(&raw mut slot));
    assert_eq!(request.run_on(&mut ring), -libc::ENFILE);
    assert_eq!(request.attributes.failed_stage(), Some(Stage::Pidfd));
    let mut request = Request::of_true().with(|a| a.pidfd_slot(2));
    assert_eq!(request.run_on(&mut ring), -libc::EINVAL);
    let mut request = Request::of_true().with(|a| a.pidfd_slot(u32::MAX - 1));
    assert_eq!(request.run_on(&mut ring), -libc::EINVAL);
    // Of a failure nothing stays in the slot.
    let mut request = Request::new("/no/such", &["x"]).with(|a| a.pidfd_slot(1));
    assert_eq!(request.run_on(&mut ring), -libc::ENOENT);
    let poll = io_uring::opcode::PollAdd::new(io_uring::types::Fixed(1), libc::POLLIN as u32);
    assert_eq!(one(&mut ring, poll.build()), -libc::EBADF);
    assert_no_child();
}

#[test]
fn what_the_user_put_in_place_of_the_pidfd_stays() {
    guest!();
    let trap = Trap::new();
    let mut ring = ring();
    let request = trap.catch(&mut ring, Request::of_true().pidfd());
    let (mut reader, writer) = io::pipe().unwrap();
    // SAFETY: the number is the pidfd's, which is given up for the pipe's end.
    let mut writer = unsafe {
        assert_eq!(libc::dup2(writer.as_raw_fd(), request.pidfd), request.pidfd);
        File::from_raw_fd(request.pidfd)
    };
    let cancel = io_uring::opcode::AsyncCancel::new(1).build().user_data(2);
    push(&mut ring, &cancel);
    let mut done = results(&mut ring, 2);
    done.sort_unstable();
    assert_eq!(done, [(1, -libc::ECANCELED), (2, 0)]);
    writer.write_all(b"x").unwrap();
    io::Read::read_exact(&mut reader, &mut [0]).unwrap();
    assert_eq!(one(&mut ring, Nop::new().build()), 0);
    assert_no_child();
}

#[test]
fn a_table_of_thousands() {
    guest!();
    assert!(apart(|| {
        let limit = libc::rlimit {
            rlim_cur: 4096,
            rlim_max: 4096,
        };
        // SAFETY: a limit, and descriptors, of this process.
        unsafe {
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
            for fd in 1000..4000 {
                libc::dup2(0, fd);
            }
        }
        let found = numbers(&listing().map(2000, 3999).with(|a| a.fd_map_only()).output());
        assert!(found.contains(&3999) && !found.contains(&1000), "{found:?}");
        let mut request = Request::of_true();
        for fd in 1000..4000 {
            request = request.map(fd, 4999 - fd);
        }
        assert_eq!(request.ends(), 0);
    }));
}
