//! The interface file, the types that are sent, and the page in docs say the same.

use std::collections::BTreeMap;

use serde::Serialize;
use varlink_parser::IDL;

use super::*;

/// Members of each type, input and output, in order.
fn members() -> BTreeMap<String, Vec<String>> {
    let idl = IDL::try_from(DESCRIPTION).expect("a stock parser reads it");
    assert_eq!(idl.name, INTERFACE);
    let names = |of: &varlink_parser::VStruct<'_>| -> Vec<String> {
        let mut names: Vec<String> = of.elts.iter().map(|arg| arg.name.to_owned()).collect();
        names.sort();
        names
    };
    let mut found = BTreeMap::new();
    for (name, typedef) in &idl.typedefs {
        let varlink_parser::VStructOrEnum::VStruct(of) = &typedef.elt else {
            panic!("{name} is no record");
        };
        found.insert((*name).to_owned(), names(of));
    }
    for (name, method) in &idl.methods {
        found.insert(format!("{name}<"), names(&method.input));
        found.insert(format!("{name}>"), names(&method.output));
    }
    found
}

fn keys(value: &impl Serialize) -> Vec<String> {
    json!(value).as_object().unwrap().keys().cloned().collect()
}

#[test]
fn types_match_the_interface() {
    let members = members();
    let text = String::new;
    let hook = Hook {
        owner: text(),
        name: text(),
        section: text(),
        off: None,
    };
    let tuner = Tuner {
        name: text(),
        about: text(),
        tunables: Vec::new(),
        signals: 0,
        proposals: 0,
        changes: 0,
        state: text(),
        paused_until_unix_ms: None,
        chosen: Vec::new(),
    };
    let tried = Tried {
        name: text(),
        times: 0,
        measured: 0,
        gain: None,
    };
    let chosen = Chosen {
        subject: text(),
        netns: 0,
        place: text(),
        name: text(),
        why: text(),
        options: Vec::new(),
    };
    let tunable = Tunable {
        name: text(),
        tuner: text(),
        scope: text(),
        unit: text(),
        about: text(),
        ranges: Vec::new(),
        current: None,
    };
    let knob = KnobStatus {
        tunable: text(),
        netns: 0,
        place: text(),
        original: None,
        current: None,
        changes: 0,
        reversals: 0,
        held_by: None,
        on_trial: false,
    };
    let decision = Decision {
        id: 1,
        at_unix_ms: 0,
        tuner: text(),
        scenario: text(),
        tunable: text(),
        netns: 0,
        place: text(),
        verdict: text(),
        old: text(),
        new: text(),
        reason: text(),
        note: text(),
        outcome: text(),
        signal: None,
        reverts: None,
        trial: None,
    };
    let difference = Difference {
        tunable: text(),
        netns: 0,
        place: text(),
        before: text(),
        after: text(),
        by: None,
    };
    let wish = Wish {
        tuner: text(),
        tunable: text(),
        netns: 0,
        place: text(),
        current: text(),
        target: text(),
        reason: text(),
        answer: text(),
        note: text(),
        id: None,
        at_unix_ms: 0,
    };
    let status = Status {
        version: text(),
        mode: text(),
        pid: 0,
        started_unix_ms: 0,
        state_dir: text(),
        map_bytes: 0,
        hooks: Vec::new(),
        tuners: Vec::new(),
        knobs: Vec::new(),
        config_files: Vec::new(),
        config_error: None,
    };
    let event = Event::new("", "");
    for (name, keys) in [
        ("Hook", keys(&hook)),
        ("Tuner", keys(&tuner)),
        ("Chosen", keys(&chosen)),
        ("Tried", keys(&tried)),
        ("Tunable", keys(&tunable)),
        ("Range", keys(&Range { low: 0, high: 1 })),
        ("Knob", keys(&knob)),
        ("Difference", keys(&difference)),
        ("Wish", keys(&wish)),
        ("Decision", keys(&decision)),
        ("Event", keys(&event)),
        ("GetStatus>", keys(&status)),
        ("GetHistory<", keys(&HistoryFilter::default())),
        (
            "GetHistory>",
            keys(&History {
                decisions: vec![],
                next: None,
            }),
        ),
        ("Diff<", keys(&DiffRange::default())),
        (
            "Diff>",
            keys(&Differences {
                differences: vec![],
            }),
        ),
        ("Plan>", keys(&Plan { wishes: vec![] })),
        ("Watch>", keys(&Watched { event })),
        ("ListTunables>", keys(&Tunables { tunables: vec![] })),
        ("Explain>", keys(&Explanation { decision })),
        (
            "Approve>",
            keys(&Approved {
                id: 1,
                report: text(),
            }),
        ),
        ("Revert>", keys(&Report { report: text() })),
        ("Rearm>", keys(&Rearmed { rearmed: vec![] })),
    ] {
        assert_eq!(keys, members[name], "{name}");
    }
}

/// Every method that the interface names is known, with the members that it names, and no other member.
#[test]
fn every_method_is_served() {
    let looper = Looper::start();
    let value = |member: &str| match member {
        "id" | "netns" | "limit" | "before" | "seconds" => json!(1),
        name if name.ends_with("_id") || name.ends_with("_ms") => json!(1),
        "query" => json!("status"),
        _ => json!("word"),
    };
    for (name, inputs) in members().iter().filter(|(name, _)| name.ends_with('<')) {
        let method = format!("{INTERFACE}.{}", name.trim_end_matches('<'));
        let mut parameters = serde_json::Map::new();
        for input in inputs {
            parameters.insert(input.clone(), value(input));
        }
        let mut raw = looper.raw();
        let mut ask = |parameters: &serde_json::Map<String, serde_json::Value>| {
            let asked = json!({ "method": method, "parameters": parameters, "more": method.ends_with("Watch") });
            raw.write_all(format!("{asked}\0").as_bytes()).unwrap();
            message(&mut raw)
        };
        if !method.ends_with("Watch") {
            let mut more = parameters.clone();
            more.insert("surplus".into(), json!(true));
            let reply = ask(&more);
            assert!(reply.contains("InvalidParameter"), "{method}: {reply}");
        }
        let reply = ask(&parameters);
        assert!(
            !reply.contains("InvalidParameter") && !reply.contains("MethodNotFound"),
            "{method} {parameters:?}: {reply}"
        );
    }
}

#[test]
fn docs_have_the_interface() {
    let page = include_str!("../../../../docs/io.bpftune.Control.varlink");
    assert!(
        page == DESCRIPTION,
        "docs/io.bpftune.Control.varlink is a copy: cp bpftune-core/src/control/io.bpftune.Control.varlink docs/"
    );
}
