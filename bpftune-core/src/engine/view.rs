//! What tuners see.

use std::{cell::RefCell, collections::HashMap};

use crate::{Knob, Machine, NetnsCookie, Value, View, netns::Namespaces, sysctl};

pub(super) struct EngineView<'a> {
    namespaces: RefCell<&'a mut Namespaces>,
    originals: &'a HashMap<Knob, Value>,
    machine: &'a Machine,
    seen: RefCell<Seen>,
}

/// What was read for one signal: the engine decides by the value that the tuner went by.
#[derive(Default)]
pub(super) struct Seen(Vec<(Knob, Value)>);

impl Seen {
    pub(super) fn get(&self, knob: &Knob) -> Option<&Value> {
        let found = self.0.iter().find(|(seen, _)| seen == knob);
        found.map(|(_, value)| value)
    }
}

impl<'a> EngineView<'a> {
    pub(super) fn new(
        namespaces: &'a mut Namespaces,
        originals: &'a HashMap<Knob, Value>,
        machine: &'a Machine,
    ) -> Self {
        EngineView {
            namespaces: RefCell::new(namespaces),
            originals,
            machine,
            seen: RefCell::default(),
        }
    }

    pub(super) fn into_seen(self) -> Seen {
        self.seen.into_inner()
    }
}

impl View for EngineView<'_> {
    fn value(&self, knob: &Knob) -> Option<Value> {
        let mut seen = self.seen.borrow_mut();
        if let Some(value) = seen.get(knob) {
            return Some(value.clone());
        }
        let value = sysctl::read(&mut self.namespaces.borrow_mut(), knob).ok()?;
        seen.0.push((knob.clone(), value.clone()));
        Some(value)
    }

    fn machine(&self) -> &Machine {
        self.machine
    }

    fn host_netns(&self) -> NetnsCookie {
        self.namespaces.borrow().own()
    }

    fn original(&self, knob: &Knob) -> Option<Value> {
        self.originals.get(knob).cloned()
    }

    fn changed(&self) -> Vec<(Knob, Value)> {
        self.originals
            .iter()
            .map(|(knob, value)| (knob.clone(), value.clone()))
            .collect()
    }
}
