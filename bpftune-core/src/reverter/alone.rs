//! What runs in the reverter's process.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::SigSet,
    unistd::{Pid, getppid, read},
};

use super::{BEAT, GOODBYE, IDLE, STALLED};
use crate::{
    Error, Result, engine,
    journal::{self, Journal},
    netns::Namespaces,
    privilege, restore,
};

/// How a daemon ends, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Goodbye,
    Dead,
    Stalled,
}

pub(super) fn run(state_dir: &Path) -> ExitCode {
    // Whoever ends the daemon's whole group, or the terminal, must not end this first: it goes when the daemon goes.
    let _ = SigSet::all().thread_block();
    let _ = nix::sys::prctl::set_name(c"bpftune-revert");
    // The last to go when memory runs out. Refused without CAP_SYS_RESOURCE, then as any other.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    // Not fatal: less is not needed to be safe, only to be tidy.
    let _ = privilege::drop_rest();
    let daemon = pidfd(getppid());
    let stdin = std::io::stdin();
    match watch(stdin.as_fd()) {
        Ok(End::Goodbye) => ExitCode::SUCCESS,
        Ok(end) => {
            let result = revert(end, daemon.as_ref().map(AsFd::as_fd), state_dir);
            report(result)
        }
        Err(error) => report(Err(Error::system("poll")(error))),
    }
}

/// Waits for the end.
fn watch(pipe: BorrowedFd<'_>) -> nix::Result<End> {
    let stalled = PollTimeout::try_from(STALLED).expect("half a minute fits");
    let mut timeout = PollTimeout::NONE;
    let mut bytes = [0; 64];
    loop {
        match poll(&mut [PollFd::new(pipe, PollFlags::POLLIN)], timeout) {
            Ok(0) => return Ok(End::Stalled),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
        }
        let count = read(pipe, &mut bytes)?;
        if count == 0 {
            return Ok(End::Dead);
        }
        for byte in &bytes[..count] {
            match *byte {
                BEAT => timeout = stalled,
                IDLE => timeout = PollTimeout::NONE,
                GOODBYE => return Ok(End::Goodbye),
                _ => {}
            }
        }
    }
}

fn revert(end: End, daemon: Option<BorrowedFd<'_>>, state_dir: &Path) -> Result<restore::Report> {
    if end == End::Stalled
        && let Some(daemon) = daemon
    {
        say(&format!(
            "the daemon gave no sign for {} s while changes were on trial: it is killed, its changes are put back",
            STALLED.as_secs()
        ));
        kill(daemon)?;
    }
    if !journal::file(state_dir).exists() {
        return Ok(restore::Report::default());
    }
    let _lock = engine::lock_state_to_revert(state_dir)?;
    let mut namespaces = Namespaces::new()?;
    let mut journal = Journal::open(state_dir)?;
    restore::restore_after_crash(&mut journal, &mut namespaces)
}

fn report(result: Result<restore::Report>) -> ExitCode {
    match result {
        Ok(report) => {
            for line in report.to_string().lines() {
                say(&format!("the daemon ended without restoring: {line}"));
            }
            ExitCode::SUCCESS
        }
        // A daemon that is there again restores by itself.
        Err(Error::Locked { .. }) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error}; run `bpftune revert`"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    // The daemon's standard error may be gone with it.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("bpftune reverter: {text}\n").as_bytes(),
    );
}

/// A descriptor for a process, which no later process with its number can be mistaken for.
fn pidfd(pid: Pid) -> Option<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // Still our parent, so it was when the descriptor was made.
    (getppid() == pid).then_some(fd)
}

fn kill(daemon: BorrowedFd<'_>) -> Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: pidfd_send_signal(2) with a null siginfo reads no memory of ours.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            daemon.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(rc).map_err(Error::system("cannot kill the stalled daemon"))?;
    let patience = PollTimeout::try_from(Duration::from_secs(5)).expect("five seconds fit");
    poll(&mut [PollFd::new(daemon, PollFlags::POLLIN)], patience).map_err(Error::system("poll"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn tells_goodbye_from_death() {
        let end = |said: &[u8]| {
            let (theirs, ours) = nix::unistd::pipe().unwrap();
            std::fs::File::from(ours).write_all(said).unwrap();
            watch(theirs.as_fd()).unwrap()
        };
        assert_eq!(end(b"+++.q"), End::Goodbye);
        assert_eq!(end(b"+++."), End::Dead);
        assert_eq!(end(b""), End::Dead);
        assert_eq!(
            end(b"?"),
            End::Dead,
            "words from a newer daemon are no goodbye"
        );
    }
}
