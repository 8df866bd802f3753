//! A job server: runs shell commands, so many at a time, and tells how each one ended.
//!
//! cargo run -p uring-process --example jobs -- 2 'sleep 0.2' 'exit 3' 'echo hello' no-such-program

use std::{collections::HashMap, env, io};

use io_uring::IoUring;
use uring_process::{
    Command, Stdio,
    ring::{Event, Spawner, Token},
};

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let limit: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(2);
    let mut jobs: Vec<String> = args.collect();
    if jobs.is_empty() {
        jobs = ["sleep 0.1", "exit 3", "echo hello", "exec no-such-program"]
            .map(String::from)
            .into();
    }
    let mut waiting = jobs.into_iter();

    let mut ring = IoUring::new(64)?;
    let mut spawner = Spawner::new(&ring, 1)?;
    let mut running: HashMap<Token, String> = HashMap::new();
    loop {
        // The limit is the whole of the scheduling; a build system would ask its job server here.
        while running.len() < limit.max(1) {
            let Some(job) = waiting.next() else { break };
            let plan = Command::new("sh")
                .args(["-c", &job])
                .stdin(Stdio::null())
                .plan()?;
            match spawner.submit(&plan) {
                Ok(token) => drop(running.insert(token, job)),
                Err(error) => eprintln!("{job}: {error}"),
            }
        }
        if running.is_empty() {
            return Ok(());
        }
        spawner.push(&mut ring.submission());
        ring.submit_and_wait(1)?;
        for completion in ring.completion() {
            spawner.complete(completion.user_data(), completion.result());
        }
        while let Some(event) = spawner.next_event() {
            match event {
                Event::Started(_) => {}
                Event::Failed { token, error } => {
                    println!("{}: {error}", running.remove(&token).unwrap_or_default());
                }
                Event::Ended { token, status, .. } => {
                    let status = status.map_or("ended".into(), |status| status.to_string());
                    println!("{}: {status}", running.remove(&token).unwrap_or_default());
                }
            }
        }
    }
}
