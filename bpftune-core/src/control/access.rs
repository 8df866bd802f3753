//! Who may call what: readers and writers by group.

use nix::unistd::Group;

use super::peer::Peer;
use crate::config::schema as config;

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Looks.
    Read,
    /// Changes something.
    Write,
}

/// The groups whose members may call. Root, and whoever the daemon runs as, always may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Members may look. The socket's file belongs to this group, so only its members can connect at all.
    pub readers: String,
    /// Members may look and change.
    pub writers: String,
}

impl Default for Access {
    fn default() -> Access {
        Access {
            readers: "bpftune".into(),
            writers: "bpftune-admin".into(),
        }
    }
}

impl From<&config::Control> for Access {
    fn from(config: &config::Control) -> Access {
        Access {
            readers: config.read_group.clone(),
            writers: config.write_group.clone(),
        }
    }
}

/// [`Access`] with the groups' numbers, looked up once.
#[derive(Debug)]
pub(super) struct Resolved {
    names: Access,
    readers: Option<u32>,
    writers: Option<u32>,
    own: u32,
}

fn number(name: &str) -> Option<u32> {
    match Group::from_name(name) {
        Ok(group) => group.map(|group| group.gid.as_raw()),
        Err(error) => {
            tracing::warn!("cannot look up group {name}: {error}; its members may not call");
            None
        }
    }
}

impl Resolved {
    pub(super) fn new(names: Access) -> Resolved {
        Resolved {
            readers: number(&names.readers),
            writers: number(&names.writers),
            own: nix::unistd::geteuid().as_raw(),
            names,
        }
    }

    /// The group that the socket's file should belong to.
    pub(super) fn socket_group(&self) -> Option<u32> {
        self.readers.or(self.writers)
    }

    /// Whether the caller has the right; else the group that would give it.
    pub(super) fn check(&self, peer: &Peer, right: Right) -> Result<(), &str> {
        if peer.uid == 0 || peer.uid == self.own {
            return Ok(());
        }
        let member = |group: Option<u32>| group.is_some_and(|gid| peer.groups.contains(&gid));
        match right {
            Right::Read if member(self.readers) || member(self.writers) => Ok(()),
            Right::Write if member(self.writers) => Ok(()),
            Right::Read => Err(&self.names.readers),
            Right::Write => Err(&self.names.writers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_names_the_same_groups() {
        assert_eq!(Access::from(&config::Control::default()), Access::default());
    }

    #[test]
    fn groups_give_rights() {
        let access = Resolved {
            names: Access::default(),
            readers: Some(500),
            writers: Some(600),
            own: 0,
        };
        let peer = |uid: u32, groups: &[u32]| Peer {
            uid,
            groups: groups.to_vec(),
        };
        for (who, read, write) in [
            (peer(0, &[]), Ok(()), Ok(())),
            (peer(7, &[1, 500]), Ok(()), Err("bpftune-admin")),
            (peer(7, &[600]), Ok(()), Ok(())),
            (peer(7, &[7]), Err("bpftune"), Err("bpftune-admin")),
        ] {
            assert_eq!(access.check(&who, Right::Read), read, "{who:?}");
            assert_eq!(access.check(&who, Right::Write), write, "{who:?}");
        }
    }

    #[test]
    fn without_the_groups_only_root_calls() {
        let access = Resolved::new(Access {
            readers: "no-such-group-1".into(),
            writers: "no-such-group-2".into(),
        });
        assert_eq!(access.socket_group(), None);
        let stranger = Peer {
            uid: 4_000_000,
            groups: vec![0],
        };
        assert_eq!(access.check(&stranger, Right::Read), Err("no-such-group-1"));
    }
}
