//! Namespaces that end: the kernel tells of those that have an id here.
//!
//! A network namespace can give another one an id (`RTM_NEWNSID`, Linux 4.0; `ip netns set`), which keeps nothing alive. When
//! the other one ends, its id goes, and the kernel tells the group `RTNLGRP_NSID` (`RTM_DELNSID`, net/core/net_namespace.c).
//! Giving ids takes `CAP_NET_ADMIN`.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    nsid::{NsidAttribute as Attribute, NsidMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::NetnsCookie;

/// `RTNLGRP_NSID` of linux/rtnetlink.h.
const GROUP: u32 = 28;
/// Of an id that the kernel chooses.
const ANY: i32 = -1;

/// What was heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Departed {
    /// These are gone.
    pub gone: Vec<NetnsCookie>,
    /// More may be: the kernel told of more than was listened to.
    pub missed: bool,
}

/// Tells of the end of namespaces that it was asked to follow.
#[derive(Debug)]
pub struct Departures {
    ask: Socket,
    told: Socket,
    ids: HashMap<i32, NetnsCookie>,
    cookies: HashMap<NetnsCookie, i32>,
    /// Their ids are others' by now.
    replaced: Vec<NetnsCookie>,
}

impl Departures {
    /// In the calling thread's namespace.
    ///
    /// # Errors
    /// A kernel without `CONFIG_NET`'s netlink, or a filter that refuses its sockets.
    pub fn new() -> io::Result<Departures> {
        let mut ask = Socket::new(NETLINK_ROUTE)?;
        ask.bind_auto()?;
        ask.connect(&SocketAddr::new(0, 0))?;
        let mut told = Socket::new(NETLINK_ROUTE)?;
        told.bind_auto()?;
        told.add_membership(GROUP)?;
        told.set_non_blocking(true)?;
        Ok(Departures {
            ask,
            told,
            ids: HashMap::new(),
            cookies: HashMap::new(),
            replaced: Vec::new(),
        })
    }

    /// Ready when there is something to hear.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }

    /// Whether it follows this one.
    #[must_use]
    pub fn follows(&self, netns: NetnsCookie) -> bool {
        self.cookies.contains_key(&netns)
    }

    /// Follows a namespace. `open` is a descriptor of it, needed only for the call.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`.
    pub fn follow(&mut self, netns: NetnsCookie, open: BorrowedFd<'_>) -> io::Result<()> {
        let of = Attribute::Fd(open.as_raw_fd().cast_unsigned());
        let wanted = nsid(vec![of.clone(), Attribute::Id(ANY)]);
        match self.request(Message::NewNsId(wanted)) {
            // It may have one.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            answer => drop(answer?),
        }
        let id = self
            .request(Message::GetNsId(nsid(vec![of])))?
            .filter(|id| *id != ANY)
            .ok_or_else(|| io::Error::other("the namespace got no id"))?;
        if let Some(before) = self.ids.insert(id, netns)
            && before != netns
        {
            self.cookies.remove(&before);
            self.replaced.push(before);
        }
        self.cookies.insert(netns, id);
        Ok(())
    }

    /// What the kernel has told since.
    pub fn heard(&mut self) -> Departed {
        let mut departed = Departed {
            gone: std::mem::take(&mut self.replaced),
            missed: false,
        };
        loop {
            let bytes = match self.told.recv_from_full() {
                Ok((bytes, _)) => bytes,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    departed.missed = true;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return departed,
            };
            let Some(Message::DelNsId(message)) = parse(&bytes) else {
                continue;
            };
            let Some(id) = id(&message).filter(|id| self.ids.contains_key(id)) else {
                continue;
            };
            // One that has it now was given it by us after its owner before had gone.
            if self.is_taken(id) {
                continue;
            }
            if let Some(netns) = self.ids.remove(&id) {
                self.cookies.remove(&netns);
                departed.gone.push(netns);
            }
        }
    }

    fn is_taken(&self, id: i32) -> bool {
        self.request(Message::GetNsId(nsid(vec![Attribute::Id(id)])))
            .is_ok_and(|found| found == Some(id))
    }

    /// The id in the answer, if there is one.
    fn request(&self, message: Message) -> io::Result<Option<i32>> {
        let asks = matches!(message, Message::GetNsId(_));
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | if asks { 0 } else { NLM_F_ACK };
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.ask.send(&bytes, 0)?;
        let (answer, _) = self.ask.recv_from_full()?;
        let answer = NetlinkMessage::<Message>::deserialize(&answer).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            NetlinkPayload::InnerMessage(Message::NewNsId(message)) => Ok(id(&message)),
            _ => Ok(None),
        }
    }
}

fn nsid(attributes: Vec<Attribute>) -> NsidMessage {
    let mut message = NsidMessage::default();
    message.attributes = attributes;
    message
}

fn id(message: &NsidMessage) -> Option<i32> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            Attribute::Id(id) => Some(*id),
            _ => None,
        })
}

/// Notifications come one a datagram.
fn parse(bytes: &[u8]) -> Option<Message> {
    match NetlinkMessage::deserialize(bytes).ok()?.payload {
        NetlinkPayload::InnerMessage(message) => Some(message),
        _ => None,
    }
}
