//! Patterns for the names of tunables and places.

use std::{fmt, str::FromStr};

/// A name, or a pattern for names: `*` stands for any text, `?` for one character.
///
/// ```
/// use bpftune_core::governor::Glob;
/// let glob: Glob = "net.ipv4.*".parse().unwrap();
/// assert!(glob.matches("net.ipv4.tcp_rmem"));
/// assert!(!glob.matches("net.core.rmem_max"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob(String);

impl Glob {
    /// Whether the pattern means this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last star is, and how much of the name it has taken: the only place to go back to.
        let mut star = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(&c) if c == b'?' || c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match star {
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        p = at + 1;
                        n = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&c| c == b'*')
    }

    /// Whether it is a name and no pattern.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// How specific it is: names before patterns, more letters before fewer.
    #[must_use]
    pub fn rank(&self) -> (bool, usize) {
        let letters = self.0.chars().filter(|c| !matches!(c, '*' | '?')).count();
        (self.is_exact(), letters)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Glob, String> {
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("{text:?} is no name and no pattern"));
        }
        Ok(Glob(text.to_owned()))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, wanted) in [
            ("*", "anything", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a*b*c", "a-b-b-c", true),
            ("net.ipv4.tcp_?mem", "net.ipv4.tcp_rmem", true),
            ("net.ipv4.tcp_?mem", "net.ipv4.tcp_mem", false),
            ("a", "aa", false),
            ("**a", "ba", true),
        ] {
            assert_eq!(
                pattern.parse::<Glob>().unwrap().matches(name),
                wanted,
                "{pattern} {name}"
            );
        }
        assert!("".parse::<Glob>().is_err() && "a b".parse::<Glob>().is_err());
    }

    /// The definition, by recursion.
    fn slow(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|n| slow(rest, &name[n..])),
            Some((b'?', rest)) => !name.is_empty() && slow(rest, &name[1..]),
            Some((c, rest)) => name.first() == Some(c) && slow(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?]{1,8}", name in "[ab]{0,8}") {
            let glob: Glob = pattern.parse().unwrap();
            prop_assert_eq!(glob.matches(&name), slow(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
