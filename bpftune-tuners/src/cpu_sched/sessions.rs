//! What sessions used of the processors, and which of them got less than autogroups would give them.

use std::{collections::HashMap, time::Duration};

use super::tasks::Task;

/// A session that uses more of its share than this gains nothing by having that share and no more: what it needs in its
/// busiest moments, others would have then.
const MODEST: f64 = 0.7;

/// One that was seen for less than this is not judged: it has just begun, or ended.
const JUDGED: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, Default)]
struct Session {
    /// From when to when it was seen; `None`: not yet.
    seen: Option<(Duration, Duration)>,
    used: Duration,
    woken: f64,
    long: f64,
}

impl Session {
    fn lived(&self) -> Duration {
        let span = self.seen.map(|(from, to)| to.saturating_sub(from));
        span.unwrap_or_default()
    }

    /// Processors that it had while it was there.
    fn processors(&self) -> f64 {
        self.used.div_duration_f64(self.lived().max(JUDGED))
    }
}

/// Sessions over some time. Tasks in control groups of their own are nobody's.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// How long that was.
    pub(super) over: Duration,
    each: HashMap<u64, Session>,
    grouped: Session,
    /// Seconds.
    waited: f64,
}

/// Wake-ups of tasks that work for a moment each time, and how many of them waited for long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Woken {
    pub(super) times: f64,
    pub(super) long: f64,
}

impl Woken {
    fn add(&mut self, session: &Session) {
        self.times += session.woken;
        self.long += session.long;
    }
}

/// What is to be told of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Waits {
    /// In sessions that autogroups would give more than they need, as far as there was a long wait in them.
    pub(super) modest: Woken,
    /// In all others.
    pub(super) rest: Woken,
    /// Wait of each wake-up, of all, seconds.
    pub(super) mean: f64,
}

impl Sessions {
    fn of(&mut self, task: &Task) -> &mut Session {
        if task.grouped {
            &mut self.grouped
        } else {
            self.each.entry(task.session).or_default()
        }
    }

    /// From then to then a task had a processor for so long.
    pub(super) fn used(&mut self, task: &Task, (from, to): (Duration, Duration), time: Duration) {
        let session = self.of(task);
        session.used += time;
        let (first, last) = session.seen.get_or_insert((from, to));
        (*first, *last) = ((*first).min(from), (*last).max(to));
    }

    /// A task woke up so many times, waited so long each time, and for long so often.
    pub(super) fn woke(&mut self, task: &Task, times: f64, long: f64, wait: Duration) {
        let session = self.of(task);
        session.woken += times;
        session.long += long;
        self.waited += wait.as_secs_f64() * times;
    }

    /// The sums, on a host of so many processors that worked for so many seconds in all. What of this no look has seen,
    /// mostly of processes that lived shorter than that, counts as another session's.
    pub(super) fn waits(&self, cpus: f64, busy: f64) -> Waits {
        let mut waits = Waits::default();
        waits.rest.add(&self.grouped);
        let left = cpus - self.grouped.processors();
        let seen: Duration = self.each.values().map(|session| session.used).sum();
        let unseen = busy - (seen + self.grouped.used).as_secs_f64();
        let unseen = (unseen / self.over.as_secs_f64()).max(0.0);
        for (id, session) in &self.each {
            let others = self.each.iter().filter(|(other, _)| *other != id);
            let others = others.map(|(_, other)| other.processors());
            let modest = session.long > 0.0
                && session.lived() >= JUDGED
                && is_modest(session.processors(), others.chain([unseen]).collect(), left);
            let among = if modest {
                &mut waits.modest
            } else {
                &mut waits.rest
            };
            among.add(session);
        }
        let woken = waits.modest.times + waits.rest.times;
        waits.mean = self.waited / woken.max(1.0);
        waits
    }
}

/// Whether a session that uses so much of the processors would have more than it needs if each session had the same
/// share, and another one uses more now. What the others use is what they need, but for the one that uses most: that one
/// would take whatever it gets.
fn is_modest(used: f64, mut others: Vec<f64>, processors: f64) -> bool {
    others.sort_by(f64::total_cmp);
    let Some(most) = others.pop().filter(|most| *most > used) else {
        return false;
    };
    let (mut left, mut sharers) = (processors.max(most), others.len() as f64 + 2.0);
    for other in others {
        if other >= left / sharers {
            break;
        }
        left -= other;
        sharers -= 1.0;
    }
    used < MODEST * left / sharers
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(62));

    /// Sessions of tasks that had so many processors, each with ten wake-ups that waited for long; on two processors,
    /// both busy.
    fn waits(used: &[f64]) -> Waits {
        let mut sessions = Sessions {
            over: Duration::from_secs(2),
            ..Sessions::default()
        };
        for (session, used) in used.iter().enumerate() {
            let task = Task {
                session: session as u64,
                ..Task::default()
            };
            sessions.used(&task, ALL, Duration::from_secs_f64(2.0 * used));
            sessions.woke(&task, 20.0, 10.0, Duration::from_millis(7));
        }
        sessions.waits(2.0, 4.0)
    }

    #[test]
    fn who_asks_for_little_gets_less_than_its_share() {
        let found = waits(&[0.12, 1.86]);
        let each = Woken {
            times: 20.0,
            long: 10.0,
        };
        assert_eq!((found.modest, found.rest), (each, each));
        assert!((found.mean - 0.007).abs() < 1e-9);
    }

    /// As recorded of the lab's trap: eight tasks need nearly all of a processor, six jobs would take both.
    #[test]
    fn who_needs_its_whole_share_is_left_alone() {
        for used in [0.75, 0.95, 0.99, 1.0, 1.05, 1.5] {
            let found = waits(&[used, 2.0 - used]);
            assert_eq!(
                found.modest.long,
                if used > 1.3 { 10.0 } else { 0.0 },
                "{used}"
            );
        }
    }

    #[test]
    fn a_share_depends_on_what_others_need() {
        // Seven that all compute: each has its share already.
        assert_eq!(waits(&[0.28; 7]).modest.long, 0.0);
        // Services that do little leave the rest of their share to all: 0.93 is left for each of two.
        let found = waits(&[0.5, 1.36, 0.04, 0.04, 0.03, 0.03]);
        assert_eq!((found.modest.long, found.rest.long), (50.0, 10.0));
        let found = waits(&[0.7, 1.16, 0.04, 0.04, 0.03, 0.03]);
        assert_eq!((found.modest.long, found.rest.long), (40.0, 20.0));
    }

    #[test]
    fn nobody_is_in_the_way_of_who_uses_most() {
        assert_eq!(waits(&[1.2]).modest.long, 0.0);
        assert_eq!(
            waits(&[2.0, 0.0]).modest.long,
            10.0,
            "the other one waits for it"
        );
    }

    /// In the lab's trap a new session begins each second; in the middle of it half of its second has been seen.
    #[test]
    fn a_session_is_judged_by_the_time_in_which_it_was_there() {
        for (span, used, others) in [(500, 460, 0.0), (500, 60, 10.0), (150, 20, 0.0)] {
            let mut sessions = Sessions {
                over: Duration::from_secs(1),
                ..Sessions::default()
            };
            let frames = Task::default();
            let time = Duration::from_millis;
            sessions.used(&frames, (time(9_000), time(9_000 + span)), time(used));
            sessions.woke(&frames, 20.0, 10.0, time(13));
            let found = sessions.waits(2.0, 2.0);
            assert_eq!(found.modest.long, others, "{used} of {span} ms");
        }
    }

    #[test]
    fn groups_of_their_own_are_no_sessions() {
        let grouped = Task {
            grouped: true,
            ..Task::default()
        };
        let mut sessions = Sessions {
            over: Duration::from_secs(2),
            ..Sessions::default()
        };
        sessions.used(&grouped, ALL, Duration::from_millis(100));
        sessions.woke(&grouped, 20.0, 10.0, Duration::from_millis(7));
        let other = Task {
            session: 7,
            ..Task::default()
        };
        sessions.used(&other, ALL, Duration::from_millis(3900));
        let found = sessions.waits(2.0, 4.0);
        assert_eq!((found.modest.long, found.rest.long), (0.0, 10.0));
    }

    #[test]
    fn no_time_and_no_tasks_say_nothing() {
        assert_eq!(Sessions::default().waits(2.0, 0.0), Waits::default());
    }
}
