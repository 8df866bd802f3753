#![doc = include_str!("../README.md")]
//!
//! # The modules
//!
//! * [`RawSqe`], [`RawSqe128`]: queue entries with named fields, to and from io-uring's own.
//! * [`process`]: the request `io_uring_process` and its attributes, byte for byte.
//! * [`opcode`]: builders in io-uring's style: [`Process`](opcode::Process),
//!   [`Clone`](opcode::Clone), [`Exec`](opcode::Exec).
//! * [`discovery`]: which of them this kernel has, and under which number.
//! * [`query`]: `IORING_REGISTER_QUERY`, what an io_uring of this kernel knows at all.
//! * [`sized`]: the rules by which a structure grows without breaking anybody.
//!
//! # Allocation
//!
//! None outside of discovery, which starts a thread and makes a ring.
//!
//! # Who keeps pointers alive
//!
//! Nothing here owns what a request points at. Path, argv, envp, attributes and all that the
//! attributes point at are read by the new process, later than the system call that submits them.
//! They must stay valid, unmoved and unchanged until the request's completion has been taken from
//! the completion queue, also when nobody waits for it any more. That promise is given where an
//! entry is pushed: [`SubmissionQueue::push`](io_uring::SubmissionQueue::push) is `unsafe`.

pub mod discovery;
mod error;
pub mod opcode;
pub mod process;
pub mod query;
pub mod sized;
mod sqe;

pub use error::Error;
pub use sqe::{RawSqe, RawSqe128};

#[cfg(not(target_os = "linux"))]
compile_error!("io_uring is an interface of Linux");
