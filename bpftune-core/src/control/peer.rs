//! Who is at the other end of a socket.

use std::{
    fs, io,
    net::SocketAddr,
    os::{fd::AsRawFd, unix::net::UnixStream},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// The credentials that the other end had when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    /// Its group and its supplementary groups.
    pub(super) groups: Vec<u32>,
}

impl Peer {
    /// Of a Unix socket: `SO_PEERCRED`, and `SO_PEERGROUPS` (Linux 4.13).
    pub(super) fn of_unix(stream: &UnixStream) -> io::Result<Peer> {
        let credentials = getsockopt(stream, PeerCredentials)?;
        let mut groups = peer_groups(stream)?;
        groups.push(credentials.gid());
        Ok(Peer {
            uid: credentials.uid(),
            groups,
        })
    }

    /// Of a loopback connection: the kernel's table of sockets tells whose the other end is. Nobody where it is not
    /// found there.
    pub(super) fn of_loopback(local: SocketAddr, remote: SocketAddr) -> Peer {
        let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap_or_default();
        Peer {
            uid: owner(&table, remote.port(), local.port()).unwrap_or(u32::MAX),
            groups: Vec::new(),
        }
    }
}

/// Whose the socket from port `local` to port `remote` on 127.0.0.1 is, by the lines of /proc/net/tcp: the second and
/// third column are addresses and ports in hexadecimal, the eighth is the user.
fn owner(table: &str, local: u16, remote: u16) -> Option<u32> {
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (from, to) = (columns.next()?, columns.next()?);
        let is_it = from.ends_with(&local) && to.ends_with(&remote);
        columns.nth(4)?.parse().ok().filter(|_| is_it)
    })
}

fn peer_groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let mut len = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `groups`, which has room for them.
        let rc = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let count = len as usize / size_of::<u32>();
        if rc == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // Too little room: the kernel says how much it takes.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn knows_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of_unix(&one).unwrap();
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert!(peer.groups.contains(&nix::unistd::getegid().as_raw()));
        for group in nix::unistd::getgroups().unwrap() {
            assert!(peer.groups.contains(&group.as_raw()));
        }
    }

    #[test]
    fn knows_who_connects_by_loopback() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (served, remote) = listener.accept().unwrap();
        let peer = Peer::of_loopback(served.local_addr().unwrap(), remote);
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
    }

    #[test]
    fn reads_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 5 1 0\n   \
                     1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 6 1 0\n";
        assert_eq!(owner(table, 0xC350, 0x1F90), Some(1001));
        assert_eq!(owner(table, 1, 2), None);
        assert_eq!(owner("", 1, 2), None);
    }
}
