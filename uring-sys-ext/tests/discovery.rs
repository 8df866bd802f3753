//! Discovery on the running kernel: what it finds, and that it leaves and disturbs nothing.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd},
    path::PathBuf,
    process::Command,
    ptr::null_mut,
    sync::{
        Barrier, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use uring_sys_ext::{
    Error,
    discovery::{self, Candidates, Supported},
};

/// The tests look at descriptors, threads and children of the whole process: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Whether the test can go on: io_uring may be used here, and the kernel is not too old.
fn usable() -> bool {
    let error = match discovery::probe(&Candidates::default()) {
        Ok(_) => return true,
        Err(error) => error,
    };
    let lacks = [libc::ENOSYS, libc::EPERM, libc::EINVAL, libc::EOPNOTSUPP].map(Some);
    match &error {
        Error::Refused(_) => {}
        Error::Discovery { source, .. } if lacks.contains(&source.raw_os_error()) => {}
        _ => panic!("{error}"),
    }
    println!("SKIP: {error}");
    false
}

/// Descriptors of this process, with what they refer to.
fn descriptors() -> BTreeMap<PathBuf, PathBuf> {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // Without the one by which the directory is read.
        .filter_map(|path| fs::read_link(&path).ok().map(|to| (path, to)))
        .filter(|(_, to)| !to.ends_with("fd"))
        .collect()
}

/// Names of the threads of this process that discovery or io_uring made.
fn helper_threads() -> Vec<String> {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("comm")).ok())
        .filter(|name| name.starts_with("uring-probe") || name.starts_with("iou-"))
        .collect()
}

/// That this process has no child, neither alive nor a zombie.
fn assert_no_child() {
    // SAFETY: a null status is allowed; nothing else in this process waits for children now.
    let waited = unsafe { libc::waitpid(-1, null_mut(), libc::WNOHANG | libc::__WALL) };
    assert_eq!(
        (waited, io::Error::last_os_error().raw_os_error()),
        (-1, Some(libc::ECHILD))
    );
}

/// Runs `work`, and checks that it left no process, zombie, thread or descriptor behind.
fn leaves_nothing<T>(work: impl FnOnce() -> T) -> T {
    let before = descriptors();
    assert_no_child();
    let done = work();
    assert_no_child();
    assert_eq!(descriptors(), before);
    // A joined thread is taken off the list a moment later.
    let until = Instant::now() + Duration::from_secs(5);
    while !helper_threads().is_empty() && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(helper_threads(), Vec::<String>::new());
    done
}

#[test]
fn a_stock_kernel_has_none_of_the_operations() {
    let _alone = alone();
    if !usable() {
        return;
    }
    let found = leaves_nothing(|| discovery::probe(&Candidates::default())).unwrap();
    if found.process.is_some() || found.clone_exec.is_some() {
        println!("SKIP: not a stock kernel: {found:?}");
        return;
    }
    assert_eq!(found, Supported::default());
    assert_eq!(discovery::get(&Candidates::default()).unwrap(), found);
}

#[test]
fn every_number_can_be_tried() {
    let _alone = alone();
    if !usable() {
        return;
    }
    if discovery::probe(&Candidates::default()).unwrap() != Supported::default() {
        println!("SKIP: not a stock kernel");
        return;
    }
    let process: Vec<u8> = (0..=255).collect();
    // Each number in each role: beside its neighbours, and beside an exec that answers EINVAL,
    // with which the other one is asked too.
    let beside = |n: u8| {
        [
            (n, n.wrapping_add(1)),
            (n.wrapping_add(1), n),
            (n, 255),
            (255, n),
        ]
    };
    let clone_exec: Vec<(u8, u8)> = (0..=255).flat_map(beside).collect();
    let all = Candidates {
        process: &process,
        clone_exec: &clone_exec,
    };
    let start = Instant::now();
    let found = leaves_nothing(|| discovery::probe(&all)).unwrap();
    assert_eq!(found, Supported::default());
    // None of them took the time that an operation has to answer.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn many_at_once_get_the_same_answer_and_disturb_nobody() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 20;

    let _alone = alone();
    if !usable() {
        return;
    }
    let first = discovery::probe(&Candidates::default()).unwrap();
    leaves_nothing(|| {
        let start = Barrier::new(THREADS + 1);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let bystander = scope.spawn(|| {
                start.wait();
                while !done.load(Ordering::Relaxed) {
                    use_descriptors();
                }
            });
            let probing: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        for _ in 0..ROUNDS {
                            assert_eq!(discovery::probe(&Candidates::default()).unwrap(), first);
                            assert_eq!(discovery::get(&Candidates::default()).unwrap(), first);
                        }
                    })
                })
                .collect();
            let results: Vec<_> = probing.into_iter().map(|probing| probing.join()).collect();
            done.store(true, Ordering::Relaxed);
            bystander.join().unwrap();
            assert!(results.iter().all(Result::is_ok));
        });
    });
}

/// Makes descriptors, uses them, and closes them; notices if anybody else did.
fn use_descriptors() {
    let (mut reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"ping").unwrap();
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
}

#[test]
fn locks_and_children_of_the_program_stay() {
    let _alone = alone();
    if !usable() {
        return;
    }
    // A record lock goes when its process closes any descriptor of the file.
    // SAFETY: the name is a valid string; the descriptor is owned by the file alone.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"locked".as_ptr(), 0)) };
    lock(&file, libc::F_SETLK);
    // A child that is over before anybody waits for it.
    let (mut reader, writer) = io::pipe().unwrap();
    let mut child = Command::new("true").stdout(writer).spawn().unwrap();
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);

    discovery::probe(&Candidates::default()).unwrap();

    assert!(child.wait().unwrap().success());
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let other = File::options().read(true).write(true).open(path).unwrap();
    let in_the_way = lock(&other, libc::F_OFD_GETLK).l_type;
    assert_eq!(i32::from(in_the_way), libc::F_WRLCK, "the lock is gone");
}

/// Sets or asks for a write lock on the whole file.
fn lock(file: &File, command: i32) -> libc::flock {
    // SAFETY: all zero is a value: the whole file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    // SAFETY: the lock is valid during the call, which may write to it.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    lock
}
