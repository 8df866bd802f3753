//! How long a trouble has been going on.

use std::time::Duration;

/// A trouble that goes on. What lasts for a few seconds is over before anything could be tried; and the host's own
/// measure of stalls takes ten seconds to know a load that has just begun from harm that a change did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Trouble {
    since: Duration,
    last: Duration,
}

/// It is over after so long a silence.
const OVER: Duration = Duration::from_secs(4);
/// It counts after so long.
const LASTING: Duration = Duration::from_secs(8);

impl Trouble {
    /// There is some now; whether it has lasted.
    pub(crate) fn lasts(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.last) > OVER {
            self.since = now;
        }
        self.last = now;
        now.saturating_sub(self.since) >= LASTING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_counts_once_it_has_lasted() {
        let mut trouble = Trouble::default();
        let lasts: Vec<bool> = [100, 103, 107, 108, 109, 120, 121, 127, 130]
            .map(|second| trouble.lasts(Duration::from_secs(second)))
            .into();
        let from = |second: usize| lasts[second];
        assert!(!from(2) && from(3) && from(4), "{lasts:?}");
        assert!(!lasts[5..8].iter().any(|lasts| *lasts), "{lasts:?}");
    }
}
