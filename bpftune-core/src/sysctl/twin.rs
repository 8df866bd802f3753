//! Limits that the kernel takes in two spellings: in bytes, or as a share of memory.
//!
//! `vm.dirty_bytes` and `vm.dirty_ratio` are one limit: a write to one makes the other read 0, and 0 bytes cannot be
//! written (Documentation/admin-guide/sysctl/vm.rst). So bytes that were never set could not be put back by their own file.
//! Here the two files are one parameter, by the name that counts bytes: its value is a number, or a word such as
//! "ratio-20" where the share holds.

use crate::Value;

/// Name of the bytes, and of the share in percent.
const TWINS: [(&str, &str); 2] = [
    ("vm.dirty_bytes", "vm.dirty_ratio"),
    ("vm.dirty_background_bytes", "vm.dirty_background_ratio"),
];

const SHARE: &str = "ratio-";

/// The name of the share that a parameter in bytes is the other spelling of.
pub(super) fn share_of(bytes: &str) -> Option<&'static str> {
    let (_, share) = TWINS.iter().find(|(name, _)| *name == bytes)?;
    Some(share)
}

/// What a share of so many percent reads as a value of the parameter.
pub(super) fn word(percent: &str) -> String {
    format!("{SHARE}{}", percent.trim())
}

/// By which name, and with which text, a value is written.
///
/// ```
/// use bpftune_core::sysctl::spelled;
/// assert_eq!(spelled("vm.dirty_bytes", "ratio-20"), ("vm.dirty_ratio", "20"));
/// assert_eq!(spelled("vm.dirty_bytes", "16777216"), ("vm.dirty_bytes", "16777216"));
/// assert_eq!(spelled("vm.swappiness", "60"), ("vm.swappiness", "60"));
/// ```
#[must_use]
pub fn spelled<'a>(name: &'a str, value: &'a str) -> (&'a str, &'a str) {
    match (share_of(name), value.strip_prefix(SHARE)) {
        (Some(share), Some(percent)) => (share, percent),
        _ => (name, value),
    }
}

/// What a write to a share means for the parameter that it is the other spelling of.
#[must_use]
pub fn meant(name: &str, value: &str) -> Option<(&'static str, String)> {
    let (bytes, _) = TWINS.iter().find(|(_, share)| *share == name)?;
    Some((bytes, word(value)))
}

/// Whether two names are those of one limit.
#[must_use]
pub fn are_one(a: &str, b: &str) -> bool {
    a == b || share_of(a) == Some(b) || share_of(b) == Some(a)
}

/// The share in percent, where a value is one.
#[must_use]
pub fn percent(value: &Value) -> Option<i64> {
    value.as_word()?.strip_prefix(SHARE)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_value_like_any_other() {
        let value = Value::shown(&word("20\n")).unwrap();
        assert_eq!(value.to_string(), "ratio-20");
        assert_eq!(percent(&value), Some(20));
        assert_eq!(percent(&Value::from(20)), None);
        // Bytes are less than the share was, and the way back is the other way.
        assert_eq!(Value::from(1 << 24).direction_from(&value), -1);
        assert_eq!(value.direction_from(&Value::from(1 << 24)), 1);
    }

    #[test]
    fn both_names_are_one_limit() {
        assert!(are_one("vm.dirty_ratio", "vm.dirty_bytes"));
        assert!(are_one("vm.dirty_bytes", "vm.dirty_ratio"));
        assert!(!are_one("vm.dirty_bytes", "vm.dirty_background_bytes"));
        assert_eq!(
            meant("vm.dirty_background_ratio", "5\n"),
            Some(("vm.dirty_background_bytes", "ratio-5".into()))
        );
        assert_eq!(meant("vm.dirty_bytes", "5"), None);
    }
}
