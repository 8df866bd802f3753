//! Completions that the ring never gave: nothing is believed, and nobody hangs.

use io_uring::IoUring;
use proptest::prelude::*;
use uring_process::ring::Spawner;

use crate::ring::{follow, plan, run};

/// Runs children while completions are forged, then some more on the same memory without.
fn with_forged(forged: &[u64], result: i32) {
    let mut ring = IoUring::new(64).unwrap();
    let mut spawner = Spawner::new(&ring, 0xABCD).unwrap();
    let (slow, lost) = (plan(&["sleep", "0.01"]), plan(&["/lost"]));
    for plan in [&slow, &lost, &slow] {
        spawner.submit(plan).unwrap();
        spawner.push(&mut ring.submission());
        ring.submit().unwrap();
    }
    for low in forged {
        assert!(spawner.complete(0xABCD << 48 | low, result));
        assert!(!spawner.complete(0xABCE << 48 | low, result));
        spawner.push(&mut ring.submission());
        ring.submit().unwrap();
    }
    let seen = follow(&mut ring, &mut spawner);
    assert_eq!((seen.started, seen.failed, seen.ended.len()), (2, 1, 2));
    for _ in 0..3 {
        let seen = run(&mut ring, &mut spawner, &[&slow, &lost, &slow]);
        assert_eq!((seen.started, seen.failed, seen.ended.len()), (2, 1, 2));
    }
}

/// `user_data` below the tag for the first uses of the first places.
fn likely() -> impl Strategy<Value = u64> {
    (0u64..2, 0u64..3, 0u64..4)
        .prop_map(|(kind, generation, index)| kind << 47 | generation << 22 | index)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn completions_forged(
        forged in prop::collection::vec(prop_oneof![4 => likely(), 1 => 0u64..1 << 48], 0..40),
        result: i32,
    ) {
        with_forged(&forged, result);
    }
}

#[test]
fn starts_forged_while_the_child_has_not_begun() {
    // The first use of the first place: its start, again and again.
    with_forged(&[1 << 22; 30], 0);
    with_forged(&[1 << 22 | 1; 30], -libc::EAGAIN);
}
