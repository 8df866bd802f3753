//! Sources of what all namespaces share.

use std::{os::fd::BorrowedFd, time::Duration};

use super::{Feed, HookStatus, Parse, Scenarios};
use crate::{NetnsCookie, Result, Signal, Source, netns::Namespaces};

/// The namespace that the gates of programs are kept for which watch what the host has once: none.
pub const SHARED: NetnsCookie = NetnsCookie(0);

/// The source of a tuner whose every event is a signal about something that the host has once: a table, a limit.
///
/// Its programs pass their gates with cookie 0 and send the cookie of the namespace in which it happened. The signal is
/// one of the host, where the parameter is, and its subject names the place. So nobody has to enter that namespace first,
/// which takes time that a burst does not leave, and which is not always possible.
pub struct HostSource {
    feed: Feed,
    parse: Parse,
}

impl HostSource {
    /// Loads an object; see [`Feed::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(
        name: &str,
        object: &[u8],
        scenarios: Scenarios,
        parse: Parse,
    ) -> Result<HostSource> {
        Ok(HostSource {
            feed: Feed::load(name, object, scenarios)?,
            parse,
        })
    }
}

impl Source for HostSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (scenario, head, body) in self.feed.drain()? {
            if let Some(signal) = (self.parse)(scenario, &head, &body) {
                out.push(of_host(signal, namespaces));
            }
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, _: NetnsCookie, scenario: &str, how_long: Duration) {
        self.feed.quiet(SHARED, scenario, how_long);
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

/// The signal as one of the host, with the place where it happened in its subject.
#[must_use]
pub fn of_host(mut signal: Signal, namespaces: &Namespaces) -> Signal {
    signal.subject = format!("{} in {}", signal.subject, namespaces.place(signal.netns));
    signal.netns = namespaces.own();
    signal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_of_the_host_tells_where_it_happened() {
        let namespaces = Namespaces::new().unwrap();
        let signal = |netns| Signal {
            scenario: "full".into(),
            netns,
            subject: "eth0".into(),
            count: 1,
            figures: Vec::new(),
        };
        let own = of_host(signal(namespaces.own()), &namespaces);
        assert_eq!(own.subject, "eth0 in host");
        let other = of_host(signal(NetnsCookie(u64::MAX)), &namespaces);
        assert_eq!(other.netns, namespaces.own());
        assert!(other.subject.starts_with("eth0 in netns "));
    }
}
