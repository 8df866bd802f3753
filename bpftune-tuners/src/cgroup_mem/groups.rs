//! Services and the memory that they hold, from the files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

use std::{fs, path::PathBuf, time::Duration};

/// Where services are.
pub(super) const SLICE: &str = "/sys/fs/cgroup/system.slice";

/// A cgroup v2 tree.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: PathBuf,
    slice: PathBuf,
    /// The daemon's own group: what watches must not be slowed down.
    own: Option<String>,
}

/// What a service's files say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Bytes that it holds.
    pub(super) current: u64,
    /// Its `memory.high`; `None` for "max".
    pub(super) high: Option<u64>,
    /// Time in which some task of it waited for memory, in all.
    pub(super) stalled: Duration,
}

impl Tree {
    pub(super) fn of_host() -> Tree {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Tree {
            root: "/sys/fs/cgroup".into(),
            slice: SLICE.into(),
            own: own_service(&groups),
        }
    }

    /// Why nothing can be done here, and the way out.
    pub(super) fn lacks(&self) -> Option<String> {
        let Ok(controllers) = fs::read_to_string(self.root.join("cgroup.controllers")) else {
            return Some(
                "memory is given out by cgroup v1 here: boot with systemd.unified_cgroup_hierarchy=1".into(),
            );
        };
        if !controllers
            .split_ascii_whitespace()
            .any(|name| name == "memory")
        {
            return Some(
                "cgroup v2 has no memory controller here: boot without cgroup_disable=memory"
                    .into(),
            );
        }
        if !self.slice.is_dir() {
            return Some(format!(
                "{} is not there: no systemd runs services",
                self.slice.display()
            ));
        }
        let pressure = self.slice.join("memory.pressure");
        (!pressure.exists())
            .then(|| "services have no memory.pressure: boot with psi=1 (CONFIG_PSI)".into())
    }

    /// Each service by name, but for the daemon itself.
    pub(super) fn services(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.slice).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names
            .filter(|name| name.ends_with(".service") && Some(name) != self.own.as_ref())
            .collect();
        names.sort();
        names
    }

    /// What its files say; `None` where it has ended or has none.
    pub(super) fn read(&self, service: &str) -> Option<State> {
        let read = |file: &str| fs::read_to_string(self.slice.join(service).join(file)).ok();
        Some(State {
            current: read("memory.current")?.trim().parse().ok()?,
            high: limit(&read("memory.high")?)?,
            stalled: stalled(&read("memory.pressure")?)?,
        })
    }
}

/// "0::/system.slice/bpftune.service/daemon" is bpftune.service.
fn own_service(groups: &str) -> Option<String> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut parts = path.split('/').skip_while(|part| *part != "system.slice");
    parts.nth(1).map(str::to_owned)
}

fn limit(text: &str) -> Option<Option<u64>> {
    match text.trim() {
        "max" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234", in microseconds.
fn stalled(text: &str) -> Option<Duration> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

/// A tree of files as the kernel has them.
#[cfg(test)]
pub(super) fn made(root: &std::path::Path, controllers: &str) -> Tree {
    let slice = root.join("system.slice");
    fs::create_dir_all(&slice).unwrap();
    fs::write(root.join("cgroup.controllers"), controllers).unwrap();
    fs::write(slice.join("memory.pressure"), "").unwrap();
    Tree {
        root: root.into(),
        slice,
        own: Some("bpftune.service".into()),
    }
}

/// A service in it.
#[cfg(test)]
pub(super) fn service(
    root: &std::path::Path,
    name: &str,
    current: u64,
    high: &str,
    stalled_us: u64,
) {
    let group = root.join("system.slice").join(name);
    fs::create_dir_all(&group).unwrap();
    let pressure = format!(
        "some avg10=0.00 avg60=0.00 avg300=0.00 total={stalled_us}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    );
    for (file, text) in [
        ("memory.current", current.to_string()),
        ("memory.high", high.to_owned()),
        ("memory.pressure", pressure),
    ] {
        fs::write(group.join(file), text + "\n").unwrap();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".*") {
            let _ = (limit(&text), stalled(&text), own_service(&text));
        }
    }

    #[test]
    fn services_are_found_and_read() {
        let root = tempfile::tempdir().unwrap();
        let tree = made(root.path(), "cpu memory pids\n");
        assert_eq!(tree.lacks(), None);
        service(root.path(), "web.service", 300 << 20, "max", 1500);
        service(root.path(), "db.service", 900 << 20, "1073741824", 0);
        service(root.path(), "bpftune.service", 30 << 20, "max", 0);
        fs::create_dir_all(root.path().join("system.slice/a.mount")).unwrap();
        fs::create_dir_all(root.path().join("system.slice/gone.service")).unwrap();
        assert_eq!(
            tree.services(),
            ["db.service", "gone.service", "web.service"]
        );
        assert_eq!(tree.read("gone.service"), None);
        assert_eq!(tree.read("db.service").unwrap().high, Some(1 << 30));
        let web = tree.read("web.service").unwrap();
        assert_eq!((web.high, web.stalled), (None, Duration::from_micros(1500)));
    }

    #[test]
    fn each_lack_has_its_way_out() {
        let root = tempfile::tempdir().unwrap();
        let tree = made(root.path(), "cpu pids\n");
        assert!(tree.lacks().unwrap().contains("cgroup_disable"));
        let tree = made(root.path(), "memory\n");
        fs::remove_file(root.path().join("system.slice/memory.pressure")).unwrap();
        assert!(tree.lacks().unwrap().contains("psi=1"));
        fs::remove_dir(root.path().join("system.slice")).unwrap();
        assert!(tree.lacks().unwrap().contains("systemd"));
        fs::remove_file(root.path().join("cgroup.controllers")).unwrap();
        assert!(tree.lacks().unwrap().contains("cgroup v1"));
    }

    #[test]
    fn the_daemon_knows_its_own_service() {
        let own = "0::/system.slice/bpftune.service/daemon\n";
        assert_eq!(own_service(own).as_deref(), Some("bpftune.service"));
        assert_eq!(own_service("4:memory:/x\n0::/\n"), None);
    }

    #[test]
    fn this_host_has_it_or_says_why_not() {
        let tree = Tree::of_host();
        match tree.lacks() {
            Some(why) => assert!(why.contains(": "), "{why}"),
            None => assert!(
                tree.services()
                    .iter()
                    .all(|name| name.ends_with(".service"))
            ),
        }
    }
}
