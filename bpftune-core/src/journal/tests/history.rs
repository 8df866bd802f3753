//! Group commit, history, diff, export.

use serde_json::Value as Json;

use super::*;

#[test]
fn a_group_is_announced_in_one_commit() {
    let (dir, mut journal) = new();
    let knobs: Vec<Knob> = (0..50)
        .map(|netns| Knob {
            netns: NetnsCookie(netns),
            ..knob()
        })
        .collect();
    let (old, next) = (value(1), value(2));
    let group: Vec<_> = knobs
        .iter()
        .map(|knob| decision(knob, &old, &next))
        .collect();
    let frames = |dir: &TempDir| {
        let wal = dir.path().join("state/journal.db-wal");
        wal.metadata().map_or(0, |meta| meta.len())
    };
    let before = frames(&dir);
    let ids = journal.intend_all(&group).unwrap();
    let grown = (frames(&dir) - before) / 4096;
    assert_eq!(ids.len(), 50);
    assert!(grown < 25, "{grown} pages for 50 decisions");
    // As after SIGKILL just before the first write.
    let other = Journal::open_read_only(&dir.path().join("state")).unwrap();
    assert_eq!(other.held().unwrap().len(), 50);
    journal.applied_all(&ids).unwrap();
    assert!(
        other
            .history(100)
            .unwrap()
            .iter()
            .all(|d| d.verdict == "applied")
    );
}

#[test]
fn a_group_that_cannot_be_announced_leaves_nothing() {
    let (_dir, mut journal) = new();
    let (knob, old, next) = (knob(), value(1), value(2));
    let group = [
        decision(&knob, &old, &next),
        NewDecision {
            // No such decision: the database refuses the second of the two.
            reverts: Some(DecisionId(99)),
            ..decision(&knob, &old, &next)
        },
    ];
    assert!(journal.intend_all(&group).is_err());
    assert!(journal.history(10).unwrap().is_empty());
    assert!(journal.held().unwrap().is_empty());
}

#[test]
fn filters_narrow_and_pages_go_on() {
    let (_dir, mut journal) = new();
    let other = Knob {
        tunable: "net.core.rmem_max".into(),
        netns: NetnsCookie(1),
    };
    let (old, next) = (value(1), value(2));
    for round in 0..30 {
        let knob = if round % 3 == 0 {
            other.clone()
        } else {
            knob()
        };
        let tuner = if round % 2 == 0 {
            "tcp-buffer"
        } else {
            "udp-buffer"
        };
        let made = NewDecision {
            tuner,
            ..decision(&knob, &old, &next)
        };
        let verdict = if round < 10 {
            Verdict::Refused
        } else {
            Verdict::Advised
        };
        let id = journal.record(&made, verdict, "").unwrap();
        journal
            .execute(
                "UPDATE decision SET at = ?1 WHERE id = ?2",
                params![round, id.0],
            )
            .unwrap();
    }
    let count = |filter: Filter| journal.page(&filter, 100).unwrap().decisions.len();
    let all = Filter::default();
    assert_eq!(count(all.clone()), 30);
    assert_eq!(
        count(Filter {
            tuner: Some("tcp-buffer".into()),
            ..all.clone()
        }),
        15
    );
    assert_eq!(
        count(Filter {
            tunable: Some("net.core.rmem_max".into()),
            ..all.clone()
        }),
        10
    );
    assert_eq!(
        count(Filter {
            netns: Some(knob().netns),
            ..all.clone()
        }),
        20
    );
    assert_eq!(
        count(Filter {
            verdict: Some("refused".into()),
            ..all.clone()
        }),
        10
    );
    assert_eq!(
        count(Filter {
            since: Some(25),
            ..all.clone()
        }),
        5
    );
    assert_eq!(
        count(Filter {
            since: Some(20),
            tuner: Some("udp-buffer".into()),
            ..all.clone()
        }),
        5
    );
    let mut filter = all;
    let mut seen = Vec::new();
    loop {
        let page = journal.page(&filter, 7).unwrap();
        seen.extend(page.decisions.iter().map(|d| d.id.0));
        filter.before = page.next;
        if filter.before.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=30).rev().collect::<Vec<_>>(), "each once");
}

#[test]
fn differences_between_two_moments() {
    let (_dir, mut journal) = new();
    let other = Knob {
        tunable: "net.core.rmem_max".into(),
        netns: NetnsCookie(1),
    };
    let mut change = |knob: &Knob, from: i64, to: i64| {
        let id = journal
            .intend(&decision(knob, &value(from), &value(to)))
            .unwrap();
        journal.applied(id).unwrap();
        journal
            .execute(
                "UPDATE decision SET at = id * 10 WHERE id = ?1",
                params![id.0],
            )
            .unwrap();
        id
    };
    let a = change(&knob(), 1, 2);
    let b = change(&other, 5, 6);
    let c = change(&knob(), 2, 4);
    let back = change(&other, 6, 5);
    let diff = |from, to| -> Vec<(String, String, String)> {
        journal
            .diff(from, to)
            .unwrap()
            .into_iter()
            .map(|d| (d.knob.tunable, d.before, d.after))
            .collect()
    };
    let rmem = |from, to| {
        (
            knob().tunable,
            value(from).to_string(),
            value(to).to_string(),
        )
    };
    let core = |from, to| {
        (
            other.tunable.clone(),
            value(from).to_string(),
            value(to).to_string(),
        )
    };
    assert_eq!(
        diff(Point::Start, Point::End),
        [rmem(1, 4)],
        "the other is back"
    );
    assert_eq!(diff(Point::After(a), Point::After(b)), [core(5, 6)]);
    assert_eq!(diff(Point::After(b), Point::End), [core(6, 5), rmem(2, 4)]);
    assert_eq!(diff(Point::At(25), Point::At(35)), [rmem(2, 4)]);
    assert_eq!(
        diff(Point::After(c), Point::After(a)),
        [core(6, 5), rmem(4, 2)],
        "backwards"
    );
    assert_eq!(diff(Point::After(back), Point::End), []);
    assert_eq!(
        journal.diff(Point::Start, Point::End).unwrap()[0].by,
        Some(c)
    );
}

#[test]
fn restoring_is_in_the_history() {
    let (_dir, mut journal) = new();
    let (knob, old, next) = (knob(), value(1), value(2));
    let id = journal.intend(&decision(&knob, &old, &next)).unwrap();
    journal.applied(id).unwrap();
    let closed = Closed {
        original: journal.held().unwrap().remove(0),
        state: OriginalState::Restored,
        note: "",
        wrote_over: Some(next.clone()),
    };
    journal.take_touched();
    journal.close_all(&[closed]).unwrap();
    assert!(journal.held().unwrap().is_empty());
    let last = journal.history(1).unwrap().remove(0);
    assert_eq!(
        (last.verdict.as_str(), last.new),
        ("restored", old.to_string())
    );
    assert_eq!(journal.take_touched(), [Touched::Decision(last.id)]);
    assert!(journal.diff(Point::Start, Point::End).unwrap().is_empty());
}

#[test]
fn advice_waits_until_it_is_answered_or_replaced() {
    let (_dir, mut journal) = new();
    let other = Knob {
        tunable: "net.core.rmem_max".into(),
        netns: NetnsCookie(1),
    };
    let (knob, old, next) = (knob(), value(1), value(2));
    let pending = |journal: &Journal| -> Vec<DecisionId> {
        journal.pending().unwrap().iter().map(|d| d.id).collect()
    };
    let advise = |journal: &mut Journal, knob: &Knob| {
        journal
            .record(&decision(knob, &old, &next), Verdict::Advised, "")
            .unwrap()
    };
    let first = advise(&mut journal, &knob);
    let second = advise(&mut journal, &knob);
    let third = advise(&mut journal, &other);
    assert_eq!(pending(&journal), [second, third], "{first} is replaced");
    journal.advice(second, Verdict::Approved, "D9").unwrap();
    assert_eq!(pending(&journal), [third]);
    journal.advice(third, Verdict::Rejected, "").unwrap();
    assert_eq!(pending(&journal), []);
}

#[test]
fn exports_a_line_of_json_each() {
    let (_dir, mut journal) = new();
    let signal = Signal {
        scenario: "receive-limited".into(),
        netns: knob().netns,
        subject: "port 1\nwith a line break".into(),
        count: 2,
        figures: vec![Figure::new("rate", 1.5, "B/s")],
    };
    let (knob, old, next) = (knob(), value(1), value(2));
    let id = journal
        .intend(&NewDecision {
            signal: Some(&signal),
            ..decision(&knob, &old, &next)
        })
        .unwrap();
    journal.trial(id, "better", r#"{"version":1}"#).unwrap();
    journal
        .hold(&Hold {
            knob,
            since: 5,
            by: "sysctl".into(),
            value: "1 2 3".into(),
        })
        .unwrap();
    let mut out = Vec::new();
    journal.export(&Filter::default(), &mut out).unwrap();
    let lines: Vec<Json> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.iter().all(|line| line["schema"] == EXPORT_SCHEMA));
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["run", "original", "hold", "decision"]);
    assert_eq!(lines[3]["trial"]["version"], 1);
    assert_eq!(lines[3]["signal"]["figures"][0]["value"], 1.5);
    // The schema's page names every member.
    let page = include_str!("../../../../docs/journal.md");
    for line in &lines {
        for member in line.as_object().unwrap().keys() {
            assert!(
                page.contains(&format!("`{member}`")),
                "docs/journal.md: {member}"
            );
        }
    }
}
