use bpftune_core::{
    Value,
    trial::{Action, Outcome},
};

use super::*;
use crate::{
    net_backlog::rules::LOST,
    testing::{self, HOST, Recorded, at, signal},
    tries::{FORGOTTEN, USELESS},
};

const BUDGET: &str = LIMITS[0].name;
const TIME: &str = LIMITS[1].name;

fn cut_short(lasting: f64, squeezed: f64) -> Signal {
    signal(LOST, &[("lasting", lasting), (SQUEEZED, squeezed)])
}

fn view() -> Recorded {
    Recorded::new(&[(BUDGET, HOST, &[300]), (TIME, HOST, &[8000])])
}

/// What is wanted next, where its trial then finds so many packets lost; `None`: it does not end.
fn next(rounds: &mut Rounds, view: &mut Recorded, lost: Option<f64>) -> Option<(String, i64)> {
    let proposal = rounds.wish(&cut_short(3100.0, 900.0), view)?;
    rounds.decided(&proposal, &Decision::Apply(proposal.target.clone()));
    if let Some(lost) = lost {
        let (record, action) = told(&proposal.knob.tunable, lost);
        rounds.tried(&proposal.knob, &record);
        if action == Action::Kept {
            view.apply(std::slice::from_ref(&proposal));
        }
    }
    Some((proposal.knob.tunable, proposal.target.last()))
}

/// A trial's word, where so many packets a window are lost with the change, and 400 without.
fn told(tunable: &str, lost: f64) -> (Record, Action) {
    testing::trial(trial(tunable).unwrap(), |counter, with, window| {
        let noise = window as f64 % 3.0;
        match counter {
            Counter::Own(_) if with => lost + noise,
            Counter::Own(_) => SAME + noise,
            _ => 1000.0,
        }
    })
}

const FEWER: f64 = 100.0;
const SAME: f64 = 400.0;

#[test]
fn rounds_get_more_room_where_packets_are_lost_and_rounds_cut_short() {
    let wish = |signal| Rounds::default().wish(&signal, &view());
    let proposal = wish(cut_short(3100.0, 900.0)).unwrap();
    assert_eq!(proposal.knob, at(BUDGET, HOST));
    assert_eq!(proposal.target, Value::from(1200));
    assert!(
        proposal.reason.contains("900 times a second"),
        "{}",
        proposal.reason
    );
    assert!(wish(cut_short(2900.0, 900.0)).is_none(), "a burst");
    assert!(wish(cut_short(3100.0, 50.0)).is_none(), "by chance");
    assert!(
        wish(signal(LOST, &[("lasting", 3100.0)])).is_none(),
        "not known"
    );
    let tunables: Vec<Tunable> = tunables().collect();
    assert!(
        tunables
            .iter()
            .all(|tunable| trial(&tunable.name).is_some())
    );
    assert!(trial("net.core.netdev_max_backlog").is_none());
}

#[test]
fn what_helps_goes_on_to_its_bound_and_then_the_other_one() {
    let (mut rounds, mut view) = (Rounds::default(), view());
    let mut tries =
        || next(&mut rounds, &mut view, Some(FEWER)).map(|(name, to)| (name == BUDGET, to));
    let wanted: Vec<_> = std::iter::from_fn(&mut tries).collect();
    assert_eq!(
        wanted,
        [(true, 1200), (true, 4800), (false, 16_000), (false, 32_000)]
    );
}

#[test]
fn what_did_not_help_is_left_for_an_hour() {
    let (mut rounds, mut view) = (Rounds::default(), view());
    let mut tries = |view: &mut Recorded| next(&mut rounds, view, Some(SAME));
    let budget = Some((BUDGET.to_owned(), 1200));
    assert_eq!(tries(&mut view), budget);
    assert_eq!(tries(&mut view), Some((TIME.to_owned(), 16_000)));
    assert_eq!(tries(&mut view), None);
    view.now += USELESS;
    assert_eq!(tries(&mut view), budget);
}

#[test]
fn one_trial_at_a_time_unless_somebody_ended_it() {
    let (mut rounds, mut view) = (Rounds::default(), view());
    let mut tries = |view: &mut Recorded| next(&mut rounds, view, None).is_some();
    assert!(tries(&mut view) && !tries(&mut view));
    view.now += FORGOTTEN;
    assert!(tries(&mut view));
}

#[test]
fn only_fewer_losses_keep_it() {
    for (lost, outcome, action) in [
        (FEWER, Outcome::Better, Action::Kept),
        (SAME, Outcome::Same, Action::Reverted),
    ] {
        let (record, became) = told(BUDGET, lost);
        assert_eq!((record.outcome, became), (outcome, action));
    }
}
