//! What the plots share.

use std::fmt::Write;

/// Writes words at a place. `anchor`: which part of them lies at `x`, "start", "middle" or "end"; `class`: of the style
/// sheet, may be empty.
pub fn text(out: &mut String, x: f64, y: f64, anchor: &str, class: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{words}</text>"
    );
}
