//! What a learner learned survives the daemon, and is dropped when it no longer fits.

use std::{fs, path::PathBuf, sync::Arc};

use lab::{
    daemon::{Daemon, binary, command, rig},
    netns::Netns,
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use serde_json::Value as Json;

mod common;

use common::*;

/// A namespace with a name, as `ip netns add` makes it: a place that outlives processes.
struct Named {
    netns: Netns,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Named {
    fn new() -> Named {
        let netns = Netns::new().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web");
        fs::write(&path, "").unwrap();
        mount(
            Some(&netns.path()),
            &path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .unwrap();
        Named {
            netns,
            path,
            _directory: directory,
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

/// Room for a learner that tries its values one after the other.
fn words(learner: &str) -> String {
    format!(
        "[governor]\ncool_down = \"0ms\"\nhysteresis = \"0ms\"\nchanges_per_hour = 3600\nreversals_per_hour = 3600\n\
         [tuner.rig]\nlearner = {learner}\n"
    )
}

const THREE: &str = "{ name = \"thompson\", arms = [20000, 40000, 80000] }";
const TWO: &str = "{ name = \"thompson\", arms = [20000, 30000] }";

struct Learning {
    place: Named,
    files: Files,
    state: Arc<tempfile::TempDir>,
}

impl Learning {
    fn new() -> Learning {
        let place = Named::new();
        place.netns.set_sysctl(WMEM, "4096 16384 40000").unwrap();
        Learning {
            place,
            files: Files::new(&words(THREE)),
            state: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    fn start(&self) -> Daemon {
        let netns = self.place.path.to_str().unwrap();
        let args = [&self.files.args()[..], &["--learn", "--netns", netns]].concat();
        Daemon::start_in(&rig().unwrap(), self.state.clone(), &[], &args).unwrap()
    }

    /// What the journal keeps.
    fn kept(&self) -> Vec<Json> {
        let (_, out, _) =
            command(&binary().unwrap(), &self.state, &["history", "--export"]).unwrap();
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|line: &Json| line["kind"] == "learned")
            .collect()
    }

    /// Scores that the learner has heard of all its values.
    fn scores(&self) -> u64 {
        let kept = self.kept();
        let scores = kept
            .first()
            .and_then(|line| line["state"]["state"]["arms"]["scores"].as_array());
        scores
            .into_iter()
            .flatten()
            .filter_map(|score| score["count"].as_u64())
            .sum()
    }
}

fn logged(daemon: &Daemon, part: &str) -> bool {
    daemon.log().iter().any(|line| line.contains(part))
}

#[test]
fn a_restart_keeps_what_was_learned_and_other_words_drop_it() {
    need_root!();
    let learning = Learning::new();
    let mut daemon = learning.start();
    until("some of it is kept while it runs", || {
        learning.scores() >= 8
    });
    assert!(!logged(&daemon, "goes on with"), "nothing was known yet");
    let kept = learning.kept();
    assert_eq!(kept[0]["place"], learning.place.path.to_str().unwrap());
    assert_eq!(kept[0]["fits"]["learner"], "thompson/1");
    daemon.stop(Signal::SIGTERM).unwrap();
    let before = learning.scores();

    // A new daemon goes on where the old one ended; a killed one loses little.
    let mut daemon = learning.start();
    assert!(
        logged(
            &daemon,
            "rig goes on with what it learned before (states: 1, places: 1)"
        ),
        "{:?}",
        daemon.log()
    );
    until("it goes on counting", || learning.scores() >= before + 8);
    let before = learning.scores();
    daemon.stop(Signal::SIGKILL).unwrap();
    assert!(
        learning.scores() >= before,
        "SIGKILL takes nothing from the journal"
    );

    // Other words while it runs: dropped, with the reason, and learning begins anew.
    let daemon = learning.start();
    until("known again", || logged(&daemon, "goes on with"));
    learning.files.put("bpftune.toml", &words(TWO));
    let dropped = format!(
        "what rig learned of {WMEM} in {}",
        learning.place.path.display()
    );
    let arms = "is dropped: the config was learner {\"name\":\"thompson\",\"arms\":[20000.0,40000.0,80000.0]";
    until("it is dropped", || {
        logged(&daemon, &dropped) && logged(&daemon, arms)
    });
    until("it learns with the new words", || {
        let kept = learning.kept();
        kept.len() == 1 && kept[0]["state"]["spec"]["arms"].as_array().unwrap().len() == 2
    });
    drop(daemon);

    // And while none runs: a bound of the operator's is among what a learner goes by.
    let bounded = words(TWO) + "[tunable.\"net.ipv4.tcp_wmem\"]\nmax = 25000\n";
    learning.files.put("bpftune.toml", &bounded);
    let daemon = learning.start();
    assert!(
        logged(&daemon, &dropped) && logged(&daemon, "max 25000"),
        "{:?}",
        daemon.log()
    );
    drop(daemon);
    assert_eq!(
        learning.place.netns.sysctl(WMEM).unwrap(),
        "4096 16384 40000",
        "values are restored all the same"
    );
}

#[test]
fn another_kernel_drops_it() {
    need_root!();
    let learning = Learning::new();
    let daemon = learning.start();
    until("some of it is kept", || learning.scores() >= 6);
    drop(daemon);
    // The same file after an update of the kernel.
    let db = rusqlite::Connection::open(learning.state.path().join("state/journal.db")).unwrap();
    db.execute("UPDATE learned SET kernel = '5.0.0-old'", [])
        .unwrap();
    drop(db);
    let daemon = learning.start();
    let why = "is dropped: the kernel was 5.0.0-old, it is ";
    assert!(logged(&daemon, why), "{:?}", daemon.log());
    until("it learns anew", || learning.scores() >= 6);
}
