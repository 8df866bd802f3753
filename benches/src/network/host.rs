//! Values of the whole host, for as long as a run lasts.

use std::{fs, path::PathBuf};

use crate::{Error, Result};

/// What was written, with what was there before; put back on drop, the last first.
#[derive(Debug, Default)]
pub(super) struct HostValues {
    before: Vec<(PathBuf, String)>,
}

impl HostValues {
    /// Writes a sysctl of the host.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
        let failed = |what: &str| format!("cannot {what} {name} of the host");
        let before = fs::read_to_string(&path).map_err(Error::doing(failed("read")))?;
        fs::write(&path, value).map_err(Error::doing(failed("write")))?;
        self.before.push((path, before));
        Ok(())
    }
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
