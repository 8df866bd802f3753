//! Whether files fit the tuners and the machine.

use super::*;
use crate::{
    Bound, Cost, Machine, Proposal, Scope, Signal, Tunable, Tuner, View,
    learner::{Kind, Spec},
};

struct TcpBuffer;

impl Tuner for TcpBuffer {
    fn name(&self) -> &str {
        "tcp-buffer"
    }

    fn about(&self) -> &str {
        ""
    }

    fn tunables(&self) -> Vec<Tunable> {
        let tunable = |name: &'static str, unit: &'static str, bound| Tunable {
            name: name.into(),
            scope: Scope::Netns,
            unit: unit.into(),
            about: "".into(),
            bound: Bound::Derived(bound),
            cost: Cost::ByUnit,
        };
        vec![
            tunable("net.ipv4.tcp_rmem", "bytes", |machine| {
                let free = machine.memory_total / 64 - machine.tcp_memory;
                vec![(0, i64::MAX), (0, i64::MAX), (4096, free as i64)]
            }),
            tunable("net.ipv4.tcp_moderate_rcvbuf", "boolean", |_| vec![(0, 1)]),
        ]
    }

    fn on_signal(&mut self, _: &Signal, _: &dyn View) -> Vec<Proposal> {
        Vec::new()
    }

    fn check_learner(&self, learner: &Spec) -> Result<(), String> {
        learner.check_for(self.name(), &[Kind::Need])
    }
}

fn machine() -> Machine {
    Machine {
        memory_total: 64 << 30,
        memory_available: 1 << 30,
        page_size: 4096,
        cpus: 1,
        tcp_memory: 512 << 20,
        tcp_memory_pressure: u64::MAX,
    }
}

fn check(text: &str, others: bool) -> Result<(), Problems> {
    let known = Known {
        tuners: vec![&TcpBuffer],
        others,
        machine: &machine(),
    };
    read(text)?.check(&known)
}

#[test]
fn what_does_not_fit_is_shown_with_line_and_hint() {
    for (text, place, part) in [
        (
            "[tuner.tcp-bufer]\nmode = \"auto\"\n",
            "1:8",
            "did you mean \"tcp-buffer\"?",
        ),
        (
            "[tuner.xyz]\nmode = \"auto\"\n",
            "1:8",
            "the tuners are tcp-buffer",
        ),
        (
            "[tunable.\"net.ipv4.tcp_rmen\"]\nmax = 5000\n",
            "1:10",
            "did you mean \"net.ipv4.tcp_rmem\"?",
        ),
        (
            "[tunable.\"vm.*\"]\nmax = 5000\n",
            "1:10",
            "no tunable fits \"vm.*\"",
        ),
        (
            "[governor]\ndeny = [\"net.ipv4.tpc_rmem\"]\n",
            "2:1",
            "did you mean \"net.ipv4.tcp_rmem\"?",
        ),
        (
            "[governor]\nallow = [\"vm.*\"]\n",
            "2:1",
            "allow: no tunable fits",
        ),
        (
            "[tunable.\"net.ipv4.tcp_rmem\"]\nmax = \"1/32 ram\"\n",
            "2:1",
            "from 4096 to 1073741824 bytes",
        ),
        (
            "[tunable.\"net.ipv4.tcp_rmem\"]\nmin = 17\n",
            "2:1",
            "min 17 is 17, outside",
        ),
        (
            "[tunable.\"net.ipv4.tcp_rmem\"]\nmin = \"1%\"\nmax = \"64MiB\"\n",
            "3:1",
            "above max, which is 67108864",
        ),
        (
            "[tunable.\"net.ipv4.tcp_moderate_rcvbuf\"]\nmax = \"1%\"\n",
            "2:1",
            "is in boolean",
        ),
        (
            "[tunable.\"net.*\"]\nmin = \"2GiB\"\n",
            "2:1",
            "outside of what net.ipv4.tcp_rmem allows",
        ),
        (
            "[tuner.tcp-buffer]\nlearner = \"hill-climb\"\n",
            "2:1",
            "it can use",
        ),
        (
            "[tuner.tcp-buffer]\naim = \"latency\"\n",
            "2:1",
            "has no aim to choose",
        ),
    ] {
        let error = check(text, false).expect_err(text).to_string();
        assert!(
            error.starts_with(&format!("test.toml:{place}: ")),
            "{text:?}: {error}"
        );
        assert!(error.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn what_fits_is_taken() {
    for text in [
        "",
        // The bound with nothing in use, not what is free just now.
        "[tunable.\"net.ipv4.tcp_rmem\"]\nmax = \"1/64 ram\"\n",
        // A pattern takes in what it fits.
        "[tunable.\"net.*\"]\nmax = \"1/32 ram\"\n",
        "[governor]\ndeny = [\"net.ipv4.tcp_?mem\", \"*\"]\n",
        "[tuner.tcp-buffer]\nlearner = { name = \"step\", rate = 0.5 }\n",
    ] {
        check(text, false).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

/// Where plugins may be loaded, unknown names may be theirs, unless they are nearly known ones.
#[test]
fn plugins_names_are_let_through_and_slips_are_not() {
    check(
        "[tuner.mine]\nmode = \"auto\"\n[tunable.\"vm.swappiness\"]\nmax = 10\n",
        true,
    )
    .unwrap();
    assert!(check("[tuner.tcp-bufer]\nmode = \"auto\"\n", true).is_err());
}

#[test]
fn learners_are_checked_where_they_stand() {
    for (text, part) in [
        ("\"limitt\"", "limit"),
        ("{ name = \"step\", rte = 1 }", "unknown field `rte`"),
        ("{ name = \"limit\", growth = 1000 }", "must lie between"),
        ("{ rate = 1 }", "name"),
        ("5", "found a whole number"),
    ] {
        let error = refused(&format!("[tuner.tcp-buffer]\nlearner = {text}\n"));
        assert!(
            error.starts_with("test.toml:2:11: ") && error.contains(part),
            "{text}: {error}"
        );
    }
}
