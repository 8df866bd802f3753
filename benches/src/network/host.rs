//! Values of the whole host, for as long as a run lasts.

use std::{fs, path::PathBuf};

use crate::{Error, Result};

/// What was written, with what was there before; put back on drop, the last first.
#[derive(Debug, Default)]
pub struct HostValues {
    before: Vec<(PathBuf, String)>,
}

impl HostValues {
    /// Writes a sysctl of the host, or a file of sysfs where the name begins with a slash.
    ///
    /// # Errors
    /// Where the host has no such parameter, or the kernel refuses the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let path = bpftune_core::sysctl::path(name);
        let failed = |what: &str| format!("cannot {what} {name} of the host");
        let shown = fs::read_to_string(&path).map_err(Error::doing(failed("read")))?;
        let before = chosen(&shown).to_owned();
        fs::write(&path, value).map_err(Error::doing(failed("write")))?;
        self.before.push((path, before));
        Ok(())
    }
}

/// Of "none [mq-deadline] kyber" the one in brackets; all of any other text.
fn chosen(text: &str) -> &str {
    let inside = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(text, |(word, _)| word)
}

impl Drop for HostValues {
    fn drop(&mut self) {
        for (path, before) in self.before.drain(..).rev() {
            if let Err(error) = fs::write(&path, before.trim()) {
                eprintln!(
                    "cannot put {} back to {}: {error}",
                    path.display(),
                    before.trim()
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_choice_the_word_in_brackets_is_put_back() {
        assert_eq!(chosen("none [mq-deadline] kyber\n"), "mq-deadline");
        assert_eq!(chosen("4096 87380 6291456\n"), "4096 87380 6291456\n");
    }

    #[test]
    fn values_are_put_back() {
        if crate::unprivileged().is_some() {
            println!("SKIP: not root");
            return;
        }
        let path = "/proc/sys/net/core/warnings";
        let Ok(before) = fs::read_to_string(path) else {
            println!("SKIP: no net.core.warnings here");
            return;
        };
        let mut values = HostValues::default();
        values.set("net.core.warnings", "1").unwrap();
        values.set("net.core.warnings", "0").unwrap();
        assert!(values.set("net.core.no_such", "1").is_err());
        drop(values);
        assert_eq!(fs::read_to_string(path).unwrap(), before);
    }
}
