//! The machine in every order of what can happen.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use proptest::prelude::*;

use super::*;

/// A world with a clock: the start is decided at `start_at`, the process over at `end_at`.
#[derive(Debug)]
struct Fake {
    now: u32,
    start_at: u32,
    end_at: u32,
    fails: bool,
    status: i32,
    ends_taken: u32,
}

impl World for Fake {
    type Error = &'static str;
    type Status = ExitStatus;

    fn start(&mut self) -> Start<&'static str> {
        match () {
            () if self.now < self.start_at => Start::Open,
            () if self.fails => Start::Failed("no"),
            () => Start::Running,
        }
    }

    fn end(&mut self) -> Option<ExitStatus> {
        assert_eq!(self.ends_taken, 0, "a status is taken once");
        (self.now >= self.end_at).then(|| {
            self.ends_taken += 1;
            ExitStatus::from_raw(self.status)
        })
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Pass(u32),
    /// Also without cause, also when nothing is waited for: late, twice, forged.
    Signal(Signal),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1u32..4).prop_map(Step::Pass),
        Just(Step::Signal(Signal::Start)),
        Just(Step::Signal(Signal::End)),
    ];
    prop::collection::vec(step, 0..40)
}

proptest! {
    #[test]
    fn news_come_once_and_in_order(
        start_at in 0u32..10,
        after in 0u32..10,
        fails: bool,
        status in prop_oneof![Just(0), Just(9), Just(0x700)],
        steps in steps(),
    ) {
        let end_at = start_at + after;
        let mut world = Fake { now: 0, start_at, end_at, fails, status, ends_taken: 0 };
        let mut machine = Machine::new();
        let mut armed: Vec<Signal> = machine.arm().collect();
        prop_assert_eq!(&armed, &[Signal::Start, Signal::End]);
        let mut news = Vec::new();
        let mut signal = |machine: &mut Machine, world: &mut Fake, armed: &mut Vec<Signal>, signal| {
            armed.retain(|waited| *waited != signal);
            machine.signal(signal, world, |new| news.push(new));
            for signal in machine.arm() {
                assert!(!armed.contains(&signal), "one wait at a time");
                armed.push(signal);
            }
        };
        for step in steps {
            match step {
                Step::Pass(time) => world.now += time,
                Step::Signal(which) => signal(&mut machine, &mut world, &mut armed, which),
            }
        }
        // In the end what is waited for happens.
        world.now = end_at;
        while let Some(which) = armed.first().copied() {
            prop_assert!(!machine.is_finished());
            signal(&mut machine, &mut world, &mut armed, which);
        }
        prop_assert!(machine.is_finished());
        prop_assert_eq!(world.ends_taken, 1, "no zombie");
        let expected = if fails {
            vec![News::Failed("no")]
        } else {
            vec![News::Running, News::Ended(ExitStatus::from_raw(status))]
        };
        prop_assert_eq!(news, expected);
    }
}

/// A world in which somebody is asked to make the process: at `start_at` it is decided whether there is one.
#[derive(Debug)]
struct Asked {
    fake: Fake,
    /// Another makes it then, and whether it runs shows three ticks later.
    by_another: bool,
    made: bool,
}

impl World for Asked {
    type Error = &'static str;
    type Status = ExitStatus;

    fn start(&mut self) -> Start<&'static str> {
        if !self.made && self.fake.now < self.fake.start_at {
            return Start::Early;
        }
        if !self.by_another {
            return match self.fake.fails {
                true => Start::Gone("no"),
                false => Start::Running,
            };
        }
        if !std::mem::replace(&mut self.made, true) {
            self.fake.start_at = self.fake.now + 3;
            self.fake.end_at = self.fake.end_at.max(self.fake.start_at);
            return Start::Made;
        }
        self.fake.start()
    }

    fn end(&mut self) -> Option<ExitStatus> {
        self.fake.end()
    }
}

proptest! {
    #[test]
    fn one_that_is_asked_for_has_no_end_before_there_is_one(
        start_at in 0u32..10,
        after in 0u32..10,
        fails: bool,
        by_another: bool,
        steps in steps(),
    ) {
        let end_at = start_at + after;
        let fake = Fake { now: 0, start_at, end_at, fails, status: 9, ends_taken: 0 };
        let mut world = Asked { fake, by_another, made: false };
        let mut machine = Machine::asked();
        let mut armed: Vec<Signal> = machine.arm().collect();
        prop_assert_eq!(&armed, &[Signal::Start]);
        let mut news = Vec::new();
        let mut signal = |machine: &mut Machine, world: &mut Asked, armed: &mut Vec<Signal>, signal| {
            let early = signal == Signal::Start && world.fake.now < world.fake.start_at && !world.made;
            if !early {
                armed.retain(|waited| *waited != signal);
            }
            machine.signal(signal, world, |new| news.push(new));
            for signal in machine.arm() {
                assert!(!armed.contains(&signal), "one wait at a time");
                armed.push(signal);
            }
        };
        for step in steps {
            match step {
                Step::Pass(time) => world.fake.now += time,
                Step::Signal(which) => signal(&mut machine, &mut world, &mut armed, which),
            }
        }
        while let Some(which) = armed.first().copied() {
            prop_assert!(!machine.is_finished());
            world.fake.now += 30;
            signal(&mut machine, &mut world, &mut armed, which);
        }
        prop_assert!(machine.is_finished());
        let process = by_another || !fails;
        prop_assert_eq!(world.fake.ends_taken, u32::from(process), "no zombie, and no end of nothing");
        let expected = if fails {
            vec![News::Failed("no")]
        } else {
            vec![News::Running, News::Ended(ExitStatus::from_raw(9))]
        };
        prop_assert_eq!(news, expected);
    }
}

#[test]
fn an_end_without_a_decided_start_counts_as_run() {
    // The pipe for reports may be held open by somebody who forked in between.
    let mut world = Fake {
        now: 1,
        start_at: 9,
        end_at: 1,
        fails: true,
        status: 9,
        ends_taken: 0,
    };
    let mut machine = Machine::new();
    assert_eq!(machine.arm().count(), 2);
    let mut news = Vec::new();
    machine.signal(Signal::End, &mut world, |new| news.push(new));
    assert_eq!(news, [News::Running, News::Ended(ExitStatus::from_raw(9))]);
    assert!(!machine.is_finished(), "a wait is still out");
    machine.signal(Signal::Start, &mut world, |_| panic!("told twice"));
    assert!(machine.is_finished());
}
