//! The verdicts, over the answers of kernels that do not exist, of some that do, and near misses.

use super::prove::{self, Bytes, PAIR, Part};
use crate::{
    Error,
    process::{Attributes, Stage},
    sized,
};

/// A process operation as the ABI describes it, whose attributes have `known` bytes; only probes.
fn imitation(known: usize, given: &Bytes, size: u32) -> (i32, Bytes) {
    let mut after = *given;
    let mut answer = |stage: Stage, errno: i32| {
        after[8..12].copy_from_slice(&(known as u32).to_ne_bytes());
        after[12..16].copy_from_slice(&(stage as u32).to_ne_bytes());
        (-errno, after)
    };
    let mut read = vec![0; known];
    let least = Attributes::SIZE_VER0 as usize;
    match sized::copy(&mut read, &given[..size as usize], least) {
        Err(Error::TooBig { .. }) => return answer(Stage::Attributes, libc::E2BIG),
        Err(_) => return (-libc::EINVAL, *given),
        Ok(()) => {}
    }
    let attributes = Attributes::from_bytes(&read[..least]).unwrap();
    if attributes.flags() - crate::process::AttributeFlags::all() != Default::default() {
        return answer(Stage::Attributes, libc::EINVAL);
    }
    answer(Stage::Path, libc::ENOENT) // the path of a probe is empty
}

#[test]
fn an_imitation_of_the_process_operation_is_accepted_in_any_version() {
    for known in [96, 104, 1024, 4088] {
        let found = prove::process(|given, size| Ok(Some(imitation(known, given, size)))).unwrap();
        assert_eq!(found, Some(known as u32));
    }
}

#[test]
fn answers_of_stock_operations_are_not_accepted() {
    // EINVAL is what the operations give that have these numbers in stock kernels (RECV_ZC,
    // EPOLL_WAIT), and what a number gives that is not in use.
    for errno in [
        0,
        libc::EINVAL,
        libc::E2BIG,
        libc::ENOENT,
        libc::EBADF,
        libc::EOPNOTSUPP,
    ] {
        let mut asked = 0;
        let found = prove::process(|given, _| {
            asked += 1;
            Ok(Some((-errno, *given)))
        });
        assert_eq!((found.unwrap(), asked), (None, 1), "errno {errno}");

        let mut asked = 0;
        let found = prove::clone_exec(|chain| {
            asked += 1;
            // A head that fails cancels the rest.
            Ok(Some([-errno, -libc::ECANCELED][..chain.len()].to_vec()))
        });
        let expected = if errno == libc::EINVAL { 3 } else { 1 };
        assert_eq!((found.unwrap(), asked), (false, expected), "errno {errno}");
    }
    assert_eq!(prove::process(|_, _| Ok(None)).unwrap(), None);
    assert!(!prove::clone_exec(|_| Ok(None)).unwrap());
}

/// What may be wrong about one answer.
type Fault = fn(&mut (i32, Bytes));

#[test]
fn one_wrong_answer_of_the_process_operation_is_enough() {
    let faults: &[(&str, Fault)] = &[
        ("another errno", |answer| answer.0 -= 1),
        ("success", |answer| answer.0 = 0),
        ("a PID", |answer| answer.0 = 4711),
        ("a size that is too small", |answer| {
            answer.1[8..12].copy_from_slice(&[88, 0, 0, 0])
        }),
        ("another size", |answer| answer.1[8..12].fill(1)),
        ("no size", |answer| answer.1[8..12].fill(0xa5)),
        ("another stage", |answer| answer.1[12..16].fill(7)),
        ("no stage", |answer| answer.1[12..16].fill(0xa5)),
        ("a byte behind the fields for answers", |answer| {
            answer.1[16] ^= 1
        }),
        ("a byte behind the first version", |answer| {
            answer.1[100] ^= 1
        }),
        ("the last byte", |answer| answer.1[4095] ^= 1),
    ];
    for (name, fault) in faults {
        for wrong in 0..3 {
            let mut asked = 0;
            let found = prove::process(|given, size| {
                let mut answer = imitation(96, given, size);
                if asked == wrong {
                    fault(&mut answer);
                }
                asked += 1;
                Ok(Some(answer))
            });
            assert_eq!(
                (found.unwrap(), asked),
                (None, wrong + 1),
                "{name} at question {wrong}"
            );
        }
    }
    for wrong in 0..3 {
        let mut asked = 0..;
        let found = prove::process(|given, size| {
            Ok((asked.next() != Some(wrong)).then(|| imitation(96, given, size)))
        });
        assert_eq!(found.unwrap(), None, "no answer to question {wrong}");
    }
}

/// The RFC's pair, as its patches describe it.
fn rfc(chain: &[Part]) -> Vec<i32> {
    if let [Part::Clone, rest @ ..] = chain
        && !rest.is_empty()
    {
        let in_the_clone = |part: &Part| {
            if *part == Part::Exec {
                -libc::ENOENT
            } else {
                0
            }
        };
        return [0]
            .into_iter()
            .chain(rest.iter().map(in_the_clone))
            .collect();
    }
    vec![-libc::EINVAL; chain.len()]
}

#[test]
fn an_imitation_of_the_pair_is_accepted_and_one_wrong_answer_is_enough() {
    assert!(prove::clone_exec(|chain| Ok(Some(rfc(chain)))).unwrap());
    for (wrong, (_, expected)) in PAIR.iter().enumerate() {
        for at in 0..expected.len() {
            let mut asked = 0..;
            let found = prove::clone_exec(|chain| {
                let mut answer = rfc(chain);
                if asked.next() == Some(wrong) {
                    answer[at] -= 1;
                }
                Ok(Some(answer))
            });
            assert!(!found.unwrap(), "result {at} of question {wrong}");
        }
    }
    // The two the wrong way round.
    let swap = |part: &Part| match part {
        Part::Clone => Part::Exec,
        Part::Exec => Part::Clone,
        Part::Nop => Part::Nop,
    };
    let swapped = |chain: &[Part]| rfc(&chain.iter().map(swap).collect::<Vec<_>>());
    assert!(!prove::clone_exec(|chain| Ok(Some(swapped(chain)))).unwrap());
}

#[test]
fn an_error_of_the_ring_is_an_error_and_not_a_verdict() {
    let broken = || Error::QueryUnknown;
    assert!(prove::process(|_, _| Err(broken())).is_err());
    assert!(prove::clone_exec(|_| Err(broken())).is_err());
}
