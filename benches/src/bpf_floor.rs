//! What the kernel's own bookkeeping adds to the cost of a BPF program.
//!
//! With `kernel.bpf_stats_enabled` the kernel reads the clock before and after each run; on a virtual machine
//! that alone can be most of what is measured. A program that returns at once, on the same tracepoint in the same
//! run, shows how much.

use std::{
    io::Error as IoError,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use libbpf_rs::libbpf_sys::{
    BPF_PROG_TYPE_RAW_TRACEPOINT, bpf_insn, bpf_prog_load, bpf_raw_tracepoint_open,
};

use crate::{Error, Result};

/// A BPF program that does nothing, attached to a tracepoint until dropped.
pub struct EmptyProgram {
    program: OwnedFd,
    _link: OwnedFd,
}

impl EmptyProgram {
    /// Attaches to a raw tracepoint, such as `c"tcp_rcv_space_adjust"`.
    pub fn attach(tracepoint: &std::ffi::CStr) -> Result<EmptyProgram> {
        // r0 = 0; exit
        let mut instructions = [bpf_insn::default(); 2];
        instructions[0].code = 0xb7;
        instructions[1].code = 0x95;
        // SAFETY: the strings end with NUL, the instructions are two, and no options are given.
        let program = owned(unsafe {
            bpf_prog_load(
                BPF_PROG_TYPE_RAW_TRACEPOINT,
                c"empty".as_ptr(),
                c"GPL".as_ptr(),
                instructions.as_ptr(),
                instructions.len() as u64,
                ptr::null_mut(),
            )
        })?;
        // SAFETY: the name ends with NUL and the descriptor is a loaded program.
        let link =
            owned(unsafe { bpf_raw_tracepoint_open(tracepoint.as_ptr(), program.as_raw_fd()) })?;
        Ok(EmptyProgram {
            program,
            _link: link,
        })
    }

    /// The program's descriptor number: its statistics are in /proc/self/fdinfo.
    #[must_use]
    pub fn descriptor(&self) -> i32 {
        self.program.as_raw_fd()
    }
}

pub(crate) fn owned(descriptor: i32) -> Result<OwnedFd> {
    if descriptor < 0 {
        let why = IoError::from_raw_os_error(-descriptor);
        return Err(Error::doing("an empty BPF program")(why));
    }
    // SAFETY: libbpf just made it and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
