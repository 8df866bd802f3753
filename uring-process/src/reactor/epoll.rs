//! Waiting by epoll(7), where io_uring is refused.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use super::{Backend, Interest, Key};

pub(super) struct Epoll {
    fd: OwnedFd,
    events: Box<[libc::epoll_event]>,
    /// What is armed, so that what has fired can be taken out.
    armed: std::collections::HashMap<u64, i32>,
}

impl Epoll {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: integers only; the descriptor that it returns is nobody else's.
        let fd = unsafe {
            match libc::epoll_create1(libc::EPOLL_CLOEXEC) {
                -1 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        Ok(Self {
            fd,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; 256].into(),
            armed: std::collections::HashMap::new(),
        })
    }

    fn control(&self, what: i32, fd: i32, event: Option<libc::epoll_event>) -> io::Result<()> {
        let mut event = event;
        let at = event
            .as_mut()
            .map_or(std::ptr::null_mut(), std::ptr::from_mut);
        // SAFETY: the event, where it is needed, is there for the time of the call.
        match unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), what, fd, at) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn disarm(&mut self, key: u64) {
        if let Some(fd) = self.armed.remove(&key) {
            // The descriptor is open still, so this cannot hit another file.
            let _ = self.control(libc::EPOLL_CTL_DEL, fd, None);
        }
    }
}

impl Backend for Epoll {
    fn arm(&mut self, key: Key, interest: &Interest) -> io::Result<()> {
        let Some(fd) = interest.fd() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let wanted = match interest {
            Interest::Writable(_) => libc::EPOLLOUT,
            _ => libc::EPOLLIN,
        };
        let event = libc::epoll_event {
            events: (wanted | libc::EPOLLONESHOT) as u32,
            u64: key.0,
        };
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), Some(event))?;
        self.armed.insert(key.0, fd.as_raw_fd());
        Ok(())
    }

    fn cancel(&mut self, key: Key) -> bool {
        self.disarm(key.0);
        true
    }

    fn wait(&mut self, timeout: Option<Duration>, fired: &mut Vec<(Key, bool)>) {
        // Rounded up: never before the time.
        let timeout = timeout.map_or(-1, |time| {
            i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        let (at, len) = (self.events.as_mut_ptr(), self.events.len() as i32);
        // SAFETY: as many events are there to write to.
        let count = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), at, len, timeout) };
        for index in 0..usize::try_from(count).unwrap_or(0) {
            let key = self.events[index].u64;
            self.disarm(key);
            fired.push((Key(key), true));
        }
    }

    fn has_words(&self) -> bool {
        false
    }
}
