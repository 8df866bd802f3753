//! A timer, services' files, signals.

use std::{
    collections::BTreeMap,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use bpftune_core::{
    Figure, Knob, NetnsCookie, Result, Signal, Source, bpf::HookStatus, netns::Namespaces,
    timer::Timer,
};

use super::{
    groups::{State, Tree},
    rules::{CALM, HELD, IDLE, LEAST, PRESSED, STALLED, TOO_MUCH},
};

/// Between two looks, and where a service has a limit of ours.
const SELDOM: Duration = Duration::from_secs(10);
const OFTEN: Duration = Duration::from_secs(2);
/// So long one service is the one that a trial may be about.
const FOCUS: Duration = Duration::from_secs(60);

/// Looks at services by a timer; none runs where the host has no such groups.
pub struct CgroupMemSource {
    tree: Tree,
    timer: Timer,
    hooks: Vec<HookStatus>,
    last: BTreeMap<String, (State, Instant)>,
    /// Services with a limit of ours.
    limited: Vec<String>,
    focus: Option<(String, Instant)>,
}

impl CgroupMemSource {
    pub(super) fn new(tree: Tree) -> Result<CgroupMemSource> {
        let source = CgroupMemSource {
            hooks: vec![HookStatus {
                name: "services".into(),
                section: super::groups::SLICE.into(),
                off: tree.lacks(),
            }],
            tree,
            timer: Timer::new()?,
            last: BTreeMap::new(),
            limited: Vec::new(),
            focus: None,
        };
        source.arm();
        Ok(source)
    }

    /// Sets the timer for the next look; none follows where there is nothing to look at.
    fn arm(&self) {
        let possible = self.hooks.iter().all(|hook| hook.off.is_none());
        let next = if self.limited.is_empty() {
            SELDOM
        } else {
            OFTEN
        };
        self.timer.set(possible.then(|| Instant::now() + next));
    }

    /// One look at all services. Of those that are calm the largest may be heard, one at a time.
    fn look(&mut self, now: Instant, netns: NetnsCookie, out: &mut Vec<Signal>) {
        let before = std::mem::take(&mut self.last);
        let mut calm: Option<(u64, Signal)> = None;
        for service in self.tree.services() {
            let Some(state) = self.tree.read(&service) else {
                continue;
            };
            if let Some((last, at)) = before.get(&service) {
                let over = now.duration_since(*at).as_secs_f64().max(0.001);
                let waited = state.stalled.saturating_sub(last.stalled).as_secs_f64() / over;
                let ours = self.limited.contains(&service);
                if ours && waited >= TOO_MUCH {
                    out.push(signal(PRESSED, netns, &service, state, waited));
                } else if waited <= CALM
                    && state.current >= LEAST
                    && self.may_focus(&service, now)
                    && calm.as_ref().is_none_or(|(most, _)| *most < state.current)
                {
                    calm = Some((state.current, signal(IDLE, netns, &service, state, waited)));
                }
            }
            self.last.insert(service, (state, now));
        }
        let last = &self.last;
        self.limited.retain(|service| last.contains_key(service));
        if let Some((_, signal)) = calm {
            if self
                .focus
                .as_ref()
                .is_none_or(|(service, _)| *service != signal.subject)
            {
                self.focus = Some((signal.subject.clone(), now + FOCUS));
            }
            out.push(signal);
        }
    }

    fn may_focus(&self, service: &str, now: Instant) -> bool {
        self.focus
            .as_ref()
            .is_none_or(|(focus, until)| focus == service || *until <= now)
    }
}

fn signal(
    scenario: &'static str,
    netns: NetnsCookie,
    service: &str,
    state: State,
    waited: f64,
) -> Signal {
    Signal {
        scenario: scenario.into(),
        netns,
        subject: service.to_owned(),
        count: 1,
        figures: vec![
            Figure::new("held", state.current as f64, "bytes"),
            Figure::new("stalled", waited, "of time"),
        ],
    }
}

impl Source for CgroupMemSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        self.timer.take();
        self.look(Instant::now(), namespaces.own(), out);
        self.arm();
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    fn after_change(&mut self, knob: &Knob) -> Result<()> {
        let service = knob.tunable.split('/').nth_back(1).unwrap_or_default();
        let limit = self.tree.read(service).and_then(|state| state.high);
        self.limited.retain(|limited| limited != service);
        if limit.is_some() {
            self.limited.push(service.to_owned());
        }
        self.arm();
        Ok(())
    }

    fn figure(&mut self, _: NetnsCookie, name: &str) -> Option<f64> {
        let (service, _) = self.focus.as_ref()?;
        let state = self.tree.read(service)?;
        match name {
            HELD => Some(state.current as f64),
            STALLED => Some(state.stalled.as_secs_f64()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, poll};

    use super::{super::groups, *};

    const NETNS: NetnsCookie = NetnsCookie(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn heard(source: &mut CgroupMemSource, at: Instant) -> Vec<(String, String)> {
        let mut out = Vec::new();
        source.look(at, NETNS, &mut out);
        out.into_iter()
            .map(|signal| (signal.scenario.into_owned(), signal.subject))
            .collect()
    }

    fn pair(scenario: &str, service: &str) -> (String, String) {
        (scenario.into(), service.into())
    }

    #[test]
    fn the_largest_calm_service_is_heard_one_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let tree = groups::made(root.path(), "memory\n");
        let service = |name, mib: u64, stalled| {
            groups::service(root.path(), name, mib << 20, "max", stalled);
        };
        service("web.service", 300, 0);
        service("db.service", 900, 0);
        service("busy.service", 2000, 0);
        service("small.service", 20, 0);
        let mut source = CgroupMemSource::new(tree).unwrap();
        let start = Instant::now();
        assert_eq!(heard(&mut source, start), [], "nothing to compare with");
        service("busy.service", 2000, 400_000);
        let calm = [pair(IDLE, "db.service")];
        assert_eq!(heard(&mut source, start + SECOND * 10), calm);
        assert_eq!(source.figure(NETNS, HELD), Some(f64::from(900 << 20)));
        service("web.service", 1000, 0);
        assert_eq!(
            heard(&mut source, start + SECOND * 20),
            calm,
            "it is looked at still"
        );
        service("busy.service", 2000, 900_000);
        assert_eq!(
            heard(&mut source, start + SECOND * 80),
            [pair(IDLE, "web.service")]
        );
    }

    #[test]
    fn a_service_under_a_limit_of_ours_is_heard_when_it_waits() {
        let root = tempfile::tempdir().unwrap();
        let tree = groups::made(root.path(), "memory\n");
        groups::service(root.path(), "db.service", 900 << 20, "max", 0);
        let mut source = CgroupMemSource::new(tree).unwrap();
        let start = Instant::now();
        heard(&mut source, start);
        groups::service(root.path(), "db.service", 900 << 20, "800000000", 0);
        let knob = Knob {
            tunable: "/sys/fs/cgroup/system.slice/db.service/memory.high".into(),
            netns: NETNS,
        };
        source.after_change(&knob).unwrap();
        groups::service(root.path(), "db.service", 800_000_000, "800000000", 100_000);
        assert_eq!(
            heard(&mut source, start + SECOND * 2),
            [pair(PRESSED, "db.service")]
        );
        groups::service(root.path(), "db.service", 900 << 20, "max", 100_000);
        source.after_change(&knob).unwrap();
        groups::service(root.path(), "db.service", 900 << 20, "max", 900_000);
        assert_eq!(
            heard(&mut source, start + SECOND * 4),
            [],
            "the limit is gone"
        );
        std::fs::remove_dir_all(root.path().join("system.slice/db.service")).unwrap();
        assert_eq!(
            heard(&mut source, start + SECOND * 6),
            [],
            "so is the service"
        );
        assert_eq!(source.figure(NETNS, HELD), None);
    }

    #[test]
    fn nothing_is_looked_at_where_there_are_no_such_groups() {
        let root = tempfile::tempdir().unwrap();
        let tree = groups::made(root.path(), "pids\n");
        let source = CgroupMemSource::new(tree).unwrap();
        assert!(source.hooks()[0].off.as_ref().unwrap().contains("memory"));
        let mut fds = [PollFd::new(source.fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 20u8).unwrap(), 0);
    }
}
