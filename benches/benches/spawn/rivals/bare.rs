//! What the machine can do at most: nothing but vfork, execve with the caller's environment, and wait.

use std::{
    ffi::{CString, c_char, c_int, c_void},
    io,
    os::unix::ffi::OsStrExt,
    ptr::null,
    time::{Duration, Instant},
};

use super::{Helper, Rival, What, environ, posix_spawn::wait};

/// One loop, in this process. Its children have this process's own standard input.
pub(crate) struct Loop {
    program: CString,
    stack: Vec<u128>,
}

impl Loop {
    pub(crate) fn new(what: &What) -> io::Result<Self> {
        Ok(Self {
            program: CString::new(what.program.as_os_str().as_bytes())?,
            stack: vec![0; 4096],
        })
    }

    /// vfork(2) cannot be called from Rust, as it returns twice; this is what it does.
    fn vfork(&mut self) -> io::Result<i32> {
        extern "C" fn child(program: *mut c_void) -> c_int {
            let program: *const c_char = program.cast();
            let argv = [program, null()];
            // SAFETY: strings and arrays that end in null; the caller waits, so they stay.
            unsafe {
                libc::execve(program, argv.as_ptr(), environ.cast());
                libc::_exit(127)
            }
        }
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the child has a stack of its own, aligned to 16, until its exec, for which we
        // wait within the call; it makes two system calls.
        let pid = unsafe {
            let top = self.stack.as_mut_ptr_range().end.cast();
            libc::clone(child, top, flags, self.program.as_ptr().cast_mut().cast())
        };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            pid => Ok(pid),
        }
    }
}

impl Rival for Loop {
    fn name(&self) -> String {
        "bare vfork loop".into()
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        let begin = Instant::now();
        let pid = self.vfork()?;
        let blocked = begin.elapsed();
        wait(pid)?;
        Ok(blocked)
    }

    fn many(&mut self, count: usize, _in_flight: usize) -> io::Result<Duration> {
        let begin = Instant::now();
        for _ in 0..count {
            let pid = self.vfork()?;
            wait(pid)?;
        }
        Ok(begin.elapsed())
    }
}

/// Loops in processes of their own, at the same time.
pub(crate) struct Loops(Vec<Helper>);

impl Loops {
    pub(crate) fn new(what: &What, loops: usize) -> io::Result<Self> {
        Ok(Self(
            (0..loops)
                .map(|_| Helper::new("bare", what))
                .collect::<io::Result<_>>()?,
        ))
    }
}

impl Rival for Loops {
    fn name(&self) -> String {
        match self.0.len() {
            1 => "bare vfork loop".into(),
            loops => format!("{loops} bare vfork loops"),
        }
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        self.0[0].blocked()
    }

    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration> {
        let share = count / self.0.len();
        let begin = Instant::now();
        for helper in &mut self.0 {
            helper.ask(&format!("many {share} {in_flight}"))?;
        }
        for helper in &mut self.0 {
            helper.answer()?;
        }
        // As if the rest of an uneven division had been made, too.
        Ok(begin
            .elapsed()
            .mul_f64(count as f64 / (share * self.0.len()) as f64))
    }
}
