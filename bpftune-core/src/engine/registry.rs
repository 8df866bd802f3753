//! Tuners come and go.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use nix::sys::epoll::EpollFlags;

use super::{
    Counts, Engine, Registered, Registration, SOURCE_TOKENS, learned::Known, onset::Baseline,
};
use crate::{
    Error, Knob, Reach, Result, Signal, Tuner, config::kinds::Aim, restore, trial::Plan,
    tunable::covers,
};

/// How each of a tuner's tunables is tried.
fn plans(tuner: &dyn Tuner) -> HashMap<String, Rc<Plan>> {
    let tunables = tuner.tunables().into_iter();
    tunables
        .map(|tunable| {
            let plan = tuner.trial(&tunable.name);
            (tunable.name.into_owned(), Rc::new(plan))
        })
        .collect()
}

impl Registered {
    /// From now on it serves this; trials that run go on as they began.
    pub(super) fn take_aim(&mut self, aim: Option<Aim>) {
        if self.aim != aim {
            self.aim = aim;
            self.tuner.set_aim(aim);
            self.plans = plans(self.tuner.as_ref());
            self.baseline = Rc::new(Baseline::of(self.plans.values()));
        }
    }
}

impl Engine {
    /// Takes a tuner in: its tunables are its own from now on, its source is waited for.
    ///
    /// # Errors
    /// [`Error::Owner`] where another tuner has one of its tunables, [`Error::Name`] where one has its
    /// name. Then nothing is registered.
    pub fn register(&mut self, registration: Registration) -> Result<()> {
        let Registration { tuner, source } = registration;
        let name = tuner.name().to_owned();
        if self.tuners.iter().any(|other| other.tuner.name() == name) {
            return Err(Error::Name { name });
        }
        let token = self.next_token;
        let registered = tuner
            .tunables()
            .into_iter()
            .try_for_each(|tunable| self.governor.register(tunable, &name))
            .and_then(|()| self.wait_for(source.fd(), token, EpollFlags::EPOLLIN))
            .and_then(|()| {
                let mut each = (token + 1..token + SOURCE_TOKENS).zip(source.pressure());
                each.try_for_each(|(token, fd)| self.wait_for(fd, token, EpollFlags::EPOLLPRI))
            });
        if let Err(error) = registered {
            self.governor.unregister(&name);
            return Err(error);
        }
        self.next_token += SOURCE_TOKENS;
        let plans = plans(tuner.as_ref());
        // What an earlier run left raised counts too.
        for (knob, original) in &self.originals {
            if let Some((ours, _)) = self.written.get(knob)
                && self.governor.owner(&knob.tunable) == Some(&name)
            {
                self.governor.charge(knob, original, ours);
            }
        }
        self.tuners.push(Registered {
            token,
            tuner,
            source,
            learner: None,
            aim: None,
            counts: Counts::default(),
            baseline: Rc::new(Baseline::of(plans.values())),
            plans,
            known: Known::default(),
            quieted: HashSet::new(),
            reach: None,
        });
        self.welcome(self.tuners.len() - 1);
        Ok(())
    }

    /// Lets a tuner go: what it changed is restored, its tunables are nobody's.
    ///
    /// # Errors
    /// Where the journal cannot be read.
    pub fn unregister(&mut self, name: &str) -> Result<()> {
        let Some(index) = self.tuners.iter().position(|t| t.tuner.name() == name) else {
            return Ok(());
        };
        self.learned.at_once = true;
        self.keep_learned();
        let gone = self.tuners.remove(index);
        // Fails only where the source has closed it already.
        for fd in gone.source.pressure().into_iter().chain([gone.source.fd()]) {
            let _ = self.epoll.delete(fd);
        }
        // What it asked for in this very turn is not made any more.
        for change in self.batch.extract_if(.., |change| change.tuner == name) {
            let original = self.originals.get(&change.knob).unwrap_or(&change.old);
            self.governor.release(&change.knob, original, &change.old);
        }
        // Its keys are indices.
        self.onset.clear();
        let owned: Vec<String> = gone
            .tuner
            .tunables()
            .into_iter()
            .map(|tunable| tunable.name.into_owned())
            .collect();
        self.restore_only(|knob| owned.iter().any(|own| covers(own, &knob.tunable)))?;
        self.governor.unregister(name);
        Ok(())
    }

    /// Restores some of the knobs; they rest afterwards, as after harm.
    fn restore_only(&mut self, wanted: impl Fn(&Knob) -> bool) -> Result<()> {
        let mut originals = self.journal.held()?;
        originals.retain(|original| wanted(&original.knob));
        if originals.is_empty() {
            return Ok(());
        }
        let report = restore::restore_these(originals, &mut self.journal, &mut self.namespaces);
        for line in report.to_string().lines() {
            tracing::info!("{line}");
        }
        self.forget(&report, wanted);
        Ok(())
    }

    /// After restoring: what is no longer ours to know.
    pub(super) fn forget(&mut self, report: &restore::Report, wanted: impl Fn(&Knob) -> bool) {
        // What was just put back must not be raised again at once.
        let now = std::time::Instant::now();
        for (knob, _) in &report.restored {
            self.governor.harmed(knob, now);
            self.governor.refund(knob);
        }
        for (knob, _) in &report.left {
            self.governor.hold(knob.clone(), "somebody".into());
        }
        let stays =
            |knob: &Knob| !wanted(knob) || report.failed.iter().any(|(other, _)| other == knob);
        self.originals.retain(|knob, _| stays(knob));
        self.written.retain(|knob, _| stays(knob));
        self.trials.retain(|knob, _| !wanted(knob));
        for (knob, _) in report.restored.iter().chain(&report.left) {
            self.watchdog.forget(knob);
        }
        self.outcomes.retain(|knob, _| !wanted(knob));
    }

    /// Tells sources that act by themselves where they may, where that has changed.
    pub(super) fn tell_reach(&mut self) {
        let now = std::time::Instant::now();
        for tuner in self.tuners.iter_mut().filter(|t| t.source.acts_itself()) {
            let name = tuner.tuner.name();
            let rests = self.operator.rest(name, now).is_some();
            let reach = Reach {
                acts: !rests && self.governor.lets_act(name),
                only: self
                    .scope
                    .as_ref()
                    .map(|scope| scope.iter().copied().collect()),
                except: self.governor.held_places(name).collect(),
            };
            if tuner.reach.as_ref() == Some(&reach) {
                continue;
            }
            if let Err(error) = tuner.source.reach(&reach) {
                tracing::warn!("{name} does nothing by itself: {error}");
            }
            tuner.reach = Some(reach);
        }
    }

    /// Passes a signal on to those other tuners that listen.
    pub(super) fn tell_listeners(&mut self, from: usize, signal: &Signal) -> Result<()> {
        for index in 0..self.tuners.len() {
            if index != from && self.tuners[index].tuner.listens(&signal.scenario) {
                self.ask(index, signal)?;
            }
        }
        Ok(())
    }
}
