use bpftune_core::{Figure, Urgency};
use proptest::prelude::*;

use super::*;
use crate::testing::{HOST, NETNS, Recorded, at};

fn recorded() -> Recorded {
    Recorded {
        machine: Machine {
            memory_total: 24 << 30,
            memory_available: 20 << 30,
            page_size: 4096,
            cpus: 2,
            tcp_memory: 8 << 20,
            tcp_memory_pressure: 1536 << 20,
        },
        ..Recorded::new(&[
            (RMEM, NETNS, &[4096, 131072, 131072]),
            (WMEM, NETNS, &[4096, 16384, 16384]),
            (MODERATE, NETNS, &[1]),
            (RMEM_MAX, HOST, &[212992]),
            (WMEM_MAX, HOST, &[212992]),
            (TCP_MEM, HOST, &[1000, 2000, 3000]),
        ])
    }
}

/// As seen on a 1 Gbit/s path with 20 ms round trip and 128 KiB of receive buffer.
fn signal(scenario: &'static str, buffer: f64, rate: f64, min_rtt: f64) -> Signal {
    Signal {
        scenario: scenario.into(),
        netns: NETNS,
        subject: "port 5201 with 10.0.0.2:40000".into(),
        count: 1,
        figures: vec![
            Figure::new("buffer", buffer, "B"),
            Figure::new("limit", buffer, "B"),
            Figure::new("rate", rate, "B/s"),
            Figure::new("min_rtt", min_rtt, "us"),
            Figure::new("scaling_ratio", 128.0, "/256"),
            Figure::new("locked", 0.0, ""),
            Figure::new("moderate_rcvbuf", 1.0, ""),
        ],
    }
}

fn set(signal: &mut Signal, name: &str, value: f64) {
    signal
        .figures
        .iter_mut()
        .find(|f| f.name == name)
        .unwrap()
        .value = value;
}

#[test]
fn raises_the_side_that_starves() {
    let view = recorded();
    let receive =
        TcpBuffer::default().on_signal(&signal(RECEIVE_LIMITED, 131072.0, 3.2e6, 20_000.0), &view);
    assert_eq!(receive.len(), 1);
    assert_eq!(receive[0].knob, at(RMEM, NETNS));
    // 3.2 MB/s x 20 ms = 64 KB in flight; x 2 headroom x 2 overhead x 1.4 growth.
    assert_eq!(receive[0].target, Value::new([4096, 131072, 358_400]));
    let send =
        TcpBuffer::default().on_signal(&signal(SEND_LIMITED, 16384.0, 0.6e6, 20_000.0), &view);
    assert_eq!(send[0].knob, at(WMEM, NETNS));
    assert_eq!(send[0].target.last(), 67_200);
    assert!(
        send[0].reason.contains("4.8 Mbit/s") && send[0].reason.contains("20.0 ms"),
        "{}",
        send[0].reason
    );
}

#[test]
fn a_late_event_raises_nothing_twice() {
    let mut view = recorded();
    view.values
        .insert(at(RMEM, NETNS), Value::new([4096, 131072, 512_000]));
    assert_eq!(
        TcpBuffer::default().on_signal(&signal(RECEIVE_LIMITED, 131072.0, 3.2e6, 20_000.0), &view),
        []
    );
}

#[test]
fn switches_autotuning_on_where_it_is_off() {
    let mut off = signal(RECEIVE_LIMITED, 131072.0, 3.2e6, 20_000.0);
    set(&mut off, "moderate_rcvbuf", 0.0);
    let proposals = TcpBuffer::default().on_signal(&off, &recorded());
    assert_eq!(
        (&proposals[0].knob, &proposals[0].target),
        (&at(MODERATE, NETNS), &Value::from(1))
    );
}

#[test]
fn a_fixed_buffer_is_the_applications_choice_unless_it_was_cut_down() {
    let view = recorded();
    let mut fixed = signal(SEND_LIMITED, 100_000.0, 5e6, 20_000.0);
    set(&mut fixed, "locked", 1.0);
    assert_eq!(
        TcpBuffer::default().on_signal(&fixed, &view),
        [],
        "smaller than the maximum: chosen so"
    );
    let mut cut = signal(SEND_LIMITED, 425_984.0, 20e6, 20_000.0);
    set(&mut cut, "locked", 1.0);
    let proposals = TcpBuffer::default().on_signal(&cut, &view);
    assert_eq!(proposals[0].knob, at(WMEM_MAX, HOST));
    assert_eq!(proposals[0].target, Value::from(1_120_000));
}

#[test]
fn tcp_memory_rises_only_where_memory_is_free() {
    let mut view = recorded();
    let exceeded = Signal {
        scenario: MEMORY_EXCEEDED.into(),
        ..signal(RECEIVE_LIMITED, 1.0, 1.0, 1.0)
    };
    let proposals = TcpBuffer::default().on_signal(&exceeded, &view);
    assert_eq!(proposals[0].knob, at(TCP_MEM, HOST));
    assert_eq!(proposals[0].target, Value::new([1500, 3000, 4500]));

    view.machine.memory_available = 1 << 30;
    view.values
        .insert(at(RMEM, NETNS), Value::new([4096, 131072, 1_131_072]));
    view.originals = vec![(at(RMEM, NETNS), Value::new([4096, 131072, 131072]))];
    let proposals = TcpBuffer::default().on_signal(&exceeded, &view);
    assert_eq!(proposals[0].target, Value::new([4096, 131072, 631_072]));
    assert_eq!(proposals[0].urgency, Urgency::Harm);
}

#[test]
fn gives_back_under_memory_pressure_until_all_is_back() {
    let mut view = recorded();
    let original = view.values[&at(WMEM, NETNS)].clone();
    view.originals = vec![(at(WMEM, NETNS), original.clone())];
    view.values
        .insert(at(WMEM, NETNS), original.with_last(64 << 20));
    for _ in 0..40 {
        for proposal in TcpBuffer::default().on_memory_pressure(&view) {
            view.values.insert(proposal.knob, proposal.target);
        }
    }
    assert_eq!(view.values[&at(WMEM, NETNS)], original);
}

/// A path model: the limit holds the connection back until it covers the need.
fn steps_to(need: u64, start: u64) -> (usize, u64) {
    let mut view = recorded();
    let mut limit = start;
    for step in 0..100 {
        view.values
            .insert(at(RMEM, NETNS), Value::new([4096, 4096, limit as i64]));
        if limit >= need {
            return (step, limit);
        }
        let window = limit as f64 / 2.0;
        let proposals = TcpBuffer::default().on_signal(
            &signal(RECEIVE_LIMITED, limit as f64, window * 50.0, 20_000.0),
            &view,
        );
        limit = proposals[0].target.last() as u64;
    }
    panic!("never gets there")
}

proptest! {
    #[test]
    fn rises_fast_and_overshoots_little(need in 10_000u64..1_000_000_000, start in 4096u64..1_000_000) {
        let (steps, limit) = steps_to(need, start);
        prop_assert!(steps <= 12, "{} steps", steps);
        // The need here has no headroom: twice that, and four tenths more.
        prop_assert!(limit <= (need * 28 / 10).max(start), "{} for {}", limit, need);
    }

    #[test]
    fn bounds_come_from_the_machine(total in 1u64 << 26..1 << 44, used in 0u64..1 << 40) {
        let mut machine = recorded().machine;
        machine.memory_total = total;
        machine.tcp_memory = used;
        let bound = socket_bound(&machine);
        prop_assert!(bound >= 0 && bound as u64 <= total / 64);
        prop_assert!(bound as u64 <= machine.tcp_memory_pressure.saturating_sub(used) / 4);
    }
}

#[test]
fn another_learner_can_be_chosen_and_one_that_cannot_learn_here_is_refused() {
    let spec = |json: &str| serde_json::from_str::<Spec>(json).unwrap();
    let mut step = TcpBuffer::new(spec(r#"{"name": "step", "rate": 0.25}"#)).unwrap();
    let mut view = recorded();
    let starved = signal(RECEIVE_LIMITED, 131072.0, 3.2e6, 20_000.0);
    assert_eq!(step.on_signal(&starved, &view)[0].target.last(), 163_840);
    view.originals = vec![(at(RMEM, NETNS), Value::new([4096, 131072, 131072]))];
    view.values
        .insert(at(RMEM, NETNS), Value::new([4096, 131072, 140_000]));
    assert_eq!(
        step.on_memory_pressure(&view)[0].target.last(),
        131_072,
        "never below where it started"
    );
    let mut aimd = TcpBuffer::new(spec(r#"{"name": "aimd"}"#)).unwrap();
    let starved = signal(RECEIVE_LIMITED, 140_000.0, 3.2e6, 20_000.0);
    assert_eq!(
        aimd.on_signal(&starved, &view)[0].target.last(),
        172_768,
        "a quarter of the original more"
    );
    let error = TcpBuffer::new(spec(r#"{"name": "hill-climb"}"#)).unwrap_err();
    assert!(error.contains("limit, step, aimd"), "{error}");
}

#[test]
fn a_udp_socket_that_rmem_max_cut_down_raises_it_once() {
    let mut tuner = TcpBuffer::default();
    let mut view = recorded();
    assert!(tuner.listens(UDP_CUT_DOWN) && !tuner.listens("udp-buffer-full"));
    let signal = Signal {
        scenario: UDP_CUT_DOWN.into(),
        netns: HOST,
        subject: "port 53 in host".into(),
        count: 1,
        figures: vec![
            Figure::new("buffer", 425_984.0, "B"),
            Figure::new("queued", 100.0, ""),
            Figure::new("lost", 100.0, ""),
        ],
    };
    let proposals = tuner.on_signal(&signal, &view);
    assert_eq!(proposals[0].knob, at(RMEM_MAX, HOST));
    assert_eq!(proposals[0].target.last(), 596_377);
    view.values
        .insert(at(RMEM_MAX, HOST), proposals[0].target.clone());
    assert!(tuner.on_signal(&signal, &view).is_empty());
}

/// The first window of a connection was used up; its buffer began with this size.
fn used_up(first: i64) -> Signal {
    signal(FIRST_WINDOW, first as f64, 4e5, 20_000.0)
}

#[test]
fn a_first_window_that_is_used_up_becomes_what_a_syn_can_say_and_no_more() {
    let mut tuner = TcpBuffer::default();
    let mut view = recorded();
    view.values
        .insert(at(RMEM, NETNS), Value::new([4096, 16384, 6 << 20]));
    let proposals = tuner.on_signal(&used_up(16384), &view);
    assert_eq!(proposals[0].target, Value::new([4096, 131_072, 6 << 20]));
    assert!(
        proposals[0].reason.contains("round trip of 20.0 ms"),
        "{}",
        proposals[0].reason
    );
    view.apply(&proposals);
    assert!(
        tuner.on_signal(&used_up(16384), &view).is_empty(),
        "an event from before the change"
    );
    assert!(tuner.on_signal(&used_up(131_072), &view).is_empty());
    assert!(
        tuner.on_memory_pressure(&view).is_empty(),
        "a size to begin with holds no memory"
    );
}

#[test]
fn first_windows_are_bounded_by_memory_and_by_the_limit() {
    let target = |memory, most| {
        let mut view = recorded();
        view.machine.memory_total = memory;
        view.values
            .insert(at(RMEM, NETNS), Value::new([4096, 8192, most]));
        let proposals = TcpBuffer::default().on_signal(&used_up(8192), &view);
        proposals.first().map(|p| p.target.numbers()[1])
    };
    assert_eq!(target(crate::testing::TINY, 6 << 20), Some(65536));
    assert_eq!(target(crate::testing::HUGE, 6 << 20), Some(131_072));
    assert_eq!(target(crate::testing::HUGE, 32768), Some(32768));
    assert_eq!(target(crate::testing::HUGE, 8192), None);
}
