//! Six bytes from a child.

use std::{
    io::{self, Read},
    process::Stdio,
    time::Instant,
};

use lab::result::{Part, Row};

use super::Bench;
use crate::rounds::Samples;

const OURS: &str = "uring-process";
const STD: &str = "std::process";
const TOKIO: &str = "tokio, current thread";

fn right(output: &[u8]) -> io::Result<()> {
    if output == b"hello\n" {
        Ok(())
    } else {
        Err(io::Error::other("the child said something else"))
    }
}

pub(crate) fn run(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let program = bench.programs.hello();
    let mut command = uring_process::Command::new(&program);
    command
        .stdin(uring_process::Stdio::null())
        .stdout(uring_process::Stdio::piped());
    let plan = command.plan()?;
    let mut std = std::process::Command::new(&program);
    std.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut tokio = tokio::process::Command::new(&program);
    tokio.stdin(Stdio::null()).stdout(Stdio::piped());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut blocked, mut done) = (Samples::default(), Samples::default());
    let mut note = |name: &str, begin: Instant, made: Instant| {
        blocked.push(name.into(), (made - begin).as_secs_f64() * 1e6);
        done.push(name.into(), begin.elapsed().as_secs_f64() * 1e6);
    };
    for round in 0..bench.pick(200, 1000) {
        for turn in 0..3 {
            let begin = Instant::now();
            match (round + turn) % 3 {
                0 => {
                    let starting = plan.start()?;
                    let made = Instant::now();
                    let output = starting.wait()?.wait_with_output()?;
                    note(OURS, begin, made);
                    right(&output.stdout)?;
                }
                1 => {
                    let mut child = std.spawn()?;
                    let made = Instant::now();
                    let mut output = Vec::new();
                    if let Some(stdout) = &mut child.stdout {
                        stdout.read_to_end(&mut output)?;
                    }
                    child.wait()?;
                    note(STD, begin, made);
                    right(&output)?;
                }
                _ => runtime.block_on(async {
                    let child = tokio.spawn()?;
                    let made = Instant::now();
                    let output = child.wait_with_output().await?;
                    note(TOKIO, begin, made);
                    right(&output.stdout)
                })?,
            }
        }
    }
    for rival in [STD, TOKIO] {
        for (name, samples) in [
            ("capture 6 bytes: caller blocked", &blocked),
            ("capture 6 bytes: done", &done),
        ] {
            part.row(Row::paired(
                name,
                "µs",
                samples.of(OURS),
                (rival, samples.of(rival)),
            ));
        }
    }
    Ok(())
}
