//! Where the questions of the proofs are put to the kernel.

use std::{
    io,
    ptr::null,
    time::{Duration, Instant},
};

use io_uring::{
    IoUring, cqueue, opcode as stock,
    squeue::{Entry, Flags},
    types,
};

use super::{
    Candidates, Supported,
    private::Place,
    prove::{self, Bytes, LARGEST, Part},
};
use crate::{
    Error,
    opcode::{Clone, Exec, OpCode, Process},
    process::OpFlags,
};

/// How long an operation may take to answer.
const LIMIT: Duration = Duration::from_secs(1);

/// Tries the candidates in order, on a thread whose descriptor table is its own.
pub(super) fn try_all(candidates: &Candidates<'_>, place: &Place) -> Result<Supported, Error> {
    let mut found = Supported::default();
    let mut bench = Bench {
        place,
        ring: place.ring()?,
        memory: Memory::new(),
    };
    for number in candidates.process {
        // SAFETY: only for entries that are harmless whatever the number means.
        let number = unsafe { OpCode::assume(*number) };
        if let Some(size) = prove::process(|bytes, size| bench.ask_process(number, bytes, size))? {
            (found.process, found.attributes_size) = (Some(number), size);
            break;
        }
    }
    for (clone, exec) in candidates.clone_exec {
        // SAFETY: as above.
        let (clone, exec) = unsafe { (OpCode::assume(*clone), OpCode::assume(*exec)) };
        if prove::clone_exec(|chain| bench.ask_pair(clone, exec, chain))? {
            found.clone_exec = Some((clone, exec));
            break;
        }
    }
    bench.finish();
    Ok(found)
}

/// What operations may point into. An answer is looked for nowhere else.
///
/// The path is not at the start of a page, so an operation on a range of pages refuses it.
#[repr(C, align(4096))]
struct Arena {
    strings: [*const libc::c_char; 2],
    path: [u8; 8],
    attributes: Bytes,
}

/// An arena that no reference is ever made to: the kernel may write to it at any time. It is leaked
/// unless [`Bench::finish`] frees it.
struct Memory(*mut Arena);

impl Memory {
    fn new() -> Self {
        let empty = Arena {
            strings: [null(); 2],
            path: [0; 8],
            attributes: [0; LARGEST],
        };
        Self(Box::into_raw(Box::new(empty)))
    }

    /// Sets all of it anew, whatever earlier questions made of it.
    fn fill(&self, attributes: &Bytes) {
        let new = Arena {
            strings: [null(); 2],
            path: [0; 8],
            attributes: *attributes,
        };
        // SAFETY: valid for as long as `self` lives.
        unsafe { self.0.write_volatile(new) };
    }

    fn attributes(&self) -> *mut u8 {
        // SAFETY: valid for as long as `self` lives; no reference is made.
        unsafe { (&raw mut (*self.0).attributes).cast() }
    }

    fn path(&self) -> *const libc::c_char {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).path).cast() }
    }

    fn strings(&self) -> *const *const libc::c_char {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).strings).cast() }
    }

    fn read(&self) -> Bytes {
        // SAFETY: valid and initialised, and any bytes are a value.
        unsafe { self.attributes().cast::<Bytes>().read_volatile() }
    }
}

/// A ring and its memory. A question that was not answered replaces both.
struct Bench<'p> {
    place: &'p Place,
    ring: IoUring,
    memory: Memory,
}

impl Bench<'_> {
    /// For [`prove::process`].
    fn ask_process(
        &mut self,
        number: OpCode,
        attributes: &Bytes,
        size: u32,
    ) -> Result<Option<(i32, Bytes)>, Error> {
        self.memory.fill(attributes);
        let entry = Process::new(number, -1, self.memory.path())
            .argv(self.memory.strings())
            .envp(self.memory.strings())
            .attributes_sized(self.memory.attributes(), size)
            .op_flags(OpFlags::PROBE)
            .build();
        let results = self.ask(&[entry])?;
        Ok(results.map(|results| (results[0], self.memory.read())))
    }

    /// For [`prove::clone_exec`].
    fn ask_pair(
        &mut self,
        clone: OpCode,
        exec: OpCode,
        chain: &[Part],
    ) -> Result<Option<Vec<i32>>, Error> {
        self.memory.fill(&[0; LARGEST]);
        let strings = self.memory.strings();
        let mut entries: Vec<Entry> = chain
            .iter()
            .map(|part| match part {
                Part::Clone => Clone::new(clone).build(),
                Part::Nop => stock::Nop::new().build(),
                Part::Exec => Exec::new(exec, -1, self.memory.path(), strings, strings).build(),
            })
            .collect();
        if let [head, _] = entries.as_mut_slice() {
            *head = head.clone().flags(Flags::IO_LINK);
        }
        let results = self.ask(&entries)?;
        // Only where there may be a child: a head that refused has made none.
        if chain.len() > 1 && results.as_ref().is_none_or(|results| results[0] >= 0) {
            self.place.reap_children();
        }
        Ok(results)
    }

    /// Submits the entries, and returns their results in the order of the entries; `None` if one
    /// did not answer in time, or not for good.
    fn ask(&mut self, entries: &[Entry]) -> Result<Option<Vec<i32>>, Error> {
        // SAFETY: entries point into the arena, which nothing refers to, and which is freed only
        // where every request of the ring has been answered.
        let results = unsafe { submit(&mut self.ring, entries) }?;
        if results.is_none() {
            // Something may still be pending: closing the ring cancels it, its memory stays.
            self.ring = self.place.ring()?;
            self.memory = Memory::new();
        }
        Ok(results)
    }

    /// Takes back the memory.
    fn finish(self) {
        drop(self.ring);
        // SAFETY: made by `Box::into_raw`; every request that got a pointer into this arena has
        // completed, else `ask` had replaced it.
        drop(unsafe { Box::from_raw(self.memory.0) });
    }
}

/// Submits the entries and waits for their results.
///
/// # Safety
/// What the entries point at must be memory that any operation may write to, and must stay until
/// they have been answered.
unsafe fn submit(ring: &mut IoUring, entries: &[Entry]) -> Result<Option<Vec<i32>>, Error> {
    let failed = |source| Error::Discovery {
        what: "submit to the ring",
        source,
    };
    for (at, entry) in entries.iter().enumerate() {
        // SAFETY: as the caller promised.
        unsafe { ring.submission().push(&entry.clone().user_data(at as u64)) }
            .map_err(|full| failed(io::Error::other(full)))?;
    }
    let until = Instant::now() + LIMIT;
    let mut results = vec![None; entries.len()];
    loop {
        for completion in ring.completion() {
            if cqueue::more(completion.flags()) {
                return Ok(None); // a request that goes on: none of ours does
            }
            if let Some(slot) = results.get_mut(completion.user_data() as usize) {
                *slot = Some(completion.result());
            }
        }
        if results.iter().all(Option::is_some) {
            return Ok(results.into_iter().collect());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let left = types::Timespec::from(left);
        let args = types::SubmitArgs::new().timespec(&left);
        match ring.submitter().submit_with_args(1, &args) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
