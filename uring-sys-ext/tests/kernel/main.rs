//! The process operation on a kernel that has it: what the ABI says, each in a test.
//!
//! They SKIP elsewhere. `cargo xtask vm test` runs them in a virtual machine, as root and as the
//! only program, with the programs of busybox beside them.

mod attributes;
mod cancel;
mod descriptors;
mod exit;
mod guest;
mod load;
mod rings;
mod security;
mod spawn;
