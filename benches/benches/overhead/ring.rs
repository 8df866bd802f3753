//! What an event costs on its way: written by a BPF program, read by the daemon's reader.

use lab::{
    Error, Result,
    cases::events::{MOST, Ring, copy},
    result::{Part, Row},
};

pub(crate) fn run(part: &mut Part, quick: bool) -> Result<()> {
    let mut ring = Ring::new()?;
    let count = MOST.min(8000);
    let (mut write, mut nothing, mut read, mut bare) = (vec![], vec![], vec![], vec![]);
    // The first round warms up.
    for round in 0..=if quick { 20 } else { 200 } {
        let written = ring.write(count)?;
        let empty = ring.write_nothing(count)?;
        let (found, took) = ring.drain()?;
        if found != count as usize {
            return Err(Error::other(
                format!("{found} of {count} events came through the ring buffer"),
                "more were written than fit",
            ));
        }
        let copied = copy(found);
        if round > 0 {
            write.push(written);
            nothing.push(empty);
            read.push(took.as_nanos() as f64 / f64::from(count));
            bare.push(copied.as_nanos() as f64 / f64::from(count));
        }
    }
    part.row(Row::paired(
        "an event written to the ring buffer, in BPF",
        "ns",
        &write,
        ("a program that does nothing", &nothing),
    ));
    let name = "an event read from the ring buffer";
    part.row(Row::paired(
        name,
        "ns",
        &read,
        ("memcpy of as many bytes", &bare),
    ));
    part.row(Row::sampled(name, "ns", &read).at_most(1000.0));
    Ok(())
}
