//! How many system calls a start takes, counted by strace(1) where it is there.

use std::{collections::HashMap, process::Command};

use io_uring::IoUring;
use uring_process::ring::{Event, Spawner};

/// In the process that is traced: this many processes, followed to their ends.
fn spawn(count: usize) {
    let plan = uring_process::Command::new("/bin/true").plan().unwrap();
    let mut ring = IoUring::new(64).unwrap();
    let mut spawner = Spawner::new(&ring, 1).unwrap();
    let mut ended = 0;
    for _ in 0..count / 20 {
        for _ in 0..20 {
            spawner.submit(&plan).unwrap();
        }
        while spawner.in_flight() > 0 {
            spawner.push(&mut ring.submission());
            ring.submit_and_wait(1).unwrap();
            for completion in ring.completion() {
                spawner.complete(completion.user_data(), completion.result());
            }
            while let Some(event) = spawner.next_event() {
                ended += usize::from(matches!(event, Event::Ended { .. }));
            }
        }
    }
    assert_eq!(ended, count);
}

/// All calls of the thread that makes the processes, and not of those.
fn calls(count: usize) -> Option<usize> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let status = Command::new("strace")
        .args(["-f", "-o"])
        .arg(file.path())
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_start_takes_at_most_eight_system_calls",
            "--test-threads=1",
        ])
        .env("CALLS", count.to_string())
        .output();
    match status {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            println!(
                "SKIP: strace: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            return None;
        }
        Err(error) => {
            println!("SKIP: strace: {error}");
            return None;
        }
    }
    let text = std::fs::read_to_string(file.path()).unwrap();
    // Each line begins with a thread's number; a call that took long has a second one. Before it closes a
    // descriptor std asks for its flags, in a build with debug assertions only.
    let mut threads = HashMap::new();
    let ours = |line: &&str| !line.contains(" resumed>") && !line.contains("F_GETFD");
    for line in text.lines().filter(ours) {
        let (thread, call) = line.split_once(' ').unwrap();
        let (all, clones) = threads.entry(thread).or_insert((0usize, 0usize));
        *all += 1;
        *clones += usize::from(call.trim_start().starts_with("clone"));
    }
    threads
        .values()
        .max_by_key(|(_, clones)| *clones)
        .map(|(all, _)| *all)
}

#[test]
fn a_start_takes_at_most_eight_system_calls() {
    if let Ok(count) = std::env::var("CALLS") {
        spawn(count.parse().unwrap());
        return;
    }
    let (Some(few), Some(many)) = (calls(20), calls(220)) else {
        return;
    };
    let each = many.saturating_sub(few) as f64 / 200.0;
    println!("{each} calls for each process, its end included");
    assert!(each > 1.0, "nothing was counted");
    assert!(each <= 8.0, "{each} system calls for each process");
}
