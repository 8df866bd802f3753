//! Events through a ring buffer: a BPF program that writes them, run by the kernel's test facility, and our reader.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
    time::{Duration, Instant},
};

use bpftune_core::bpf::Events;
use libbpf_rs::{
    MapHandle, MapType,
    libbpf_sys::{
        BPF_PROG_TYPE_SOCKET_FILTER, bpf_insn, bpf_map_create_opts, bpf_prog_load,
        bpf_prog_test_run_opts, bpf_test_run_opts,
    },
};

use crate::{Error, Result, bpf_floor::owned};

/// Bytes of an event: the head and as much as a tuner's sample.
pub const SIZE: usize = 96;
/// Bytes of the buffer.
const BUFFER: u32 = 1 << 20;
/// Events that fit: each has 8 bytes of the kernel's before it.
pub const MOST: u32 = BUFFER / (SIZE as u32 + 8) - 1;

/// `BPF_FUNC_ringbuf_output`.
const RINGBUF_OUTPUT: i32 = 130;
/// `BPF_RB_NO_WAKEUP`: nobody sleeps on it.
const NO_WAKEUP: i32 = 1;

/// A program that does nothing, or that writes one event.
struct Program(OwnedFd);

impl Program {
    fn load(instructions: &[bpf_insn]) -> Result<Program> {
        // SAFETY: the strings end with NUL, the instructions are as many as is said, and no options are given.
        let program = unsafe {
            bpf_prog_load(
                BPF_PROG_TYPE_SOCKET_FILTER,
                c"events".as_ptr(),
                c"GPL".as_ptr(),
                instructions.as_ptr(),
                instructions.len() as u64,
                ptr::null_mut(),
            )
        };
        Ok(Program(owned(program)?))
    }

    fn empty() -> Result<Program> {
        Program::load(&[instruction(0xb7, 0, 0, 0, 0), instruction(0x95, 0, 0, 0, 0)])
    }

    fn writes(map: BorrowedFd<'_>) -> Result<Program> {
        let mut code = Vec::new();
        // *(u64 *)(r10 - SIZE + 8 i) = i
        for word in 0..SIZE / 8 {
            let at = (word * 8) as i16 - SIZE as i16;
            code.push(instruction(0x7a, 10, 0, at, word as i32));
        }
        code.extend([
            // r1 = map
            instruction(0x18, 1, 1, 0, map.as_raw_fd()),
            instruction(0, 0, 0, 0, 0),
            // r2 = r10 - SIZE; r3 = SIZE; r4 = flags
            instruction(0xbf, 2, 10, 0, 0),
            instruction(0x07, 2, 0, 0, -(SIZE as i32)),
            instruction(0xb7, 3, 0, 0, SIZE as i32),
            instruction(0xb7, 4, 0, 0, NO_WAKEUP),
            instruction(0x85, 0, 0, 0, RINGBUF_OUTPUT),
            // r0 = 0; exit
            instruction(0xb7, 0, 0, 0, 0),
            instruction(0x95, 0, 0, 0, 0),
        ]);
        Program::load(&code)
    }

    /// Runs it so many times; nanoseconds that each took, by the kernel's own reckoning.
    fn run(&self, times: u32) -> Result<f64> {
        // A frame of the least length that the kernel takes.
        let frame = [0u8; 64];
        let mut options = bpf_test_run_opts {
            sz: size_of::<bpf_test_run_opts>() as u64,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            repeat: times as i32,
            ..bpf_test_run_opts::default()
        };
        // SAFETY: the options say their size, and the frame outlives the call.
        let error = unsafe { bpf_prog_test_run_opts(self.0.as_raw_fd(), &raw mut options) };
        if error != 0 {
            let why = std::io::Error::from_raw_os_error(-error);
            return Err(Error::doing(
                "cannot run a BPF program by BPF_PROG_TEST_RUN",
            )(why));
        }
        Ok(f64::from(options.duration))
    }
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> bpf_insn {
    let mut instruction = bpf_insn {
        code,
        off: offset,
        imm: number,
        ..bpf_insn::default()
    };
    instruction.set_dst_reg(to);
    instruction.set_src_reg(from);
    instruction
}

/// A ring buffer with its writer and our reader.
pub struct Ring {
    writer: Program,
    empty: Program,
    events: Events,
}

impl Ring {
    /// # Errors
    /// Where the kernel refuses; it takes root.
    pub fn new() -> Result<Ring> {
        let options = bpf_map_create_opts {
            sz: size_of::<bpf_map_create_opts>() as u64,
            ..bpf_map_create_opts::default()
        };
        let map = MapHandle::create(MapType::RingBuf, Some("events"), 0, 0, BUFFER, &options)
            .map_err(|error| Error::other("cannot make a ring buffer (run as root)", error))?;
        Ok(Ring {
            writer: Program::writes(map.as_fd())?,
            empty: Program::empty()?,
            events: Events::new(map).map_err(|error| Error::other("a ring buffer", error))?,
        })
    }

    /// Writes so many events, at most [`MOST`]; nanoseconds for each.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn write(&self, count: u32) -> Result<f64> {
        self.writer.run(count)
    }

    /// Runs a program that does nothing as often; nanoseconds for each.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn write_nothing(&self, count: u32) -> Result<f64> {
        self.empty.run(count)
    }

    /// Reads all as the daemon does. How many there were and how long it took.
    ///
    /// # Errors
    /// What libbpf says.
    pub fn drain(&mut self) -> Result<(usize, Duration)> {
        let begin = Instant::now();
        let events = self
            .events
            .drain()
            .map_err(|error| Error::other("a ring buffer", error))?;
        let took = begin.elapsed();
        Ok((events.len(), took))
    }
}

/// Copies as many bytes as so many events have, from one place to another: what no reader can be faster than.
#[must_use]
pub fn copy(count: usize) -> Duration {
    let from = vec![1u8; count * SIZE];
    let mut to = vec![0u8; count * SIZE];
    let begin = Instant::now();
    std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
    std::hint::black_box(&to);
    begin.elapsed()
}
