//! Network namespaces without a name: they live as long as the process holds them.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::{
        fd::{AsFd, AsRawFd},
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::PathBuf,
    process::Command,
    sync::Arc,
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use crate::{Error, Result};

/// A network namespace with its loopback up.
#[derive(Clone, Debug)]
pub struct Netns {
    file: Arc<File>,
}

impl Netns {
    /// Makes one.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn new() -> Result<Netns> {
        let file = thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).map_err(Error::doing(
                "cannot make a network namespace (run as root)",
            ))?;
            crate::link::bring_up("lo")?;
            File::open("/proc/thread-self/ns/net")
                .map_err(Error::doing("cannot open the new namespace"))
        })
        .join()
        .expect("the thread does not panic")?;
        Ok(Netns {
            file: Arc::new(file),
        })
    }

    fn enter(&self) {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)
            .expect("a namespace held open can be entered");
    }

    /// Runs `f` on a thread inside.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                f()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread inside.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let me = self.clone();
        thread::spawn(move || {
            me.enter();
            f()
        })
    }

    /// A path to it that other processes can open while this process lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Its inode, as `lsns` shows it.
    ///
    /// # Errors
    /// Does not fail in practice.
    pub fn inode(&self) -> Result<u64> {
        Ok(self
            .file
            .metadata()
            .map_err(Error::doing("cannot stat a namespace"))?
            .ino())
    }

    /// Its cookie, as BPF programs see it (SO_NETNS_COOKIE).
    ///
    /// # Errors
    /// Before Linux 5.14.
    pub fn cookie(&self) -> Result<u64> {
        self.run(|| {
            let socket = socket(
                AddressFamily::Inet,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                None,
            )
            .map_err(Error::doing("cannot open a socket"))?;
            let mut cookie = 0u64;
            let mut len = size_of::<u64>() as libc::socklen_t;
            // SAFETY: the kernel writes at most `len` bytes to `cookie`, both of which outlive the call.
            let rc = unsafe {
                libc::getsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_NETNS_COOKIE,
                    std::ptr::from_mut(&mut cookie).cast(),
                    &raw mut len,
                )
            };
            Errno::result(rc).map_err(Error::doing(
                "cannot ask for a namespace's cookie (Linux 5.14 or later)",
            ))?;
            Ok(cookie)
        })
    }

    /// Reads a sysctl inside, white space folded.
    ///
    /// # Errors
    /// Where there is no such sysctl.
    pub fn sysctl(&self, name: &str) -> Result<String> {
        let text = self
            .run(|| fs::read_to_string(sysctl_path(name)))
            .map_err(Error::doing(format!("cannot read {name}")))?;
        Ok(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Writes a sysctl inside.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.run(|| fs::write(sysctl_path(name), value))
            .map_err(Error::doing(format!("cannot write {name} = \"{value}\"")))
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let me = self.clone();
        let mut command = Command::new(program);
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                setns(me.file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(Into::into)
            });
        }
        command
    }
}

fn sysctl_path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}
