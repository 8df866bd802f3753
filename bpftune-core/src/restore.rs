//! Back to the start: every original value that is ours to restore.

use std::{fmt, fs, path::Path};

use crate::{
    Error, Knob, Result, Value,
    journal::{self, Closed, Hold, Journal, Original, OriginalState},
    netns::Namespaces,
    sysctl,
};

/// What restoring did, knob by knob.
#[derive(Debug, Default)]
pub struct Report {
    /// Back at the original value, which is named.
    pub restored: Vec<(Knob, Value)>,
    /// Somebody else wrote them since; their value stands and is named.
    pub left: Vec<(Knob, Value)>,
    /// The namespace or the device is gone, its values with it.
    pub gone: Vec<Knob>,
    /// They could not be restored, and why.
    pub failed: Vec<(Knob, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (knob, value) in &self.restored {
            writeln!(f, "restored {knob} to \"{value}\"")?;
        }
        for (knob, value) in &self.left {
            writeln!(
                f,
                "left {knob} at \"{value}\": somebody else wrote it after bpftune"
            )?;
        }
        for knob in &self.gone {
            writeln!(f, "{knob} is gone, its value with it")?;
        }
        for (knob, why) in &self.failed {
            writeln!(f, "could not restore {knob}: {why}")?;
        }
        if self.restored.is_empty()
            && self.left.is_empty()
            && self.gone.is_empty()
            && self.failed.is_empty()
        {
            writeln!(f, "nothing to restore")?;
        }
        Ok(())
    }
}

/// The way by which a namespace was last entered may still lead there.
fn hint(originals: &[Original], namespaces: &mut Namespaces) {
    for original in originals
        .iter()
        .filter(|original| original.place.starts_with('/'))
    {
        namespaces.hint(Path::new(&original.place));
    }
}

/// Whose the present value of a knob is.
enum Whose {
    Original,
    Ours(Value),
    Somebodys(Value),
    Gone,
    Unreadable(String),
}

fn whose(namespaces: &mut Namespaces, original: &Original) -> Whose {
    match sysctl::read(namespaces, &original.knob) {
        Ok(now) if now == original.value => Whose::Original,
        Ok(now) if original.is_ours(&now) => Whose::Ours(now),
        Ok(now) => Whose::Somebodys(now),
        Err(Error::NetnsGone(_) | Error::DeviceGone(_)) => Whose::Gone,
        Err(error) => Whose::Unreadable(error.to_string()),
    }
}

/// Restores every knob of this boot that still has a value of ours, in every namespace that still
/// exists. A value that somebody else wrote stands, and the knob is left to them. A journal that
/// cannot be written (full disk) does not stop the restoring: the next run finds the originals in
/// place and closes them then.
///
/// # Errors
/// Where the journal cannot be read.
pub fn restore(journal: &mut Journal, namespaces: &mut Namespaces) -> Result<Report> {
    let originals = journal.held()?;
    Ok(restore_these(originals, journal, namespaces))
}

/// The same after an unclean end: what an earlier run kept on purpose, and the last one did not change, stays.
///
/// # Errors
/// Where the journal cannot be read.
pub fn restore_after_crash(journal: &mut Journal, namespaces: &mut Namespaces) -> Result<Report> {
    if let Err(error) = journal.keep_adopted() {
        tracing::warn!("{error}");
    }
    restore(journal, namespaces)
}

/// The same for some originals only.
pub(crate) fn restore_these(
    originals: Vec<Original>,
    journal: &mut Journal,
    namespaces: &mut Namespaces,
) -> Report {
    let mut report = Report::default();
    let mut closed = Vec::new();
    hint(&originals, namespaces);
    for original in originals {
        let knob = original.knob.clone();
        let (state, note, wrote_over) = match whose(namespaces, &original) {
            Whose::Original => (OriginalState::Restored, "was back already", None),
            Whose::Ours(ours) => match sysctl::write(namespaces, &knob, &original.value) {
                Ok(()) => {
                    report.restored.push((knob, original.value.clone()));
                    (OriginalState::Restored, "", Some(ours))
                }
                Err(error) => {
                    report.failed.push((knob, error.to_string()));
                    continue;
                }
            },
            Whose::Somebodys(now) => {
                let hold = Hold {
                    knob: knob.clone(),
                    since: journal::now_ms(),
                    by: "somebody".into(),
                    value: now.to_string(),
                };
                report.left.push((knob, now));
                if let Err(error) = journal.hold(&hold) {
                    tracing::warn!("{error}");
                }
                (OriginalState::Admin, "somebody else wrote it", None)
            }
            Whose::Gone => {
                report.gone.push(knob);
                (OriginalState::Gone, "its namespace or device is gone", None)
            }
            Whose::Unreadable(why) => {
                report.failed.push((knob, why));
                continue;
            }
        };
        closed.push(Closed {
            original,
            state,
            note,
            wrote_over,
        });
    }
    if let Err(error) = journal.close_all(&closed) {
        tracing::warn!("{error}");
    }
    report
}

/// What can be read of a journal that cannot be opened as it should be.
#[derive(Debug)]
pub struct Salvage {
    /// Originals whose knob has a value of ours now: these are safe to restore.
    pub safe: Vec<Original>,
    /// Readable, but the present value is neither ours nor the original: left alone.
    pub unsure: Vec<Original>,
    /// Why reading stopped, where it did.
    pub stopped: Option<String>,
}

/// Reads a damaged or newer journal from a copy; the file itself is not touched.
///
/// # Errors
/// Where the file cannot be copied.
pub fn salvage(state_dir: &Path, scratch: &Path, namespaces: &mut Namespaces) -> Result<Salvage> {
    let path = journal::file(state_dir);
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", path.display());
        let to = scratch.join(format!("journal.db{suffix}"));
        if suffix.is_empty() || Path::new(&from).exists() {
            fs::copy(&from, &to).map_err(Error::file("copy", from))?;
        }
    }
    let mut found = Salvage {
        safe: Vec::new(),
        unsure: Vec::new(),
        stopped: None,
    };
    let originals = match Journal::open_unchecked(scratch).and_then(|j| j.held()) {
        Ok(originals) => originals,
        Err(error) => {
            found.stopped = Some(error.to_string());
            Vec::new()
        }
    };
    hint(&originals, namespaces);
    for original in originals {
        match whose(namespaces, &original) {
            Whose::Ours(_) => found.safe.push(original),
            Whose::Original | Whose::Gone => {}
            Whose::Somebodys(_) | Whose::Unreadable(_) => found.unsure.push(original),
        }
    }
    Ok(found)
}

/// Writes the safe ones back.
pub fn restore_salvaged(salvage: &Salvage, namespaces: &mut Namespaces) -> Report {
    let mut report = Report::default();
    for original in &salvage.safe {
        match sysctl::write(namespaces, &original.knob, &original.value) {
            Ok(()) => report
                .restored
                .push((original.knob.clone(), original.value.clone())),
            Err(error) => report
                .failed
                .push((original.knob.clone(), error.to_string())),
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cpus, journal::NewDecision};

    /// The readahead of a loop device that nobody uses, put back when dropped; `None` with the reason on stderr.
    struct Unused(&'static str, String);

    impl Unused {
        fn new() -> Option<Unused> {
            let file = "/sys/block/loop7/queue/read_ahead_kb";
            let before = fs::read_to_string(file).ok();
            let free = !Path::new("/sys/block/loop7/loop").exists();
            match before.filter(|before| free && fs::write(file, before).is_ok()) {
                Some(before) => Some(Unused(file, before)),
                None => {
                    eprintln!("SKIP: no unused loop7 whose readahead may be written");
                    None
                }
            }
        }

        fn set(&self, text: &str) {
            fs::write(self.0, text).unwrap();
        }
    }

    impl Drop for Unused {
        fn drop(&mut self) {
            self.set(&self.1);
        }
    }

    fn killed_at(device: &Unused, new: i64, there: &str) -> Report {
        let dir = tempfile::tempdir().unwrap();
        let mut namespaces = Namespaces::new().unwrap();
        let knob = Knob {
            tunable: device.0.into(),
            netns: namespaces.own(),
        };
        device.set("256");
        let mut journal = Journal::open(dir.path()).unwrap();
        journal
            .intend(&NewDecision {
                tuner: "test",
                scenario: "test",
                knob: &knob,
                place: "host",
                old: &256.into(),
                new: &new.into(),
                reason: "",
                signal: None,
                reverts: None,
            })
            .unwrap();
        device.set(there);
        drop(journal);
        let mut journal = Journal::open(dir.path()).unwrap();
        restore(&mut journal, &mut namespaces).unwrap()
    }

    #[test]
    fn a_device_gets_its_value_back_after_a_kill_at_any_instant() {
        let Some(device) = Unused::new() else { return };
        let now = || fs::read_to_string(device.0).unwrap().trim().to_owned();
        assert!(killed_at(&device, 1024, "256").left.is_empty());
        assert_eq!(now(), "256", "before the write");
        assert_eq!(killed_at(&device, 1024, "1024").restored.len(), 1);
        assert_eq!(now(), "256", "after it");
        // A kernel that rounds made 1028 of 1030, and the journal was not told any more.
        assert_eq!(killed_at(&device, 1030, "1028").restored.len(), 1);
        assert_eq!(now(), "256", "after it was rounded");
        assert_eq!(killed_at(&device, 1024, "64").left.len(), 1);
        assert_eq!(now(), "64", "somebody else's stays");
    }

    /// A network namespace of its own for as long as this lives.
    struct Elsewhere {
        path: std::path::PathBuf,
        _over: std::sync::mpsc::Sender<()>,
    }

    impl Elsewhere {
        fn new() -> Option<Elsewhere> {
            let (tell, told) = std::sync::mpsc::channel();
            let (_over, is_over) = std::sync::mpsc::channel::<()>();
            std::thread::spawn(move || {
                let made = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
                let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
                let path = Path::new("/proc").join(thread).join("ns/net");
                let _ = tell.send(made.map(|()| path));
                let _ = is_over.recv();
            });
            match told.recv().unwrap() {
                Ok(path) => Some(Elsewhere { path, _over }),
                Err(errno) => {
                    eprintln!("SKIP: no network namespace can be made: {errno}");
                    None
                }
            }
        }
    }

    #[test]
    fn a_network_device_gets_its_value_back_in_its_namespace() {
        let Some(elsewhere) = Elsewhere::new() else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut namespaces = Namespaces::new().unwrap();
        let knob = Knob {
            tunable: "/sys/class/net/lo/queues/rx-0/rps_cpus".into(),
            netns: namespaces.add(&elsewhere.path).unwrap(),
        };
        let mut of_host = knob.clone();
        of_host.netns = namespaces.own();
        let host = sysctl::read(&mut namespaces, &of_host).unwrap();
        let [old, new] = ["none", "0"].map(|list| Value::from(list.parse::<Cpus>().unwrap()));
        assert_eq!(sysctl::read(&mut namespaces, &knob).unwrap(), old);
        let mut journal = Journal::open(dir.path()).unwrap();
        journal
            .intend(&NewDecision {
                tuner: "test",
                scenario: "test",
                knob: &knob,
                place: &elsewhere.path.display().to_string(),
                old: &old,
                new: &new,
                reason: "",
                signal: None,
                reverts: None,
            })
            .unwrap();
        sysctl::write(&mut namespaces, &knob, &new).unwrap();
        assert_eq!(sysctl::read(&mut namespaces, &of_host).unwrap(), host);
        drop(journal);
        let mut journal = Journal::open(dir.path()).unwrap();
        let report = restore(&mut journal, &mut namespaces).unwrap();
        assert_eq!(report.restored, [(knob.clone(), old.clone())]);
        assert_eq!(sysctl::read(&mut namespaces, &knob).unwrap(), old);
    }

    /// `vm.dirty_background_bytes` of 0 means that the share holds, and cannot be written.
    #[test]
    fn a_share_of_memory_comes_back_after_a_kill() {
        let mut namespaces = Namespaces::new().unwrap();
        let knob = Knob {
            tunable: "vm.dirty_background_bytes".into(),
            netns: namespaces.own(),
        };
        let bytes = Value::from(64 << 20);
        let before = sysctl::read(&mut namespaces, &knob).ok();
        let Some(before) = before.filter(|before| sysctl::percent(before).is_some()) else {
            eprintln!("SKIP: no share of memory holds here");
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal
            .intend(&NewDecision {
                tuner: "test",
                scenario: "test",
                knob: &knob,
                place: "host",
                old: &before,
                new: &bytes,
                reason: "",
                signal: None,
                reverts: None,
            })
            .unwrap();
        if let Err(error) = sysctl::write(&mut namespaces, &knob, &bytes) {
            eprintln!("SKIP: it may not be written: {error}");
            return;
        }
        drop(journal);
        let mut journal = Journal::open(dir.path()).unwrap();
        let report = restore(&mut journal, &mut namespaces).unwrap();
        assert_eq!(report.restored, [(knob.clone(), before.clone())]);
        assert_eq!(sysctl::read(&mut namespaces, &knob).unwrap(), before);
    }
}
