//! Structures that grow: the rules of `clone3(2)`, `openat2(2)` and `sched_setattr(2)`.
//!
//! Caller and kernel each know a version of the structure, and a newer version only adds fields at
//! the end, where zero means "as before". The caller passes its size along, so:
//!
//! * it passes less than the receiver knows: the missing fields are zero;
//! * it passes more: fine while all that the receiver does not know is zero, else `E2BIG`;
//! * it passes less than the first version: `EINVAL`.
//!
//! The kernel's side of it is `copy_struct_from_user()` in `include/linux/uaccess.h` (Linux 5.4).

use crate::Error;

/// Fills `known`, the receiver's structure, from the bytes that a caller passed.
///
/// `least` is the size in bytes of the structure's first version. Bytes that the caller does not
/// have become zero. On an error `known` is left alone.
///
/// # Errors
/// [`Error::TooSmall`] (the kernel's `EINVAL`) if `given` is shorter than `least`;
/// [`Error::TooBig`] (`E2BIG`) if a byte that does not fit `known` is not zero.
///
/// # Example
/// ```
/// use uring_sys_ext::sized;
///
/// let mut known = [0xff; 4];
/// sized::copy(&mut known, &[1, 2], 2)?; // an older caller
/// assert_eq!(known, [1, 2, 0, 0]);
///
/// sized::copy(&mut known, &[1, 2, 3, 4, 0, 0], 2)?; // a newer one, using nothing new
/// assert_eq!(known, [1, 2, 3, 4]);
///
/// assert!(sized::copy(&mut known, &[1, 2, 3, 4, 0, 9], 2).is_err());
/// # Ok::<(), uring_sys_ext::Error>(())
/// ```
pub fn copy(known: &mut [u8], given: &[u8], least: usize) -> Result<(), Error> {
    if given.len() < least {
        return Err(Error::TooSmall {
            given: given.len(),
            least,
        });
    }
    if !fits(known.len(), given) {
        return Err(Error::TooBig {
            given: given.len(),
            known: known.len(),
        });
    }
    let shared = known.len().min(given.len());
    known[..shared].copy_from_slice(&given[..shared]);
    known[shared..].fill(0);
    Ok(())
}

/// Whether a receiver that knows `known` bytes understands all of `given`: it is no longer than
/// that, or the rest is zero.
///
/// ```
/// use uring_sys_ext::sized::fits;
/// assert!(fits(2, &[7]) && fits(2, &[7, 7, 0]));
/// assert!(!fits(2, &[7, 7, 1]));
/// ```
#[must_use]
pub fn fits(known: usize, given: &[u8]) -> bool {
    given
        .get(known..)
        .is_none_or(|rest| rest.iter().all(|byte| *byte == 0))
}

/// The shortest size, in bytes, under which `bytes` can be passed without losing anything: up to
/// the last byte that is not zero, rounded up to eight, but at least `least`.
///
/// A caller built for a newer version passes this to be understood by older receivers as well.
///
/// ```
/// use uring_sys_ext::sized::shortest;
/// assert_eq!(shortest(&[1; 24], 8), 24);
/// assert_eq!(shortest(&[0; 24], 8), 8);
/// ```
#[must_use]
pub fn shortest(bytes: &[u8], least: usize) -> usize {
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    used.next_multiple_of(8).min(bytes.len()).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copy_keeps_to_the_rules(
            known in 0usize..64,
            mut given in prop::collection::vec(any::<u8>(), 0..96),
            zero_from in 0usize..96,
            least in 0usize..48,
        ) {
            let zero_from = zero_from.min(given.len());
            given[zero_from..].fill(0);
            let mut out = vec![0xa5; known];
            let before = out.clone();
            match copy(&mut out, &given, least) {
                Ok(()) => {
                    prop_assert!(given.len() >= least);
                    for (at, byte) in out.iter().enumerate() {
                        prop_assert_eq!(*byte, given.get(at).copied().unwrap_or(0));
                    }
                    // Nothing that the caller said was lost.
                    for byte in given.iter().skip(known) {
                        prop_assert_eq!(*byte, 0);
                    }
                }
                Err(Error::TooSmall { .. }) => {
                    prop_assert!(given.len() < least);
                    prop_assert_eq!(out, before);
                }
                Err(Error::TooBig { .. }) => {
                    prop_assert!(given.iter().skip(known).any(|byte| *byte != 0));
                    prop_assert_eq!(out, before);
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }

        #[test]
        fn the_shortest_size_loses_nothing(
            bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 8..96),
        ) {
            let size = shortest(&bytes, 8);
            prop_assert!((8..=bytes.len()).contains(&size));
            prop_assert!(fits(size, &bytes));
            let mut out = vec![0; bytes.len()];
            copy(&mut out, &bytes[..size], 8).unwrap();
            prop_assert_eq!(out, bytes);
        }
    }
}
