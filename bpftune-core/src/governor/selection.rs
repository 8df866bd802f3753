//! Which names are meant: allow and deny.

use super::Glob;

/// Patterns for what may change and for what may not. The most specific one that fits a name decides; of two that are
/// equally specific, the one that denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// What may.
    pub allow: Vec<Glob>,
    /// What may not.
    pub deny: Vec<Glob>,
}

/// Why a name is not selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unselected {
    /// A pattern denies it.
    Denied,
    /// No pattern allows it.
    NotAllowed,
}

impl Selection {
    /// Everything.
    #[must_use]
    pub fn all() -> Selection {
        Selection {
            allow: vec!["*".parse().expect("a pattern")],
            deny: Vec::new(),
        }
    }

    /// Whether every name is selected, so that none needs to be looked at.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.deny.is_empty() && self.allow.iter().any(|glob| glob.as_str() == "*")
    }

    /// Whether the name is selected.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self, name: &str) -> Result<(), Unselected> {
        let rank = |globs: &[Glob]| {
            globs
                .iter()
                .filter(|glob| glob.matches(name))
                .map(Glob::rank)
                .max()
        };
        match (rank(&self.allow), rank(&self.deny)) {
            (None, None) => Err(Unselected::NotAllowed),
            (allow, deny) if allow > deny => Ok(()),
            _ => Err(Unselected::Denied),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_decides() {
        let globs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let selection = Selection {
            allow: globs(&["net.*", "net.core.a"]),
            deny: globs(&["net.core.*", "net.x"]),
        };
        for (name, wanted) in [
            ("net.ipv4.a", Ok(())),
            ("net.core.b", Err(Unselected::Denied)),
            ("net.core.a", Ok(())),
            ("net.x", Err(Unselected::Denied)),
            ("vm.a", Err(Unselected::NotAllowed)),
        ] {
            assert_eq!(selection.check(name), wanted, "{name}");
        }
        let both = Selection {
            allow: globs(&["a"]),
            deny: globs(&["a"]),
        };
        assert_eq!(both.check("a"), Err(Unselected::Denied));
        assert!(Selection::all().is_all() && Selection::all().check("anything").is_ok());
    }
}
