//! Who starts the thread. The only test of its process.

mod async_support;

use async_support::{block_on, reactors};
use io_uring::IoUring;
use uring_process::{Command, ring::Spawner};

#[test]
fn only_futures_start_the_thread_and_only_one() {
    let plan = Command::new("true").plan().unwrap();
    plan.spawn().unwrap().wait().unwrap();
    Command::new("echo").output().unwrap();
    match IoUring::new(8) {
        Ok(mut ring) => {
            let mut spawner = Spawner::new(&ring, 1).unwrap();
            spawner.submit(&plan).unwrap();
            while spawner.in_flight() > 0 {
                spawner.push(&mut ring.submission());
                ring.submit_and_wait(1).unwrap();
                for completion in ring.completion() {
                    spawner.complete(completion.user_data(), completion.result());
                }
            }
        }
        Err(error) => println!("SKIP: no io_uring: {error}"),
    }
    let unpolled = plan.spawn_async();
    assert_eq!(
        reactors(),
        0,
        "neither the other doors nor a future that is not polled"
    );
    block_on(unpolled).unwrap();
    assert_eq!(reactors(), 1);
    for _ in 0..10 {
        block_on(plan.output_async()).unwrap();
    }
    assert_eq!(reactors(), 1);

    // It sleeps while there is nothing to do, also while a process runs.
    let mut child = block_on(Command::new("sleep").arg("600").spawn_async()).unwrap();
    let begun = switches();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let woken = switches() - begun;
    assert!(woken <= 3, "it woke {woken} times");
    block_on(child.kill()).unwrap();

    let blocked = field("SigBlk:");
    let blocked = u64::from_str_radix(blocked.trim(), 16).unwrap();
    for signal in [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGCHLD,
        libc::SIGALRM,
        libc::SIGUSR1,
    ] {
        assert!(
            blocked >> (signal - 1) & 1 == 1,
            "signal {signal}: {blocked:x}"
        );
    }
}

/// A field of the reactor thread's status.
fn field(name: &str) -> String {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let thread = tasks
        .map(|task| task.path())
        .find(|path| {
            let comm = std::fs::read_to_string(path.join("comm"));
            comm.is_ok_and(|comm| comm.trim() == "uring-process")
        })
        .unwrap();
    let status = std::fs::read_to_string(thread.join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().to_owned()
}

/// How often it went to sleep.
fn switches() -> u64 {
    field("voluntary_ctxt_switches:").trim().parse().unwrap()
}
