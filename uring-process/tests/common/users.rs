//! Whether tests may run children as other users.

use std::{fs, os::unix::fs::MetadataExt};

/// Children may have other ids here, and can run something with them; says SKIP and why if not.
pub(crate) fn can_change() -> bool {
    let why_not = why_not();
    if let Some(why) = why_not {
        println!("SKIP: {why}");
    }
    why_not.is_none()
}

/// The reason; for tests of which ids are a part only, that go on without.
pub(crate) fn why_not() -> Option<&'static str> {
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } != 0 {
        return Some("needs root");
    }
    // As in a change of root into a private directory.
    let private = fs::metadata("/").is_ok_and(|root| root.mode() & 0o001 == 0);
    private.then_some("other users may not enter / here, so they can run nothing")
}
