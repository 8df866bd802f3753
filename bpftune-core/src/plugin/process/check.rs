//! A plugin's first line, for its author.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    super::{Context, Settings, in_words, protocol::Hello, sandbox::pick},
    HELLO_WITHIN, Process, Program,
};

/// Starts a program as the daemon would and waits for its hello; ends it then.
///
/// # Errors
/// As text, for people: what is wrong with it.
pub fn check(name: &str, path: &Path, settings: &Settings) -> Result<Hello, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let program = Program {
        name: name.to_owned(),
        path: path.to_owned(),
        file,
        uid: pick(name, |_| false),
    };
    let context = Rc::new(Context::new(&[]).map_err(in_words)?);
    let mut process = Process::start(&program, settings, context).map_err(in_words)?;
    let epoll = process.epoll();
    let deadline = Instant::now() + HELLO_WITHIN * 2;
    loop {
        process.pump(&mut Vec::new());
        if let Some(hello) = process.hello() {
            return Ok(hello.clone());
        }
        let pidfd = process.pidfd();
        if pidfd.is_some_and(|fd| is_ready(fd, Duration::ZERO)) {
            return Err(process.reap());
        }
        if Instant::now() > deadline {
            return Err("it does not end".into());
        }
        is_ready(epoll.0.as_fd(), Duration::from_millis(100));
    }
}

fn is_ready(fd: BorrowedFd<'_>, wait: Duration) -> bool {
    let mut one = [PollFd::new(fd, PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
    poll(&mut one, timeout).is_ok_and(|count| count > 0)
}
