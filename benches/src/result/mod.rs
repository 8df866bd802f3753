//! One format for what is measured: rows with goals and verdicts, in parts, in one file a kind.
//!
//! A bench or a scenario of the lab is a list of parts. A [`Recorder`] runs them one by one, looks how busy the
//! machine was with other work meanwhile, judges the rows by it, and writes each part to the file when it ends: so an
//! interrupted run keeps what is done. A part that runs again replaces itself; every row says from when it is.
//!
//! ```no_run
//! use lab::result::{BENCH, Recorder, Row};
//!
//! let mut recorder = Recorder::new(BENCH, "cargo xtask bench sums", false);
//! recorder.part("sums", "small", |part| -> Result<(), lab::Error> {
//!     let (ours, theirs) = ([1.0, 1.1, 1.0, 0.9, 1.0], [2.0, 2.1, 2.0, 1.9, 2.0]);
//!     part.row(Row::compared("a sum", "µs", &ours, ("the others", &theirs)).at_most(0.8));
//!     part.row(Row::count("allocations", "", 0.0).at_most(0.0));
//!     Ok(())
//! })?;
//! # Ok::<(), lab::Error>(())
//! ```
//!
//! A verdict is [`Met`](Verdict::Met) or [`NotMet`](Verdict::NotMet) only where the whole interval of 95 % confidence
//! lies on that side of the goal. Anything else is no verdict, with the reason beside it: so that two runs do not
//! contradict each other by chance.

mod curve;
mod format;
mod interval;
mod load;
mod origin;
mod plot;
mod recorder;
mod row;
mod store;

pub use self::{
    curve::{Curve, Law, Series, exponent},
    format::{line, made, shown, table},
    interval::{Interval, median, of_median, paired_ratio, ratio},
    load::{Busy, Load},
    origin::{Origin, root},
    plot::svg,
    recorder::{Common, Recorder},
    row::{Goal, LEAST, Row, Verdict},
    store::{Part, Results},
};

/// What benches write, from the workspace's root.
pub const BENCH: &str = "target/report/bench.json";
/// What the lab writes, from the workspace's root.
pub const LAB: &str = "target/report/lab.json";
