//! Control of a running daemon: Varlink on a Unix socket.
//!
//! <https://varlink.org>: JSON objects, each ended by a NUL byte. The interface describes itself
//! (`org.varlink.service`), so stock clients work: `varlinkctl introspect unix:/run/bpftune/control
//! io.bpftune.Control`. The framing is ours because the crates for it block a thread a client or
//! bring an async runtime, and the daemon is one epoll loop.

mod client;
mod server;
#[cfg(test)]
mod tests;
mod types;

pub use self::{
    client::Client,
    server::{Call, ClientId, Server},
    types::{
        Decision, Explanation, History, Hook, KnobStatus, Rearmed, Request, Reverted, Status, Tuner,
    },
};

/// The name of our interface.
pub const INTERFACE: &str = "io.bpftune.Control";

/// Our interface in Varlink's language.
pub const DESCRIPTION: &str = include_str!("io.bpftune.Control.varlink");

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/bpftune/control";
