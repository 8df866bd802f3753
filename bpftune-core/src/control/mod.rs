//! Control of a running daemon: Varlink on a Unix socket.
//!
//! <https://varlink.org>: JSON objects, each ended by a NUL byte. The interface describes itself
//! (`org.varlink.service`), so stock clients work: `varlinkctl introspect unix:/run/bpftune/control
//! io.bpftune.Control`. The framing is ours because the crates for it block a thread a client
//! (varlink) or are futures that want an executor (zlink), and the daemon is one epoll loop. Stock parsers and clients
//! test it.
//!
//! One slow, silent or hostile client costs nobody else anything: a client gets one call a turn of the loop, is read no
//! further than its next message, is not served while it does not read, and a user has a bounded number of connections,
//! of which the longest silent makes room.

mod access;
mod calls;
mod client;
mod connection;
mod decisions;
mod inbox;
mod peer;
mod request;
mod server;
#[cfg(test)]
mod tests;
mod types;

pub use self::{
    access::{Access, Right},
    client::{Client, Watch},
    decisions::{
        Approved, Decision, DiffRange, Difference, Differences, Event, Explanation, History,
        HistoryFilter, Plan, Watched, Wish,
    },
    request::{Query, Request},
    server::{Call, ClientId, Server},
    types::{
        Chosen, Hook, KnobStatus, Range, Rearmed, Report, Status, Tried, Tunable, Tunables, Tuner,
    },
};

/// The name of our interface.
pub const INTERFACE: &str = "io.bpftune.Control";

/// Our interface in Varlink's language.
pub const DESCRIPTION: &str = include_str!("io.bpftune.Control.varlink");

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/bpftune/control";
