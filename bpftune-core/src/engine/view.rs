//! What tuners see.

use std::{cell::RefCell, collections::HashMap};

use crate::{Knob, Machine, NetnsCookie, Value, View, netns::Namespaces, sysctl};

pub(super) struct EngineView<'a> {
    namespaces: RefCell<&'a mut Namespaces>,
    originals: &'a HashMap<Knob, Value>,
    machine: &'a Machine,
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
        }
    }
}

impl View for EngineView<'_> {
    fn value(&self, knob: &Knob) -> Option<Value> {
        sysctl::read(&mut self.namespaces.borrow_mut(), knob).ok()
    }

    fn machine(&self) -> &Machine {
        self.machine
    }

    fn host_netns(&self) -> NetnsCookie {
        self.namespaces.borrow().own()
    }

    fn changed(&self) -> Vec<(Knob, Value)> {
        self.originals
            .iter()
            .map(|(knob, value)| (knob.clone(), value.clone()))
            .collect()
    }
}
