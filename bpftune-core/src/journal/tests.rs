use std::{fs, process::Command};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{Figure, Knob, NetnsCookie, Signal, Value};

mod grow;
mod history;

fn knob() -> Knob {
    Knob {
        tunable: "net.ipv4.tcp_rmem".into(),
        netns: NetnsCookie(u64::MAX - 3),
    }
}

fn value(last: i64) -> Value {
    Value::new([4096, 131072, last])
}

fn decision<'a>(knob: &'a Knob, old: &'a Value, new: &'a Value) -> NewDecision<'a> {
    NewDecision {
        tuner: "tcp-buffer",
        scenario: "receive-limited",
        knob,
        place: "/run/netns/web",
        old,
        new,
        reason: "because",
        signal: None,
        reverts: None,
    }
}

fn new() -> (TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&dir.path().join("state")).unwrap();
    journal.begin_run("auto", "test").unwrap();
    (dir, journal)
}

#[test]
fn an_announcement_is_there_before_the_write() {
    let (dir, mut journal) = new();
    let signal = Signal {
        scenario: "receive-limited".into(),
        netns: knob().netns,
        subject: "port 1".into(),
        count: 2,
        figures: vec![Figure::new("rate", 1.5, "B/s")],
    };
    let (knob, old, first, second) = (knob(), value(131072), value(524288), value(2097152));
    let id = journal
        .intend(&NewDecision {
            signal: Some(&signal),
            ..decision(&knob, &old, &first)
        })
        .unwrap();
    // As after SIGKILL: another connection, no `applied`.
    let other = Journal::open_read_only(&dir.path().join("state")).unwrap();
    let held = other.held().unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(
        (&held[0].knob, &held[0].value, &held[0].ours),
        (&knob, &old, &vec![first.clone()])
    );
    assert_eq!(other.decision(id).unwrap().unwrap().verdict, "intended");

    journal.applied(id).unwrap();
    let next = journal.intend(&decision(&knob, &first, &second)).unwrap();
    journal.failed(next, "Invalid argument").unwrap();
    let held = journal.held().unwrap();
    assert_eq!(held[0].value, old, "the first original stands");
    assert_eq!(held[0].ours, [first.clone(), second]);
    let stored = journal.decision(id).unwrap().unwrap();
    assert_eq!(
        serde_json::from_str::<Signal>(&stored.signal.unwrap()).unwrap(),
        signal
    );

    journal.close(&knob, OriginalState::Restored, "").unwrap();
    assert!(journal.held().unwrap().is_empty());
    journal.intend(&decision(&knob, &first, &value(1))).unwrap();
    assert_eq!(
        journal.held().unwrap()[0].value,
        first,
        "closed, so it starts anew"
    );
    assert_eq!(journal.held().unwrap()[0].ours, [value(1)]);
}

#[test]
fn announcements_still_reach_the_disk_after_one_was_applied() {
    let (_dir, mut journal) = new();
    let (knob, old, first) = (knob(), value(131072), value(524288));
    let id = journal.intend(&decision(&knob, &old, &first)).unwrap();
    journal.applied(id).unwrap();
    let synchronous: i64 = journal
        .db
        .query_row("PRAGMA synchronous", [], |row| row.get(0))
        .unwrap();
    assert_eq!(synchronous, 2, "FULL");
    assert_eq!(journal.decision(id).unwrap().unwrap().verdict, "applied");
}

#[test]
fn kept_values_can_be_restored_later() {
    let (_dir, mut journal) = new();
    let (knob, old, new) = (knob(), value(1), value(2));
    journal.intend(&decision(&knob, &old, &new)).unwrap();
    journal.close(&knob, OriginalState::Kept, "").unwrap();
    assert!(journal.held().unwrap().is_empty());
    assert_eq!(journal.adopt_kept(false).unwrap(), 1);
    assert_eq!(journal.held().unwrap()[0].value, old);
}

#[test]
fn what_was_adopted_and_not_changed_is_kept_again() {
    let (_dir, mut journal) = new();
    let (one, old, new) = (knob(), value(1), value(2));
    let other = Knob {
        tunable: "net.ipv4.tcp_wmem".into(),
        ..knob()
    };
    for knob in [&one, &other] {
        let id = journal.intend(&decision(knob, &old, &new)).unwrap();
        journal.applied(id).unwrap();
        journal.close(knob, OriginalState::Kept, "").unwrap();
    }
    // Another run takes over and changes one of them.
    journal.begin_run("auto", "test").unwrap();
    assert_eq!(journal.adopt_kept(true).unwrap(), 2);
    journal.intend(&decision(&one, &new, &value(3))).unwrap();
    assert_eq!(journal.keep_adopted().unwrap(), 1);
    let held = journal.held().unwrap();
    assert_eq!((held.len(), &held[0].knob), (1, &one));
    assert_eq!(held[0].value, old, "its true start");
    // A run that restores adopts for good.
    journal.begin_run("auto", "test").unwrap();
    assert_eq!(journal.adopt_kept(false).unwrap(), 1);
    assert_eq!(journal.keep_adopted().unwrap(), 0);
    assert_eq!(journal.held().unwrap().len(), 2);
}

#[test]
fn recent_changes_are_found_from_the_newest_back() {
    let (_dir, mut journal) = new();
    let (knob, old, new) = (knob(), value(1), value(2));
    let decision = decision(&knob, &old, &new);
    let ids: Vec<DecisionId> = (0..4).map(|_| journal.intend(&decision).unwrap()).collect();
    journal.applied(ids[1]).unwrap();
    journal.failed(ids[2], "no").unwrap();
    journal.record(&decision, Verdict::Refused, "no").unwrap();
    journal
        .db
        .execute(
            "UPDATE decision SET at = at - 10000 WHERE id = ?1",
            [ids[0].0],
        )
        .unwrap();
    let found = |since: i64| -> Vec<DecisionId> {
        let changes = journal.changes_since(since).unwrap();
        changes.iter().map(|change| change.id).collect()
    };
    assert_eq!(found(now_ms() - 5000), [ids[1], ids[3]]);
    assert_eq!(found(now_ms() - 20_000), [ids[0], ids[1], ids[3]]);
    assert_eq!(found(now_ms() + 1000), []);
}

#[test]
fn holds_stay_until_rearmed() {
    let (dir, mut journal) = new();
    let hold = Hold {
        knob: knob(),
        since: 5,
        by: "sysctl (process 7)".into(),
        value: "1 2 3".into(),
    };
    journal.hold(&hold).unwrap();
    drop(journal);
    let mut journal = Journal::open(&dir.path().join("state")).unwrap();
    assert_eq!(journal.holds().unwrap(), std::slice::from_ref(&hold));
    assert!(
        journal
            .rearm(Some("net.ipv4.tcp_wmem"), None)
            .unwrap()
            .is_empty()
    );
    assert!(
        journal
            .rearm(None, Some(NetnsCookie(1)))
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        journal
            .rearm(Some("net.ipv4.tcp_rmem"), Some(knob().netns))
            .unwrap(),
        [hold]
    );
    assert!(journal.holds().unwrap().is_empty());
}

#[test]
fn another_boots_values_are_gone() {
    let (dir, mut journal) = new();
    let (knob, old, new) = (knob(), value(1), value(2));
    journal.intend(&decision(&knob, &old, &new)).unwrap();
    journal
        .execute("UPDATE original SET boot_id = 'earlier'", [])
        .unwrap();
    drop(journal);
    let journal = Journal::open(&dir.path().join("state")).unwrap();
    assert!(journal.held_of(None).unwrap().is_empty());
}

/// Opening must fail, say so, and leave every byte.
fn refused(damage: impl FnOnce(&Path)) -> JournalError {
    let (dir, mut journal) = new();
    let (knob, old) = (knob(), value(1));
    for i in 0..200 {
        journal.intend(&decision(&knob, &old, &value(i))).unwrap();
    }
    drop(journal);
    let state = dir.path().join("state");
    damage(&file(&state));
    let before = fs::read(file(&state)).unwrap();
    let error = Journal::open(&state).err().expect("refused");
    assert_eq!(
        fs::read(file(&state)).unwrap(),
        before,
        "the file is left as it is"
    );
    error
}

#[test]
fn a_damaged_file_is_refused_and_left() {
    type Damage = (&'static str, fn(&Path));
    let damages: [Damage; 4] = [
        ("text", |path| {
            fs::write(
                path,
                "not a database, but long enough to look like one".repeat(50),
            )
            .unwrap()
        }),
        ("empty", |path| fs::write(path, "").unwrap()),
        ("cut", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("overwritten", |path| {
            let mut bytes = fs::read(path).unwrap();
            let (page, len) = (4096, bytes.len());
            bytes[2 * page..len - page].fill(0xa5);
            fs::write(path, bytes).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let error = refused(damage);
        assert!(
            matches!(error, JournalError::Damaged { .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains("--salvage"), "{name}: {error}");
    }
}

#[test]
fn a_newer_file_is_refused_and_left() {
    let error = refused(|path| {
        Connection::open(path)
            .unwrap()
            .execute_batch("PRAGMA user_version = 9")
            .unwrap()
    });
    assert!(
        matches!(error, JournalError::Newer { found: 9, .. }),
        "{error}"
    );
}

#[test]
fn a_full_disk_leaves_no_half_row() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: a full disk needs root to mount a small tmpfs");
        return;
    }
    struct Mount(TempDir);
    impl Drop for Mount {
        fn drop(&mut self) {
            assert!(
                Command::new("umount")
                    .arg(self.0.path())
                    .status()
                    .unwrap()
                    .success()
            );
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=300k", "tmpfs"])
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(mounted.success());
    let mount = Mount(dir);
    let mut journal = Journal::open(mount.0.path()).unwrap();
    let (knob, old, new) = (knob(), value(1), value(2));
    let mut written = 0;
    let error = loop {
        match journal.intend(&decision(&knob, &old, &new)) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 10_000, "300 KiB are never full");
    };
    assert!(matches!(error, JournalError::Full { .. }), "{error}");
    assert_eq!(journal.history(100_000).unwrap().len(), written);
    drop(journal);
}

proptest! {
    #[test]
    fn ids_parse_as_printed(id in 1..i64::MAX) {
        prop_assert_eq!(DecisionId(id).to_string().parse::<DecisionId>(), Ok(DecisionId(id)));
        prop_assert_eq!(id.to_string().parse::<DecisionId>(), Ok(DecisionId(id)));
    }

    #[test]
    fn other_texts_are_no_ids(text in "[^0-9Dd].*|[Dd]?-?0*") {
        prop_assert!(text.parse::<DecisionId>().is_err());
    }
}
