//! The system calls that a child makes before its exec, as data.

use crate::{Stage, child::RawCall};

/// An argument of a system call.
#[derive(Debug, Clone)]
pub(crate) enum Arg {
    Value(usize),
    /// The address of a copy of these bytes.
    Data(Box<[u8]>),
    /// The address of a `struct sock_fprog` for these instructions of eight bytes.
    Filter(Box<[u8]>),
}

/// `struct sock_fprog` of `include/uapi/linux/filter.h`: `count` instructions at an address.
pub(crate) fn sock_fprog(count: usize, at: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(count as u16).to_ne_bytes());
    let pointer = size_of::<usize>();
    bytes[pointer..2 * pointer].copy_from_slice(&at.to_ne_bytes());
    bytes
}

/// One system call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) stage: u32,
    pub(crate) number: libc::c_long,
    /// At most 6; those that are missing are 0.
    pub(crate) args: Vec<Arg>,
    /// An errno that is no failure, or 0.
    pub(crate) ignore: i32,
}

/// The calls of a plan, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls {
    early: Vec<Call>,
    /// After `pre_exec`.
    late: Vec<Call>,
    change_ids: bool,
}

impl Calls {
    pub(crate) fn push(&mut self, stage: Stage, number: libc::c_long, args: Vec<Arg>) {
        self.early.push(Call {
            stage: stage as u32,
            number,
            args,
            ignore: 0,
        });
    }

    /// One whose failure with this errno is none.
    pub(crate) fn push_tolerant(
        &mut self,
        stage: Stage,
        number: libc::c_long,
        args: Vec<Arg>,
        ignore: i32,
    ) {
        self.early.push(Call {
            stage: stage as u32,
            number,
            args,
            ignore,
        });
    }

    pub(crate) fn push_late(&mut self, stage: Stage, number: libc::c_long, args: Vec<Arg>) {
        self.late.push(Call {
            stage: stage as u32,
            number,
            args,
            ignore: 0,
        });
    }

    /// The calls change user or group ids, so they cannot be made on the caller's memory.
    pub(crate) fn mark_ids(&mut self) {
        self.change_ids = true;
    }

    pub(crate) fn change_ids(&self) -> bool {
        self.change_ids
    }

    pub(super) fn all(&self) -> Vec<Call> {
        self.early.iter().chain(&self.late).cloned().collect()
    }

    pub(super) fn compile(self) -> Compiled {
        let mut data = Vec::new();
        let mut lower = |calls: Vec<Call>| -> Box<[RawCall]> {
            let mut lowered = Vec::with_capacity(calls.len());
            for Call {
                stage,
                number,
                args,
                ignore,
            } in calls
            {
                let mut raw = [0; 6];
                for (raw, arg) in raw.iter_mut().zip(args) {
                    *raw = match arg {
                        Arg::Value(value) => value,
                        Arg::Data(bytes) => {
                            let bytes = bytes.into_vec();
                            let at = bytes.as_ptr() as usize;
                            data.push(bytes);
                            at
                        }
                        Arg::Filter(bytes) => {
                            let bytes = bytes.into_vec();
                            let fprog = sock_fprog(bytes.len() / 8, bytes.as_ptr() as usize);
                            let fprog = fprog.to_vec();
                            let at = fprog.as_ptr() as usize;
                            data.extend([bytes, fprog]);
                            at
                        }
                    };
                }
                lowered.push(RawCall {
                    number: number as usize,
                    args: raw,
                    stage,
                    ignore,
                });
            }
            lowered.into()
        };
        let (early, late) = (lower(self.early), lower(self.late));
        Compiled {
            early,
            late,
            _data: data,
        }
    }
}

/// As the child reads them.
pub(super) struct Compiled {
    early: Box<[RawCall]>,
    late: Box<[RawCall]>,
    /// What arguments point at. No `Box`, which would claim to be alone.
    _data: Vec<Vec<u8>>,
}

impl Compiled {
    pub(super) fn early(&self) -> (*const RawCall, usize) {
        (self.early.as_ptr(), self.early.len())
    }

    pub(super) fn late(&self) -> (*const RawCall, usize) {
        (self.late.as_ptr(), self.late.len())
    }
}
