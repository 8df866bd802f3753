//! `ETXTBSY`: a program that was just written cannot be run while a child of somebody else still
//! has it open for writing.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use lab::{
    elf,
    result::{Part, Row},
};

use super::Bench;
use crate::rivals::{Ours, Rival, Std, What};

pub(crate) fn run(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let count = bench.pick(200, 1000);
    let others = What::program(&bench.programs.exit());
    let dir = bench.programs.dir().to_owned();
    let run_ours = |what: &What| {
        uring_process::Command::new(&what.program)
            .status()
            .map(drop)
    };
    let run_std = |what: &What| std::process::Command::new(&what.program).status().map(drop);
    let (mut ours, mut theirs) = (0, 0);
    // In turn, in tenths.
    for _ in 0..10 {
        let make_ours = || Ours::new(&others).map(|ours| Box::new(ours) as Box<dyn Rival>);
        ours += race(&dir, count / 10, make_ours, run_ours)?;
        let make_std = || Ok(Box::new(Std::new(&others)) as Box<dyn Rival>);
        theirs += race(&dir, count / 10, make_std, run_std)?;
    }
    let name = format!("ETXTBSY in {count} runs of fresh programs, two threads spawning");
    let row = Row::count(name, "", f64::from(ours));
    part.row(row.at_most(0.0).beside("std::process", f64::from(theirs)));
    Ok(())
}

/// The error itself, or the one that it was made of.
fn is_busy(error: &io::Error) -> bool {
    let source = error.get_ref().and_then(|inner| inner.source());
    let source = source.and_then(|source| source.downcast_ref::<io::Error>());
    source.unwrap_or(error).raw_os_error() == Some(libc::ETXTBSY)
}

fn race(
    dir: &Path,
    count: usize,
    make: impl Fn() -> io::Result<Box<dyn Rival>> + Sync,
    run: impl Fn(&What) -> io::Result<()>,
) -> io::Result<u32> {
    let over = AtomicBool::new(false);
    let image = elf::exit_image();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut rival = make()?;
                while !over.load(Ordering::Relaxed) {
                    rival.blocked()?;
                }
                Ok::<(), io::Error>(())
            });
        }
        let mut busy = 0;
        let result = (0..count).try_for_each(|at| {
            let path = dir.join(format!("fresh{at}"));
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o755)
                .open(&path)?;
            file.write_all(&image)?;
            drop(file);
            let outcome = run(&What::program(&path));
            fs::remove_file(&path)?;
            match outcome {
                Err(error) if is_busy(&error) => {
                    busy += 1;
                    Ok(())
                }
                other => other,
            }
        });
        over.store(true, Ordering::Relaxed);
        result.map(|()| busy)
    })
}
