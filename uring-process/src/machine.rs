//! The life of one process, as a state machine fed by what was waited for.
//!
//! It knows two things to wait for: that the start is decided, and that the process is over. Each
//! may be waited for at most once at a time, may be signalled without cause, and in any order.
//! What is really so it asks a [`World`]; so it is tested without a kernel.

/// What the signals are about.
pub(crate) trait World {
    type Error;
    /// How a process has ended.
    type Status;
    /// Whether the start is decided.
    fn start(&mut self) -> Start<Self::Error>;
    /// The status, once the process is over. Asked again only after `None`.
    fn end(&mut self) -> Option<Self::Status>;
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start<E> {
    /// To be waited for anew.
    Open,
    /// Still waited for, whatever has come.
    Early,
    /// There is a process by now; whether the program runs is open.
    Made,
    /// There is a process, and the program runs.
    Running,
    /// The process is about to end.
    Failed(E),
    /// There is no process.
    Gone(E),
}

/// What became of the process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News<E, S> {
    Running,
    /// There is no process, or none for long.
    Failed(E),
    Ended(S),
}

/// Something that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Start,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Running,
    Failed,
}

#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    /// There is a process, whose end can be waited for.
    made: bool,
    ended: bool,
    /// A wait that has been handed out and not come back: what it is about must stay.
    start_armed: bool,
    end_armed: bool,
}

impl Machine {
    /// Of a process that there is.
    pub(crate) fn new() -> Self {
        Self {
            made: true,
            ..Self::asked()
        }
    }

    /// Of a process that somebody is asked to make.
    pub(crate) fn asked() -> Self {
        Self {
            state: State::Open,
            made: false,
            ended: false,
            start_armed: false,
            end_armed: false,
        }
    }

    /// What to wait for now that is not waited for yet. From here on it counts as waited for.
    pub(crate) fn arm(&mut self) -> impl Iterator<Item = Signal> + use<> {
        let start = self.state == State::Open && !self.start_armed;
        let end = self.made && !self.ended && !self.end_armed;
        self.start_armed |= start;
        self.end_armed |= end;
        start
            .then_some(Signal::Start)
            .into_iter()
            .chain(end.then_some(Signal::End))
    }

    /// A wait has come back. Tells what is new, in the order in which it happened.
    ///
    /// A signal that was not waited for is none.
    pub(crate) fn signal<W: World>(
        &mut self,
        signal: Signal,
        world: &mut W,
        mut tell: impl FnMut(News<W::Error, W::Status>),
    ) {
        let armed = match signal {
            Signal::Start => &mut self.start_armed,
            Signal::End => &mut self.end_armed,
        };
        if !std::mem::take(armed) {
            return;
        }
        let status = if signal == Signal::End && !self.ended {
            world.end()
        } else {
            None
        };
        if self.state == State::Open {
            let start = world.start();
            self.made |= matches!(start, Start::Made | Start::Running);
            match start {
                Start::Failed(error) => {
                    self.state = State::Failed;
                    tell(News::Failed(error));
                }
                Start::Gone(error) => {
                    self.state = State::Failed;
                    self.ended = true;
                    tell(News::Failed(error));
                }
                Start::Early => self.start_armed = true,
                // Over, and it has reported no failure.
                Start::Open | Start::Made if status.is_none() => {}
                Start::Open | Start::Made | Start::Running => {
                    self.state = State::Running;
                    tell(News::Running);
                }
            }
        }
        if let Some(status) = status {
            self.ended = true;
            if self.state == State::Running {
                tell(News::Ended(status));
            }
        }
    }

    /// The start is decided and not waited for.
    pub(crate) fn is_started(&self) -> bool {
        self.state != State::Open && !self.start_armed
    }

    /// Nothing more will come, and nothing is waited for: it can go.
    pub(crate) fn is_finished(&self) -> bool {
        let decided = self.state != State::Open && self.ended;
        decided && !self.start_armed && !self.end_armed
    }
}

#[cfg(test)]
mod tests;
