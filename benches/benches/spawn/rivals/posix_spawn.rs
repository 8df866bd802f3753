//! posix_spawn(3) of the C library, used as std uses it.

use std::{
    collections::VecDeque,
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::unix::ffi::OsStrExt,
    ptr::null_mut,
    time::{Duration, Instant},
};

use super::{Rival, What, environ};

pub(crate) struct PosixSpawn {
    program: CString,
    actions: Box<libc::posix_spawn_file_actions_t>,
    attributes: Box<libc::posix_spawnattr_t>,
}

fn checked(code: i32) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

impl PosixSpawn {
    pub(crate) fn new(what: &What) -> io::Result<Self> {
        let program = CString::new(what.program.as_os_str().as_bytes())?;
        let mut actions = Box::new(MaybeUninit::uninit());
        let mut attributes = Box::new(MaybeUninit::uninit());
        // SAFETY: both are made by their init functions before any other use; what those return
        // is looked at first.
        unsafe {
            checked(libc::posix_spawn_file_actions_init(actions.as_mut_ptr()))?;
            checked(libc::posix_spawnattr_init(attributes.as_mut_ptr()))?;
            let (actions, mut attributes) = (actions.assume_init(), attributes.assume_init());
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            checked(libc::posix_spawnattr_setsigmask(
                &raw mut *attributes,
                &raw const set,
            ))?;
            libc::sigaddset(&raw mut set, libc::SIGPIPE);
            checked(libc::posix_spawnattr_setsigdefault(
                &raw mut *attributes,
                &raw const set,
            ))?;
            let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
            checked(libc::posix_spawnattr_setflags(
                &raw mut *attributes,
                flags as libc::c_short,
            ))?;
            Ok(Self {
                program,
                actions,
                attributes,
            })
        }
    }

    fn spawn(&self) -> io::Result<i32> {
        let mut pid = 0;
        let argv = [self.program.as_ptr().cast_mut(), null_mut()];
        // SAFETY: all are valid for the time of the call; nobody changes the environment.
        checked(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                self.program.as_ptr(),
                &raw const *self.actions,
                &raw const *self.attributes,
                argv.as_ptr(),
                environ,
            )
        })?;
        Ok(pid)
    }
}

pub(super) fn wait(pid: i32) -> io::Result<()> {
    // SAFETY: our own child; a null pointer asks for nothing.
    match unsafe { libc::waitpid(pid, null_mut(), 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Up to `in_flight` at a time: when as many run, the oldest is waited for. One that is over already
/// costs its waiter no sleep, so this is the fastest way for a caller that can only block; waiting
/// for all of them before going on was no faster.
pub(super) fn windows<T>(
    count: usize,
    in_flight: usize,
    mut spawn: impl FnMut() -> io::Result<T>,
    mut wait: impl FnMut(T) -> io::Result<()>,
) -> io::Result<()> {
    let mut running = VecDeque::with_capacity(in_flight);
    for _ in 0..count {
        if running.len() == in_flight
            && let Some(oldest) = running.pop_front()
        {
            wait(oldest)?;
        }
        running.push_back(spawn()?);
    }
    running.into_iter().try_for_each(wait)
}

impl Drop for PosixSpawn {
    fn drop(&mut self) {
        // SAFETY: both were initialised, and are not used any more.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&raw mut *self.actions);
            libc::posix_spawnattr_destroy(&raw mut *self.attributes);
        }
    }
}

impl Rival for PosixSpawn {
    fn name(&self) -> String {
        "posix_spawn".into()
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        let begin = Instant::now();
        let pid = self.spawn()?;
        let blocked = begin.elapsed();
        wait(pid)?;
        Ok(blocked)
    }

    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration> {
        let begin = Instant::now();
        windows(count, in_flight, || self.spawn(), wait)?;
        Ok(begin.elapsed())
    }
}
