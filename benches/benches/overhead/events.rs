//! What an event costs in BPF, beside a program that does nothing on the same tracepoint in the same window.

use std::{path::Path, time::Duration};

use lab::{
    Result,
    bpf_floor::EmptyProgram,
    bpf_stats::{BpfStats, Runs, programs},
    daemon::Daemon,
    link::{Link, Shape},
    result::{Part, Row},
    scenario::{LARGE, set_buffers},
    traffic::Transfer,
};

use crate::runs::hooks;

/// A tracepoint of the tuner with the BPF program on it.
const EVENTS: [(&std::ffi::CStr, &str); 2] = [
    (c"tcp_rcv_space_adjust", "receive_space"),
    (c"tcp_probe", "send_space"),
];

/// Costs of one program over a window, and of an empty program on the same tracepoint in the same window.
type Pair = (f64, f64);

/// One window of a daemon of our own beside empty programs, attached after it or before it, at each of [`EVENTS`].
/// Programs of a tracepoint run in the order of their attaching, and the first finds the processor's caches cold.
fn window(
    bpftune: &Path,
    link: &Link,
    transfer: &Transfer,
    daemon_first: bool,
    length: Duration,
) -> Result<(Vec<Option<Pair>>, f64)> {
    let start = || Daemon::start(bpftune, &[&link.a, &link.b], &[]);
    let attach = || -> Result<Vec<EmptyProgram>> {
        EVENTS
            .iter()
            .map(|(tracepoint, _)| EmptyProgram::attach(tracepoint))
            .collect()
    };
    let (daemon, empty) = if daemon_first {
        let daemon = start()?;
        (daemon, attach()?)
    } else {
        let empty = attach()?;
        (start()?, empty)
    };
    let hooks = hooks(&daemon.status()?);
    let runs = || -> Vec<Option<(Runs, Runs)>> {
        let programs = programs(daemon.pid());
        EVENTS
            .iter()
            .zip(&empty)
            .map(|((_, name), empty)| {
                let at = hooks.iter().position(|(hook, _)| hook == name)?;
                let floor = Runs::of(&format!("/proc/self/fdinfo/{}", empty.descriptor()))?.1;
                Some((*programs.get(at)?, floor))
            })
            .collect()
    };
    std::thread::sleep(Duration::from_millis(200));
    let before = runs();
    let rate = transfer.measure(length);
    let pairs = before
        .into_iter()
        .zip(runs())
        .map(|(before, after)| {
            let (before, after) = (before?, after?);
            Some((after.0.each_since(before.0)?, after.1.each_since(before.1)?))
        })
        .collect();
    Ok((pairs, rate))
}

/// What each event costs while the link carries what it can, by the kernel's own statistics: as they report it,
/// with our program first on its tracepoint; what they report of a program that does nothing in its place; and
/// the difference between the two, each taken once first and once second.
pub(crate) fn run(part: &mut Part, bpftune: &Path, quick: bool) -> Result<()> {
    let (rounds, length) = if quick { (5, 400) } else { (15, 1000) };
    let length = Duration::from_millis(length);
    let Some(_stats) = BpfStats::on() else {
        part.note("SKIP: kernel.bpf_stats_enabled cannot be set here");
        return Ok(());
    };
    let link = Link::new(Shape::new(Duration::from_millis(10)))?;
    set_buffers(&link, LARGE)?;
    let mut found: [Vec<(Pair, Pair)>; EVENTS.len()] = Default::default();
    let mut rates = Vec::new();
    for _ in 0..rounds {
        let transfer = Transfer::start(&link.a, &link.b, link.addr_b().into())?;
        std::thread::sleep(Duration::from_millis(if quick { 300 } else { 1000 }));
        let (ours_first, rate) = window(bpftune, &link, &transfer, true, length)?;
        rates.push(rate);
        let (empty_first, rate) = window(bpftune, &link, &transfer, false, length)?;
        rates.push(rate);
        transfer.stop()?;
        for ((found, ours_first), empty_first) in found.iter_mut().zip(ours_first).zip(empty_first)
        {
            found.extend(ours_first.zip(empty_first));
        }
    }
    for ((_, name), found) in EVENTS.iter().zip(found) {
        if found.is_empty() {
            part.note(format!("{name}: hardly ran"));
            continue;
        }
        let of = |pick: fn(&(Pair, Pair)) -> f64| -> Vec<f64> { found.iter().map(pick).collect() };
        let (reported, empty) = (of(|f| f.0.0), of(|f| f.1.1));
        let own = of(|(a, b)| (a.0 - a.1 + b.0 - b.1) / 2.0);
        let limit = "a program that does nothing in its place";
        let title = format!("BPF cost of an event, {name}, as bpf_stats reports");
        let row = Row::sampled(&title, "ns", &reported).at_most(100.0);
        part.row(row.detail(serde_json::json!({ "runs": reported, "mbit_per_s": rates })));
        part.row(Row::paired(title, "ns", &reported, (limit, &empty)));
        part.row(Row::sampled(
            format!("BPF cost of an event, {name}: its own part"),
            "ns",
            &own,
        ));
    }
    Ok(())
}
