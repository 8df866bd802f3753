//! The proofs: what is asked in which order, and which answers are accepted.
//!
//! Nothing here touches the kernel. The functions take a closure that asks and answers, so the
//! verdict over any sequence of answers can be tested.

use std::mem::offset_of;

use crate::{
    Error,
    process::{Attributes, Stage},
};

/// Attributes may be no longer than this many bytes.
pub(super) const LARGEST: usize = 4096;

/// What stands in the fields for answers when asking: neither zero nor a size nor a stage.
const PATTERN: u8 = 0xa5;

/// Attributes as bytes, with room for those of any version.
pub(super) type Bytes = [u8; LARGEST];

/// The size in bytes of the attributes that the process operation knows, if it is the one asked.
///
/// `ask` submits a request with [`PROBE`](crate::process::OpFlags::PROBE), an empty path and the
/// first so many of these bytes as attributes. It returns the result and the bytes afterwards, or
/// `None` if the operation did not answer.
pub(super) fn process(
    mut ask: impl FnMut(&Bytes, u32) -> Result<Option<(i32, Bytes)>, Error>,
) -> Result<Option<u32>, Error> {
    let too_big = question(|bytes| bytes[LARGEST - 1] = 1);
    let answer = ask(&too_big, LARGEST as u32)?;
    let Some((result, known)) = judge(answer, &too_big, Stage::Attributes) else {
        return Ok(None);
    };
    let plausible =
        known >= Attributes::SIZE_VER0 && (known as usize) < LARGEST && known.is_multiple_of(8);
    if result != -libc::E2BIG || !plausible {
        return Ok(None);
    }
    for (asked, stage, expected) in [
        (
            question(|bytes| bytes[..8].fill(0xff)),
            Stage::Attributes,
            -libc::EINVAL,
        ),
        (question(|_| {}), Stage::Path, -libc::ENOENT),
    ] {
        let answer = ask(&asked, known)?;
        if judge(answer, &asked, stage) != Some((expected, known)) {
            return Ok(None);
        }
    }
    Ok(Some(known))
}

/// Attributes that are zero but for the fields for answers, then changed.
fn question(change: impl FnOnce(&mut Bytes)) -> Bytes {
    let mut bytes = [0; LARGEST];
    bytes[KNOWN_SIZE].fill(PATTERN);
    bytes[STAGE].fill(PATTERN);
    change(&mut bytes);
    bytes
}

/// Result and known size, if the stage is `stage` and all else is as it was asked.
fn judge(answer: Option<(i32, Bytes)>, asked: &Bytes, stage: Stage) -> Option<(i32, u32)> {
    let (result, mut after) = answer?;
    let known = take(&mut after[KNOWN_SIZE]);
    let at = take(&mut after[STAGE]);
    (after == *asked && at == stage as u32).then_some((result, known))
}

const KNOWN_SIZE: std::ops::Range<usize> = field(offset_of!(Attributes, known_size));
const STAGE: std::ops::Range<usize> = field(offset_of!(Attributes, stage));

const fn field(at: usize) -> std::ops::Range<usize> {
    at..at + size_of::<u32>()
}

/// Takes the number out of a field, leaving the pattern that was there before the question.
fn take(field: &mut [u8]) -> u32 {
    let mut number = [PATTERN; size_of::<u32>()];
    number.swap_with_slice(field);
    u32::from_ne_bytes(number)
}

/// An entry of a chain by which the RFC's pair is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Clone,
    Nop,
    /// Of the empty path.
    Exec,
}

/// Chains and the results that the RFC's pair has for them.
pub(super) const PAIR: [(&[Part], &[i32]); 4] = [
    (&[Part::Exec], &[-libc::EINVAL]),
    (&[Part::Clone], &[-libc::EINVAL]),
    (&[Part::Clone, Part::Nop], &[0, 0]),
    (&[Part::Clone, Part::Exec], &[0, -libc::ENOENT]),
];

/// Whether the pair that is asked is the RFC's.
///
/// `ask` submits a chain and returns the results in its order, or `None` if not all came.
pub(super) fn clone_exec(
    mut ask: impl FnMut(&[Part]) -> Result<Option<Vec<i32>>, Error>,
) -> Result<bool, Error> {
    for (chain, expected) in PAIR {
        if ask(chain)?.as_deref() != Some(expected) {
            return Ok(false);
        }
    }
    Ok(true)
}
