//! A program that is written while other threads start children can be run at once.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use uring_process::Command;

use crate::common::{alone, times};

#[test]
fn a_program_just_written_is_not_busy() {
    alone(|| {
        let dir = tempfile::tempdir().unwrap();
        let program = fs::read("/bin/true").unwrap();
        let done = AtomicBool::new(false);
        let others = AtomicUsize::new(0);
        let failures = thread::scope(|scope| {
            for number in 0..3 {
                let (done, others) = (&done, &others);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        // With descriptors above that of the file, and without.
                        let result = match number {
                            0 => Command::new("true").status(),
                            _ => Command::new("true").output().map(|o| o.status),
                        };
                        assert!(result.unwrap().success());
                        others.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let mut failures = Vec::new();
            for round in 0..times(1000) {
                let path = dir.path().join(format!("program-{round}"));
                let mut file = fs::File::options()
                    .write(true)
                    .create_new(true)
                    .mode(0o755)
                    .open(&path)
                    .unwrap();
                io::Write::write_all(&mut file, &program).unwrap();
                drop(file);
                if let Err(error) = Command::new(&path).status() {
                    failures.push(error.to_string());
                }
                fs::remove_file(&path).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            failures
        });
        assert!(others.into_inner() > 20);
        assert!(
            failures.is_empty(),
            "{} of 1000: {}",
            failures.len(),
            failures[0]
        );
    });
}

#[test]
fn a_program_that_stays_busy_fails_as_with_std() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    fs::copy("/bin/true", &path).unwrap();
    let _held = fs::File::options().write(true).open(&path).unwrap();
    crate::both!(&path);
}
