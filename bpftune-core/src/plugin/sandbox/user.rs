//! Whose processes plugins are.

use std::{fs, path::Path};

/// The range that systemd keeps for its dynamic users ("Users, Groups, UIDs and GIDs on systemd Systems").
const FIRST: u32 = 61184;
const LAST: u32 = 65519;

/// The user and group id of a plugin: one of its own, that no account has. It comes from the plugin's name, so it is the
/// same at each start. `taken` says which others have already.
#[must_use]
pub fn pick(name: &str, taken: impl Fn(u32) -> bool) -> u32 {
    let count = LAST - FIRST + 1;
    // FNV-1a.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, b| {
        (hash ^ u32::from(b)).wrapping_mul(0x0100_0193)
    });
    (0..count)
        .map(|step| FIRST + (hash.wrapping_add(step)) % count)
        .find(|&id| !taken(id) && !has_account(id))
        .unwrap_or(LAST)
}

/// Whether the number is somebody's: an account of this host, or a dynamic user of systemd's.
fn has_account(id: u32) -> bool {
    let word = id.to_string();
    let in_file = |path: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .any(|line| line.split(':').nth(2) == Some(word.as_str()))
    };
    Path::new(&format!("/run/systemd/dynamic-uid/{id}")).exists()
        || in_file("/etc/passwd")
        || in_file("/etc/group")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_and_keeps_it() {
        let first = pick("a", |_| false);
        assert_eq!(first, pick("a", |_| false));
        assert!((FIRST..=LAST).contains(&first));
        let second = pick("a", |id| id == first);
        assert_ne!(first, second);
        assert!(has_account(0));
    }
}
