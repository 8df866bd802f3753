//! Schemas, retention, learned state: the journal over the years.

use std::time::Duration;

use serde_json::json;

use super::*;

/// A state directory with a file that version 0.1.0 wrote, of the present boot.
fn v1() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path());
    fs::write(&path, include_bytes!("../testdata/v1.db")).unwrap();
    let db = Connection::open(&path).unwrap();
    for table in ["run", "decision", "original", "hold"] {
        db.execute(&format!("UPDATE {table} SET boot_id = ?1"), [boot_id()])
            .unwrap();
    }
    (dir, path)
}

#[test]
fn a_v1_file_is_read_as_it_is_and_migrated_when_written() {
    let (dir, path) = v1();
    let before = fs::read(&path).unwrap();
    let old = Journal::open_read_only(dir.path()).unwrap();
    let (history, held, holds) = (
        old.history(10).unwrap(),
        old.held().unwrap(),
        old.holds().unwrap(),
    );
    assert_eq!((history.len(), held.len(), holds.len()), (4, 1, 1));
    assert_eq!(
        history[3].outcome,
        "better: 10.0 Mbit/s before, 20.0 Mbit/s after"
    );
    assert_eq!(old.all_learned().unwrap(), []);
    drop(old);
    assert_eq!(
        fs::read(&path).unwrap(),
        before,
        "reading leaves it as it is"
    );

    let mut new = Journal::open(dir.path()).unwrap();
    assert_eq!(new.schema, schema::VERSION);
    assert_eq!(new.history(10).unwrap(), history, "nothing is lost");
    assert_eq!((new.held().unwrap(), new.holds().unwrap()), (held, holds));
    new.trial(history[3].id, "better", "{}").unwrap();
    assert_eq!(
        new.decision(history[3].id)
            .unwrap()
            .unwrap()
            .trial
            .as_deref(),
        Some("{}")
    );
    let auto_vacuum: i64 = new
        .db
        .query_row("PRAGMA auto_vacuum", [], |row| row.get(0))
        .unwrap();
    assert_eq!(auto_vacuum, 2, "it shrinks from now on");
    drop(new);
    assert_eq!(
        Journal::open(dir.path())
            .unwrap()
            .history(10)
            .unwrap()
            .len(),
        4,
        "once"
    );
}

#[test]
fn a_migrated_file_is_as_a_new_one() {
    let (dir, _) = v1();
    let migrated = Journal::open(dir.path()).unwrap();
    let (_other, new) = new();
    let tables = |journal: &Journal| -> Vec<(String, String)> {
        journal
            .db
            .prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap()
    };
    assert_eq!(tables(&migrated), tables(&new));
}

#[test]
fn a_step_that_fails_leaves_the_schema_before_it() {
    let (_dir, path) = v1();
    let db = Connection::open(&path).unwrap();
    let steps = [
        "",
        "CREATE TABLE two (x);",
        "CREATE TABLE three (x); INSERT INTO nowhere VALUES (1);",
    ];
    assert!(schema::migrate(&db, &steps).is_err());
    assert_eq!(
        schema::version(&db).unwrap(),
        2,
        "the step that works was made"
    );
    let table = |name: &str| {
        db.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name = ?1",
            [name],
            |row| row.get::<_, i64>(0),
        )
        .unwrap()
    };
    assert_eq!((table("two"), table("three")), (1, 0), "no half step");
    assert!(db.is_autocommit());
}

/// Five decisions of 100 days ago and five of now on each of two knobs, the first of them closed.
fn old_and_new() -> (TempDir, Journal, Knob, Knob) {
    let (dir, mut journal) = new();
    let closed = Knob {
        tunable: "net.core.rmem_max".into(),
        netns: NetnsCookie(1),
    };
    let held = knob();
    let old = value(1);
    for round in 0..10 {
        for knob in [&closed, &held] {
            let id = journal
                .intend(&decision(knob, &old, &value(round)))
                .unwrap();
            journal.applied(id).unwrap();
            if round < 5 {
                let at = now_ms() - 100 * 24 * 3600 * 1000;
                journal
                    .execute(
                        "UPDATE decision SET at = ?1 WHERE id = ?2",
                        params![at, id.0],
                    )
                    .unwrap();
            }
        }
    }
    journal.close(&closed, OriginalState::Restored, "").unwrap();
    (dir, journal, closed, held)
}

#[test]
fn the_config_keeps_as_much() {
    let config = crate::config::schema::Journal::default();
    assert_eq!(Retention::from(&config), Retention::default());
}

#[test]
fn old_decisions_go_and_what_restoring_needs_stays() {
    let (_dir, mut journal, closed, held) = old_and_new();
    let before = journal.held().unwrap();
    let keep = Retention::default();
    let pruned = journal.prune(&keep, 3).unwrap();
    assert_eq!((pruned.decisions, pruned.more), (3, true), "in small steps");
    let pruned = journal.prune(&keep, 100).unwrap();
    assert_eq!((pruned.decisions, pruned.more), (2, false));
    assert_eq!(journal.prune(&keep, 100).unwrap(), Pruned::default());
    let history = journal.history(100).unwrap();
    let of = |knob: &Knob| history.iter().filter(|d| d.knob == *knob).count();
    assert_eq!((of(&closed), of(&held)), (5, 10));
    assert_eq!(
        journal.held().unwrap(),
        before,
        "original and every value of ours"
    );

    // By count too, also for what is kept on exit.
    journal.close(&held, OriginalState::Kept, "").unwrap();
    let few = Retention {
        decisions: 2,
        ..keep
    };
    assert_eq!(journal.prune(&few, 100).unwrap().decisions, 4);
    journal.adopt_kept(false).unwrap();
    assert_eq!(journal.held().unwrap(), before);

    // Restored: nothing needs them any more.
    journal.close(&held, OriginalState::Restored, "").unwrap();
    journal.prune(&few, 100).unwrap();
    assert_eq!(journal.history(100).unwrap().len(), 2);
}

#[test]
fn a_revert_outlives_what_it_took_back() {
    let (_dir, mut journal) = new();
    let (knob, old, changed) = (knob(), value(1), value(2));
    let first = journal.intend(&decision(&knob, &old, &changed)).unwrap();
    let back = journal
        .intend(&NewDecision {
            reverts: Some(first),
            ..decision(&knob, &changed, &old)
        })
        .unwrap();
    journal.close(&knob, OriginalState::Restored, "").unwrap();
    let keep = Retention {
        decisions: 1,
        ..Retention::default()
    };
    assert_eq!(journal.prune(&keep, 100).unwrap().decisions, 1);
    let left = journal.decision(back).unwrap().unwrap();
    assert_eq!(left.reverts, None);
}

#[test]
fn the_file_shrinks() {
    let (dir, mut journal) = new();
    let (knob, old, next) = (knob(), value(1), value(2));
    let long = "because ".repeat(100);
    let decision = NewDecision {
        reason: &long,
        ..decision(&knob, &old, &next)
    };
    for _ in 0..10 {
        journal.intend_all(&vec![decision.clone(); 100]).unwrap();
    }
    journal.close(&knob, OriginalState::Restored, "").unwrap();
    let pages = |journal: &Journal| -> i64 {
        journal
            .db
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .unwrap()
    };
    let full = pages(&journal);
    let keep = Retention {
        age: Duration::from_secs(3600),
        decisions: 10,
    };
    while journal.prune(&keep, 200).unwrap().more {}
    assert!(
        pages(&journal) * 4 < full,
        "{} of {full} pages",
        pages(&journal)
    );
    drop(journal);
    assert!(file(&dir.path().join("state")).metadata().unwrap().len() < 4096 * full as u64 / 4);
}

#[test]
fn learned_state_stays_while_it_fits() {
    let (dir, mut journal) = new();
    let fits = Fingerprint::now("config 1", "aimd/1").unwrap();
    let learned = |tunable: &str| Learned {
        tuner: "tcp-buffer".into(),
        tunable: tunable.into(),
        place: "host".into(),
        fits: fits.clone(),
        state: json!({ "version": 1, "step": 0.5 }),
    };
    let (rmem, wmem) = (learned("net.ipv4.tcp_rmem"), learned("net.ipv4.tcp_wmem"));
    journal.learn(&[rmem.clone(), wmem.clone()]).unwrap();
    let newer = Learned {
        state: json!({ "version": 1, "step": 0.25 }),
        ..rmem.clone()
    };
    journal.learn(std::slice::from_ref(&newer)).unwrap();
    drop(journal);

    let mut journal = Journal::open(&dir.path().join("state")).unwrap();
    let same = |_: &Learned| Some(fits.clone());
    assert_eq!(
        journal.learned("tcp-buffer", same).unwrap(),
        (vec![newer.clone(), wmem.clone()], vec![]),
        "the newest of each"
    );
    for (name, other) in [
        (
            "kernel",
            Fingerprint {
                kernel: "6.99.0".into(),
                ..fits.clone()
            },
        ),
        (
            "hardware",
            Fingerprint {
                hardware: "1 CPUs".into(),
                ..fits.clone()
            },
        ),
        (
            "config",
            Fingerprint {
                config: "config 2".into(),
                ..fits.clone()
            },
        ),
        (
            "learner",
            Fingerprint {
                learner: "aimd/2".into(),
                ..fits.clone()
            },
        ),
    ] {
        journal.learn(&[newer.clone(), wmem.clone()]).unwrap();
        let (kept, dropped) = journal
            .learned("tcp-buffer", |learned| {
                Some(if learned.tunable == rmem.tunable {
                    other.clone()
                } else {
                    fits.clone()
                })
            })
            .unwrap();
        assert_eq!(kept, std::slice::from_ref(&wmem), "{name}");
        assert_eq!(dropped.len(), 1);
        assert!(
            dropped[0].why.starts_with(&format!("the {name} was ")),
            "{dropped:?}"
        );
        assert_eq!(
            journal.learned("tcp-buffer", same).unwrap().0.len(),
            1,
            "{name}: gone for good"
        );
    }
    let (_, dropped) = journal.learned("tcp-buffer", |_| None).unwrap();
    assert_eq!(dropped.len(), 1, "a tuner that is no longer there");
}

#[test]
fn learned_state_is_found_by_place_and_old_state_goes() {
    let (_dir, mut journal) = new();
    let fits = Fingerprint::now("config 1", "aimd/1").unwrap();
    let learned = |tuner: &str, place: &str| Learned {
        tuner: tuner.into(),
        tunable: "net.ipv4.tcp_rmem".into(),
        place: place.into(),
        fits: fits.clone(),
        state: json!(1),
    };
    let all = [
        learned("a", "host"),
        learned("a", "/run/netns/web"),
        learned("b", "/run/netns/web"),
    ];
    journal.learn(&all).unwrap();
    assert_eq!(
        journal.learned_at("a", "/run/netns/web").unwrap(),
        [all[1].clone()]
    );
    // Another tuner's states are not asked about.
    let (kept, dropped) = journal.learned("a", |_| None).unwrap();
    assert_eq!((kept.len(), dropped.len()), (0, 2));
    assert_eq!(journal.all_learned().unwrap(), [all[2].clone()]);
    journal.learn(&all).unwrap();
    journal
        .db
        .execute("UPDATE learned SET at = at - 10000 WHERE tuner = 'a'", [])
        .unwrap();
    let keep = Retention {
        age: Duration::from_secs(5),
        ..Retention::default()
    };
    journal.prune(&keep, 10).unwrap();
    assert_eq!(journal.all_learned().unwrap(), [all[2].clone()]);
}
