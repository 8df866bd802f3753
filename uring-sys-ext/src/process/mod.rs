//! `io_uring_process`: a new process as one request, byte for byte.
//!
//! No kernel that is released has this operation. The module is its proposed ABI, fixed so that a
//! kernel can implement exactly it; [`discovery`](crate::discovery) finds out whether one does.
//!
//! # The request
//!
//! [`Request`] is an SQE read as this operation reads it: the arguments of `execveat(2)`, and a
//! pointer to [`Attributes`] with its size for everything that execveat has no argument for.
//!
//! ```text
//!  0 opcode   1 flags   2 op_flags   4 dirfd      8 argv
//! 16 path              24 attributes_size  28 exec_flags
//! 32 user_data         40 reserved  42 personality  44 reserved
//! 48 envp              56 attributes
//! ```
//!
//! # The completion
//!
//! One completion, when the new program runs or it is certain that it never will. Its result is
//! the new process's PID in the submitter's PID namespace, or a negative errno. Of a request that
//! failed there is no process left, nothing to wait for, and no descriptor. Where attributes were
//! given, [`Attributes::stage`] says how far it came. A soft link
//! ([`IO_LINK`](io_uring::squeue::Flags::IO_LINK)) behind it goes on after a PID and is cancelled
//! by an error.
//!
//! With [`OpFlags::PROBE`] the operation checks the attributes and the path, makes no process, and
//! completes with 0 or the error.
//!
//! # Order in the new process
//!
//! That of [`Stage`]: descriptors, groups, group id, user id, directory, process group or session,
//! signals, execveat. All descriptors named in the attributes are looked up in the submitter's
//! table.

mod attributes;
mod request;
mod stage;

pub use attributes::{AttributeFlags, Attributes, FdMapping, SLOT_ALLOC};
pub use request::{OpFlags, Request};
pub use stage::Stage;
