//! std::process.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command},
    time::{Duration, Instant},
};

use super::{OTHER, Rival, What, posix_spawn::windows};

pub(crate) struct Std {
    command: Command,
    name: &'static str,
}

impl Std {
    pub(crate) fn new(what: &What) -> Self {
        let mut command = Command::new(&what.program);
        let mut name = "std::process";
        if what.ids {
            name = "std::process, pre_exec";
            command.uid(OTHER).gid(OTHER);
            // SAFETY: one system call.
            unsafe {
                command.pre_exec(|| match libc::setsid() {
                    -1 => Err(io::Error::last_os_error()),
                    _ => Ok(()),
                });
            }
        }
        Self { command, name }
    }
}

impl Rival for Std {
    fn name(&self) -> String {
        self.name.into()
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        let begin = Instant::now();
        let mut child = self.command.spawn()?;
        let blocked = begin.elapsed();
        child.wait()?;
        Ok(blocked)
    }

    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration> {
        let begin = Instant::now();
        let wait = |mut child: Child| child.wait().map(drop);
        windows(count, in_flight, || self.command.spawn(), wait)?;
        Ok(begin.elapsed())
    }
}
