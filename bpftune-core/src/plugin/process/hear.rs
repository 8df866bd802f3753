//! What a plugin says: its hello and its proposals. An error is the end of the sentence "it ...".

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use super::{Kid, LINES, MOST_WAITING, Process, lines::Stream, sampling::Sampling};
use crate::{
    Figure, NetnsCookie, Proposal, Signal, Urgency, Value,
    plugin::{
        Declared,
        protocol::{self, FromPlugin, Hello, Propose},
        text::{excerpt, plain},
    },
};

/// The figure of a plugin's own signal by which its proposal is found.
pub(super) const SEQUENCE: &str = "sequence";
/// How long it may run on after it closed its standard output.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
const MOST_TUNABLES: usize = 32;

impl Process {
    pub(super) fn listen(&mut self, out: &mut Vec<Signal>) -> Result<(), String> {
        let stream = self
            .inbox
            .fill(&mut self.stdout)
            .map_err(|error| format!("cannot be read: {error}"))?;
        while let Some(line) = self.inbox.next() {
            let line = line.map_err(|why| format!("broke the protocol: {why}"))?;
            if !self.lines.take(1.0, Instant::now()) {
                return Err(format!(
                    "floods: more than {} lines a second, and {} at once",
                    LINES.1, LINES.0
                ));
            }
            let said = serde_json::from_str(&line)
                .map_err(|error| format!("broke the protocol: {error} in {}", excerpt(&line)))?;
            match said {
                FromPlugin::Hello(hello) => self.greet(hello)?,
                FromPlugin::Propose(propose) => self.proposed(propose, out)?,
            }
        }
        if stream == Stream::Ended {
            // The end of the process follows, or it is over because nothing more can come.
            let _ = self.epoll.delete(self.stdout.as_fd());
            self.patience = Some(Instant::now() + ENDS_WITHIN);
            self.welcome = false;
        }
        Ok(())
    }

    fn greet(&mut self, hello: Hello) -> Result<(), String> {
        if self.hello.is_some() {
            return Err("said hello twice".into());
        }
        if hello.protocol != protocol::VERSION {
            return Err(format!(
                "speaks protocol {}; this daemon speaks {}",
                hello.protocol,
                protocol::VERSION
            ));
        }
        if hello.name != self.name {
            return Err(format!(
                "calls itself {}, but its file makes it {}",
                excerpt(&hello.name),
                self.name
            ));
        }
        if hello.about.len() > 256 || hello.version.len() > 64 {
            return Err("says too much of itself: about has at most 256 bytes, version 64".into());
        }
        if hello.tunables.is_empty() || hello.tunables.len() > MOST_TUNABLES {
            return Err(format!("declares no tunable, or more than {MOST_TUNABLES}"));
        }
        for (at, tunable) in hello.tunables.iter().enumerate() {
            tunable
                .check(&self.permitted)
                .map_err(|why| format!("may not have a tunable: {why}"))?;
            let before = &hello.tunables[..at];
            if before.iter().any(|other| other.name == tunable.name) {
                return Err(format!("declares {} twice", tunable.name));
            }
        }
        self.sampling =
            Sampling::new(&hello.subscribe).map_err(|why| format!("subscribes: {why}"))?;
        if let Kid::Starting(starting) = std::mem::replace(&mut self.kid, Kid::Gone) {
            self.kid = match starting.try_wait() {
                Ok(Ok(child)) => Kid::Child(child),
                Ok(Err(starting)) => Kid::Starting(starting),
                Err(error) => return Err(format!("could not be run: {error}")),
            };
        }
        self.patience = None;
        self.hello = Some(hello);
        Ok(())
    }

    pub(super) fn declared(&self, tunable: &str) -> Option<&Declared> {
        let hello = self.hello.as_ref()?;
        hello
            .tunables
            .iter()
            .find(|declared| declared.name == tunable)
    }

    fn proposed(&mut self, propose: Propose, out: &mut Vec<Signal>) -> Result<(), String> {
        let Propose {
            id,
            tunable,
            netns,
            target,
            reason,
        } = propose;
        if !self.welcome {
            return Err("proposes before it is welcome".into());
        }
        if id.len() > 64 || reason.len() > 512 {
            return Err("says too much: id has at most 64 bytes, reason 512".into());
        }
        let Some(declared) = self.declared(&tunable) else {
            return Err(format!(
                "proposes {}, which it did not declare",
                excerpt(&tunable)
            ));
        };
        let place = netns.parse().ok().map(NetnsCookie);
        let Some(place) = place.filter(|place| self.known.contains(place)) else {
            return Err(format!(
                "names netns {}, of which it was never told",
                excerpt(&netns)
            ));
        };
        let target = Value::from(&target);
        if target.numbers().len() != declared.bounds.len() {
            return Err(format!(
                "proposes {} numbers for {tunable}, which it declared with {}",
                target.numbers().len(),
                declared.bounds.len()
            ));
        }
        if target.clamped(&declared.bounds) != target {
            return Err(format!(
                "proposes \"{target}\" for {tunable}, out of the bounds that it declared"
            ));
        }
        let proposal = Proposal {
            knob: self.context.knob(&tunable, place),
            target,
            reason: plain(&reason),
            urgency: Urgency::Gain,
        };
        if self.waiting.len() == MOST_WAITING {
            self.waiting.pop_front();
        }
        self.sequence += 1;
        // The engine passes it on to the tuner, and asks it about it.
        out.push(Signal {
            scenario: format!("{}:proposal", self.name).into(),
            netns: proposal.knob.netns,
            subject: format!("plugin {}", self.name),
            count: 1,
            figures: vec![Figure::new(SEQUENCE, self.sequence as f64, "")],
        });
        self.waiting.push_back((self.sequence, id, proposal));
        Ok(())
    }

    /// The proposal of this number, with the plugin's mark of it. Those before it were not passed on.
    pub(super) fn take_proposal(&mut self, sequence: u64) -> Option<(String, Proposal)> {
        if self.over.is_some() {
            return None;
        }
        while let Some((at, id, proposal)) = self.waiting.pop_front() {
            if at == sequence {
                return Some((id, proposal));
            }
            if at > sequence {
                self.waiting.push_front((at, id, proposal));
                return None;
            }
        }
        None
    }
}
