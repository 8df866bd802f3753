//! What differs between two moments of this boot.

use std::collections::BTreeMap;

use rusqlite::params;

use super::{DecisionId, Journal, Result};
use crate::Knob;

/// A moment in a knob's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before the first change.
    Start,
    /// Just after this decision was carried out.
    After(DecisionId),
    /// Unix milliseconds.
    At(i64),
    /// After the last change.
    End,
}

/// A knob whose value differs between two moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What and where.
    pub knob: Knob,
    /// The way into the namespace when it was last used.
    pub place: String,
    /// At the first moment.
    pub before: String,
    /// At the second.
    pub after: String,
    /// The last decision that made it so, of those between the two.
    pub by: Option<DecisionId>,
}

/// A knob's values as the scan goes by.
struct Track {
    place: String,
    before: String,
    after: String,
    by: Option<DecisionId>,
}

impl Journal {
    /// The knobs that have another value after what bpftune wrote between two moments of this boot. What other
    /// programs wrote in between shows only where bpftune wrote over it.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn diff(&self, from: Point, to: Point) -> Result<Vec<Difference>> {
        let not_after = |point: Point, id: DecisionId, at: i64| match point {
            Point::Start => false,
            Point::After(last) => id <= last,
            Point::At(moment) => at <= moment,
            Point::End => true,
        };
        let written = self.decisions(
            "WHERE boot_id = ?1 AND verdict IN ('applied', 'restored') ORDER BY id",
            params![self.boot],
        )?;
        let mut tracks: BTreeMap<Knob, Track> = BTreeMap::new();
        for decision in written {
            let track = tracks.entry(decision.knob).or_insert_with(|| Track {
                place: String::new(),
                before: decision.old.clone(),
                after: decision.old.clone(),
                by: None,
            });
            track.place = decision.place;
            if not_after(from, decision.id, decision.at) {
                track.before.clone_from(&decision.new);
            }
            if not_after(to, decision.id, decision.at) {
                track.after.clone_from(&decision.new);
            }
            if not_after(from, decision.id, decision.at) != not_after(to, decision.id, decision.at)
            {
                track.by = Some(decision.id);
            }
        }
        Ok(tracks
            .into_iter()
            .filter(|(_, track)| track.before != track.after)
            .map(|(knob, track)| Difference {
                knob,
                place: track.place,
                before: track.before,
                after: track.after,
                by: track.by,
            })
            .collect())
    }
}
