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
//! With [`OpFlags::EXIT`] the completion comes when the process has ended instead, with the status
//! that `waitpid(2)` would give, and the process reaps itself: one request runs a program from its
//! start to its end. Cancelling the request ends the program, so a linked timeout bounds how long
//! it runs, and a link goes on after the status 0 only, as `&&` in a shell. `ECANCELED` with
//! [`Stage::None`] says that the program ran and was ended, `EPERM` with it that the program had
//! taken on ids of others, could not be ended, and was let go of.
//!
//! ```no_run
//! use std::{os::unix::process::ExitStatusExt, process::ExitStatus, ptr::null};
//! use uring_sys_ext::{discovery::{self, Candidates}, opcode, process::OpFlags};
//!
//! let Some(number) = discovery::get(&Candidates::default())?.process else {
//!     return Ok(()); // use std::process
//! };
//! let argv = [c"make".as_ptr(), null()];
//! let entry = opcode::Process::new(number, libc::AT_FDCWD, c"/usr/bin/make".as_ptr())
//!     .argv(argv.as_ptr())
//!     .op_flags(OpFlags::EXIT | OpFlags::SYNC) // this thread has nothing else to do meanwhile
//!     .build();
//! let mut ring: io_uring::IoUring = io_uring::IoUring::builder()
//!     .setup_single_issuer()
//!     .setup_defer_taskrun()
//!     .build(8)?;
//! // SAFETY: all that the entry points at lives until the completion has been taken below.
//! unsafe { ring.submission().push(&entry)? };
//! ring.submit_and_wait(1)?;
//! let result = ring.completion().next().unwrap().result();
//! match result {
//!     0.. => println!("{}", ExitStatus::from_raw(result)),
//!     errno => println!("it did not run: errno {}", -errno),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
