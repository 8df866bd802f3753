//! What one run leaves to the next: values that it kept, changes that count for the limits.

use std::sync::Arc;

use lab::{
    daemon::{Daemon, binary, command, rig},
    netns::Netns,
};
use nix::sys::signal::Signal;

mod common;

use common::*;

const START: &str = "4096 16384 400000";
const TO: &str = "4096 16384 500000";

fn place() -> Netns {
    let place = Netns::new().unwrap();
    place.set_sysctl(WMEM, START).unwrap();
    place
}

fn state() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

fn start(state: &Arc<tempfile::TempDir>, place: &Netns, args: &[&str]) -> Daemon {
    Daemon::start_in(&rig().unwrap(), state.clone(), &[place], args).unwrap()
}

fn at(place: &Netns, value: &str) -> bool {
    place.sysctl(WMEM).unwrap() == value
}

fn revert(state: &tempfile::TempDir, args: &[&str]) -> String {
    let args = [&["revert"], args].concat();
    let (code, out, err) = command(&binary().unwrap(), state, &args).unwrap();
    assert_eq!(code, Some(0), "{out}{err}");
    out
}

#[test]
fn keeps_where_told_to_and_reverts_later() {
    need_root!();
    let link = starved();
    let running = transfer(&link);
    let both = [&link.a, &link.b];
    let mut daemon = Daemon::start(&binary().unwrap(), &both, &["--keep"]).unwrap();
    until("both limits rise", || raised(&link));
    running.stop().unwrap();
    let state = daemon.state();
    assert_eq!(daemon.stop(Signal::SIGTERM).unwrap(), Some(0));
    assert!(raised(&link));
    let next = Daemon::start_in(&binary().unwrap(), state, &both, &[]).unwrap();
    assert!(raised(&link), "the next run takes over");
    drop(next);
    assert!(restored(&link), "and restores the true start");
}

#[test]
fn after_an_unclean_end_what_was_kept_on_purpose_stays() {
    need_root!();
    let (place, state) = (place(), state());
    assert_eq!(
        revert(&state, &["--after-crash"]),
        "nothing to restore\n",
        "no journal"
    );
    let mut daemon = start(&state, &place, &["--to", TO, "--keep"]);
    until("it is changed", || at(&place, TO));
    daemon.stop(Signal::SIGTERM).unwrap();
    // The service did not come up again, or was ended uncleanly before it changed anything.
    revert(&state, &["--after-crash"]);
    assert!(at(&place, TO), "kept on purpose");
    for with_reverter in [false, true] {
        let mut daemon = start(&state, &place, &["--keep"]);
        if with_reverter {
            daemon.stop(Signal::SIGKILL).unwrap();
        } else {
            daemon.kill_with_reverter().unwrap();
            revert(&state, &["--after-crash"]);
        }
        assert!(
            at(&place, TO),
            "it was not this run that changed it: {:?}",
            daemon.log()
        );
    }
    // While a daemon runs, the unit's last command takes nothing back.
    let mut daemon = start(&state, &place, &["--keep"]);
    assert!(revert(&state, &["--after-crash"]).contains("a daemon runs"));
    assert!(at(&place, TO));
    daemon.kill_with_reverter().unwrap();
    // The operator's own word takes everything back.
    revert(&state, &[]);
    assert!(at(&place, START));
}

#[test]
fn after_an_unclean_end_what_was_not_kept_goes_back() {
    need_root!();
    let (place, state) = (place(), state());
    // The policy is about an orderly end: what this run changed is not known to be good.
    let mut daemon = start(&state, &place, &["--to", TO, "--keep"]);
    until("it is changed", || at(&place, TO));
    daemon.kill_with_reverter().unwrap();
    assert!(at(&place, TO));
    revert(&state, &["--after-crash"]);
    assert!(at(&place, START));
    // What an earlier run kept and one that restores took over goes back too.
    let mut daemon = start(&state, &place, &["--to", TO, "--keep"]);
    until("it is changed", || at(&place, TO));
    daemon.stop(Signal::SIGTERM).unwrap();
    start(&state, &place, &[]).stop(Signal::SIGKILL).unwrap();
    assert!(at(&place, START));
}

#[test]
fn a_crash_loop_changes_no_more_than_the_hour_allows() {
    need_root!();
    let (place, state) = (place(), state());
    let args = ["--to", TO, "--changes-per-hour", "2"];
    for round in 0..2 {
        let mut daemon = start(&state, &place, &args);
        until("it is changed", || at(&place, TO));
        daemon.stop(Signal::SIGKILL).unwrap();
        assert!(at(&place, START), "round {round}: the reverter restores");
    }
    let mut daemon = start(&state, &place, &args);
    until("it is refused", || {
        let refused = "changed 2 times in the last hour";
        daemon.log().iter().any(|line| line.contains(refused))
    });
    assert!(at(&place, START));
    daemon.stop(Signal::SIGTERM).unwrap();
    let mut daemon = start(&state, &place, &["--to", TO, "--changes-per-hour", "3"]);
    until("a third change is let through", || at(&place, TO));
    daemon.stop(Signal::SIGTERM).unwrap();
}
