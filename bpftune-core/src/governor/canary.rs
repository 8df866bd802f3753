//! Which hosts of a fleet go first.

/// Whether this host is among the first `percent` of a fleet: by a hash of its id, so without any talk between hosts.
///
/// The answer for a host never changes, and hosts that are in stay in as the percentage grows. The hash (FNV-1a with
/// a final mix) is part of the interface: it must give the same answer in every version. Use an id that stays, such as
/// that of /etc/machine-id.
///
/// ```
/// use bpftune_core::governor::canary;
/// assert!(!canary("any", 0));
/// assert!(canary("any", 100));
/// ```
#[must_use]
pub fn canary(host_id: &str, percent: u8) -> bool {
    share(host_id) < f64::from(percent) / 100.0
}

/// Where a host stands in its fleet: from 0 up to, not including, 1.
fn share(host_id: &str) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in host_id.trim().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    // FNV's high bits are poor for short ids: mix (the finalizer of MurmurHash3).
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_splits_as_asked_and_nobody_leaves() {
        for naming in ["web-", "3f0c", ""] {
            let hosts: Vec<String> = (0..10_000).map(|i| format!("{naming}{i}")).collect();
            for percent in [1, 5, 50, 99] {
                let chosen = hosts.iter().filter(|host| canary(host, percent)).count() as f64;
                let share = f64::from(percent) / 100.0;
                let sigma = (share * (1.0 - share) * 10_000.0).sqrt();
                assert!(
                    (chosen - share * 10_000.0).abs() < 4.0 * sigma,
                    "{naming}: {chosen} at {percent} %"
                );
            }
            assert!(
                hosts
                    .iter()
                    .all(|host| !canary(host, 5) || canary(host, 10))
            );
        }
    }

    #[test]
    fn the_answer_never_changes() {
        // Pinned: a host must not leave or enter the first group with a new version.
        let shares: Vec<u32> = ["a", "web-1", "0123456789abcdef0123456789abcdef"]
            .iter()
            .map(|id| (share(id) * 1e6) as u32)
            .collect();
        assert_eq!(shares, [510_294, 774_963, 151_689]);
        assert_eq!(share("web-1\n"), share("web-1"));
    }
}
