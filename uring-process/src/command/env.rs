//! The child's environment, as changes to this process's.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

#[derive(Debug, Default)]
pub(super) struct Env {
    clear: bool,
    /// `None`: removed.
    vars: BTreeMap<OsString, Option<OsString>>,
}

impl Env {
    pub(super) fn set(&mut self, key: &OsStr, value: &OsStr) {
        self.vars.insert(key.to_owned(), Some(value.to_owned()));
    }

    pub(super) fn remove(&mut self, key: &OsStr) {
        if self.clear {
            self.vars.remove(key);
        } else {
            self.vars.insert(key.to_owned(), None);
        }
    }

    pub(super) fn clear(&mut self) {
        self.clear = true;
        self.vars.clear();
    }

    /// The variables of a child that is started now.
    pub(super) fn resolve(&self) -> Vec<(OsString, OsString)> {
        let mut all: Vec<_> = if self.clear {
            Vec::new()
        } else {
            std::env::vars_os()
                .filter(|(key, _)| !self.vars.contains_key(key))
                .collect()
        };
        let set = self
            .vars
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        all.extend(set);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_apply_to_what_this_process_has() {
        let has = |env: &Env, key: &str| {
            env.resolve()
                .into_iter()
                .filter(|(k, _)| k == key)
                .map(|(_, v)| v)
                .collect::<Vec<_>>()
        };
        let mut env = Env::default();
        assert_eq!(has(&env, "PATH"), [std::env::var_os("PATH").unwrap()]);
        env.set("PATH".as_ref(), "/x".as_ref());
        assert_eq!(has(&env, "PATH"), ["/x"]);
        env.remove("PATH".as_ref());
        assert!(has(&env, "PATH").is_empty());
        env.clear();
        env.set("A".as_ref(), "1".as_ref());
        env.remove("B".as_ref());
        assert_eq!(env.resolve(), [("A".into(), "1".into())]);
    }
}
