//! Which devices bring packets to the same processor.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bpftune_core::NetnsCookie;

/// Each device that brings much is heard of once a second.
const HOLDS: Duration = Duration::from_millis(2500);
/// More are not remembered.
const MOST: usize = 256;

/// What was heard of late.
#[derive(Debug, Default)]
pub(super) struct Company {
    lanes: HashMap<(u32, NetnsCookie, u32), (Instant, f64)>,
}

impl Company {
    /// Notes what a device brings to a processor, packets a second, and tells what all others bring there.
    pub(super) fn of(
        &mut self,
        cpu: u32,
        (netns, ifindex): (NetnsCookie, u32),
        packets: f64,
        now: Instant,
    ) -> f64 {
        self.lanes
            .retain(|_, (at, _)| now.duration_since(*at) < HOLDS);
        if self.lanes.len() < MOST {
            self.lanes.insert((cpu, netns, ifindex), (now, packets));
        }
        let others = self.lanes.iter().filter(|((there, space, device), _)| {
            *there == cpu && (*space, *device) != (netns, ifindex)
        });
        others.map(|(_, (_, packets))| packets).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_of_the_same_processor_are_company_for_a_while() {
        let (mut company, start) = (Company::default(), Instant::now());
        let (host, other) = (NetnsCookie(1), NetnsCookie(7));
        let second = Duration::from_secs(1);
        assert_eq!(company.of(0, (host, 2), 9000.0, start), 0.0);
        assert_eq!(company.of(1, (host, 3), 7000.0, start), 0.0);
        assert_eq!(company.of(0, (other, 2), 5000.0, start), 9000.0);
        assert_eq!(company.of(0, (host, 2), 8000.0, start + second), 5000.0);
        assert_eq!(company.of(0, (host, 3), 1.0, start + 3 * second), 8000.0);
        for ifindex in 0..1000 {
            company.of(3, (host, ifindex), 1.0, start);
        }
        assert!(company.lanes.len() <= MOST);
    }
}
