#![doc = include_str!("../README.md")]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(not(target_os = "linux"))]
compile_error!("uring-process stands on Linux: pidfds, clone3, io_uring");

mod blocking;
mod child;
mod command;
mod error;
pub mod future;
mod launcher;
mod machine;
#[doc = include_str!("migration.md")]
pub mod migration {}
mod plan;
mod reactor;
pub mod ring;
mod slot;
mod stage;
mod start;
mod sys;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use blocking::{Child, Starting};
pub use command::{Command, FdPolicy, SockFilter, Stdio};
pub use error::Error;
pub use plan::ExecPlan;
pub use stage::Stage;
pub use std::process::{ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
