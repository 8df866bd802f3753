//! A process plugin as the engine sees it: a tuner and a source like any other.

use std::{
    cell::RefCell,
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
    time::Duration,
};

use nix::sys::epoll::Epoll;

use super::{Process, SEQUENCE};
use crate::{
    Knob, NetnsCookie, Proposal, Result, Signal, Source, Tunable, Tuner, View,
    bpf::HookStatus,
    governor::Decision,
    netns::Namespaces,
    plugin::text::plain,
    trial::{Plan, Record},
};

struct ProcessTuner {
    name: String,
    about: String,
    process: Rc<RefCell<Process>>,
    /// The plugin's mark of the proposal that the engine decides on now.
    asked: String,
}

struct ProcessSource {
    epoll: Rc<Epoll>,
    hooks: Vec<HookStatus>,
    pressure: Vec<Rc<File>>,
    process: Rc<RefCell<Process>>,
}

/// The two halves, once it has said hello.
pub(in crate::plugin) fn halves(
    process: &Rc<RefCell<Process>>,
) -> Option<crate::engine::Registration> {
    let inner = process.borrow();
    let hello = inner.hello()?;
    Some(crate::engine::Registration {
        tuner: Box::new(ProcessTuner {
            name: inner.name.clone(),
            about: format!(
                "{} (plugin, version {})",
                plain(&hello.about),
                plain(&hello.version)
            ),
            process: process.clone(),
            asked: String::new(),
        }),
        source: Box::new(ProcessSource {
            epoll: inner.epoll(),
            hooks: vec![inner.hook()],
            pressure: inner.sampling.pressure_files(),
            process: process.clone(),
        }),
    })
}

impl Tuner for ProcessTuner {
    fn name(&self) -> &str {
        &self.name
    }

    fn about(&self) -> &str {
        &self.about
    }

    fn tunables(&self) -> Vec<Tunable> {
        let process = self.process.borrow();
        let hello = process.hello().map(|hello| hello.tunables.as_slice());
        let tunables = hello.unwrap_or_default().iter();
        tunables.map(|declared| declared.tunable()).collect()
    }

    /// Each of its own signals is a proposal.
    fn acts_at_once(&self) -> bool {
        true
    }

    fn listens(&self, scenario: &str) -> bool {
        self.process.borrow().sampling.listens(scenario)
    }

    fn trial(&self, tunable: &str) -> Plan {
        let process = self.process.borrow();
        let declared = process.declared(tunable);
        declared.map_or_else(Plan::default, |declared| declared.plan())
    }

    fn on_signal(&mut self, signal: &Signal, _: &dyn View) -> Vec<Proposal> {
        let mut process = self.process.borrow_mut();
        let own = signal.scenario.strip_prefix(self.name.as_str());
        if !own.is_some_and(|rest| rest.starts_with(':')) {
            process.heard(signal);
            return Vec::new();
        }
        let sequence = signal.figure(SEQUENCE).unwrap_or_default() as u64;
        match process.take_proposal(sequence) {
            Some((id, proposal)) => {
                self.asked = id;
                vec![proposal]
            }
            None => Vec::new(),
        }
    }

    fn decided(&mut self, _: &Proposal, decision: &Decision) {
        let id = std::mem::take(&mut self.asked);
        self.process.borrow_mut().decided(&id, decision);
    }

    fn tried(&mut self, knob: &Knob, record: &Record) {
        self.process.borrow_mut().tried(knob, record);
    }
}

impl Source for ProcessSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    fn pressure(&self) -> Vec<BorrowedFd<'_>> {
        self.pressure.iter().map(|file| file.as_fd()).collect()
    }

    fn pressed(&mut self, which: usize, _: &mut Vec<Signal>) {
        self.process.borrow_mut().pressed(which);
    }

    fn drain(&mut self, _: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        self.process.borrow_mut().pump(out);
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    fn quiet(&mut self, netns: NetnsCookie, _: &str, how_long: Duration) {
        self.process.borrow_mut().quiet(netns, how_long);
    }
}
