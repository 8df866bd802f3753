//! SIGKILL at random instants while values change all the time, in several namespaces: none is lost.
//!
//! `BPFTUNE_KILLS=200` says how often; by default 40 times, which takes half a minute.

use std::{collections::HashSet, time::Duration};

use lab::{
    daemon::{Daemon, binary, command, rig},
    netns::Netns,
};
use nix::sys::signal::Signal;

mod common;

use common::*;

const PLACES: usize = 6;

/// Each namespace starts from values of its own, so that a mix-up shows.
fn start_values(place: usize) -> (String, String) {
    (
        format!("4096 131072 {}", 600_000 + place),
        format!("4096 16384 {}", 400_000 + place),
    )
}

fn values(place: &Netns) -> (String, String) {
    (place.sysctl(RMEM).unwrap(), place.sysctl(WMEM).unwrap())
}

/// Every value that the journal announced or found, by namespace and tunable.
fn journalled(state: &tempfile::TempDir) -> HashSet<(u64, String, String)> {
    let db = rusqlite::Connection::open(state.path().join("state/journal.db")).unwrap();
    let mut rows = db
        .prepare("SELECT netns, tunable, old, new FROM decision")
        .unwrap();
    let rows = rows
        .query_map([], |row| {
            Ok((
                row.get::<_, i64>(0)? as u64,
                row.get::<_, String>(1)?,
                row.get(2)?,
                row.get(3)?,
            ))
        })
        .unwrap();
    rows.flat_map(|row| {
        let (netns, tunable, old, new): (u64, String, String, String) = row.unwrap();
        [(netns, tunable.clone(), old), (netns, tunable, new)]
    })
    .collect()
}

#[test]
fn a_kill_at_any_instant_loses_no_value_in_any_namespace() {
    need_root!();
    let kills: usize = std::env::var("BPFTUNE_KILLS").map_or(40, |n| n.parse().unwrap());
    let places: Vec<Netns> = (0..PLACES).map(|_| Netns::new().unwrap()).collect();
    let cookies: Vec<u64> = places.iter().map(|place| place.cookie().unwrap()).collect();
    for (i, place) in places.iter().enumerate() {
        let (rmem, wmem) = start_values(i);
        place.set_sysctl(RMEM, &rmem).unwrap();
        place.set_sysctl(WMEM, &wmem).unwrap();
    }
    let refs: Vec<&Netns> = places.iter().collect();
    let state = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let restored = || {
        places
            .iter()
            .enumerate()
            .all(|(i, place)| values(place) == start_values(i))
    };
    let mut rng = fastrand::Rng::with_seed(4);
    let (mut changed, mut switched) = (0, 0);
    for round in 0..kills {
        let mut daemon =
            Daemon::start_in(&rig().unwrap(), state.clone(), &refs, &["--churn"]).unwrap();
        std::thread::sleep(Duration::from_micros(rng.u64(0..250_000)));
        // By turns: the reverter restores; or it dies as well, and the next start does, or the command.
        if round % 3 == 0 {
            daemon.stop(Signal::SIGKILL).unwrap();
            assert!(restored(), "round {round}: {}", daemon.log().join("\n"));
            continue;
        }
        daemon.kill_with_reverter().unwrap();
        let known = journalled(&state);
        for (i, place) in places.iter().enumerate() {
            let (rmem, wmem) = values(place);
            let (rmem_start, wmem_start) = start_values(i);
            for (name, now, start) in [(RMEM, rmem, rmem_start), (WMEM, wmem, wmem_start)] {
                changed += usize::from(now != start);
                switched += usize::from(now == start);
                assert!(
                    now == start || known.contains(&(cookies[i], name.into(), now.clone())),
                    "round {round}: {name} is \"{now}\", which nobody announced"
                );
            }
        }
        if round % 3 == 1 {
            let (code, out, err) = command(&binary().unwrap(), &state, &["revert"]).unwrap();
            assert_eq!(code, Some(0), "round {round}: {out}{err}");
        } else {
            // No tick reaches a tuner that is told nothing.
            drop(Daemon::start_in(&rig().unwrap(), state.clone(), &refs, &[]).unwrap());
        }
        assert!(restored(), "round {round}");
    }
    println!("{kills} kills: {changed} values were changed at the instant, {switched} were not");
    assert!(
        changed > kills / 4,
        "the load must be real: {changed} changed values"
    );
}
