//! A network in one process: namespaces, a link with delay, loss and rate between them, traffic.
//!
//! Nothing here touches the host's own network. Namespaces have no name, devices are not persistent:
//! all of it goes when the process ends, however it ends.
//!
//! ```no_run
//! use std::time::Duration;
//! use lab::{link::{Link, Shape}, traffic::Transfer};
//!
//! # fn main() -> lab::Result<()> {
//! let link = Link::new(Shape::new(Duration::from_millis(10)).rate(1_000_000_000))?;
//! let transfer = Transfer::start(&link.a, &link.b, link.addr_b().into())?;
//! std::thread::sleep(Duration::from_secs(2));
//! let report = transfer.stop()?;
//! println!("{:.0} Mbit/s", report.mbit_per_s());
//! # Ok(())
//! # }
//! ```
//!
//! Needs root and /dev/net/tun.

pub mod bpf_floor;
pub mod bpf_stats;
pub mod cases;
pub mod daemon;
pub mod elf;
mod error;
pub mod link;
pub mod netns;
pub mod network;
pub mod processor;
pub mod programs;
pub mod result;
pub mod scenario;
pub mod svg;
pub mod system;
pub mod traffic;
pub mod veth;

pub use error::{Error, Result};

/// Why privileged tests cannot run here, or `None` where they can.
#[must_use]
pub fn unprivileged() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        Some("not root")
    } else if !std::path::Path::new("/dev/net/tun").exists() {
        Some("no /dev/net/tun")
    } else {
        None
    }
}
