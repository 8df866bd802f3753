//! Plots as SVG, for light and dark pages.

use std::fmt::Write;

use super::{Curve, shown};
use crate::svg::text;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 36.0;
const TOP: f64 = 40.0;
/// Room for the axis and the names below it.
const BOTTOM: f64 = 112.0;

/// A class of the style sheet a rival, the same in each plot; ours is the first.
fn class(name: &str) -> usize {
    match name {
        "uring-process" => 0,
        "uring-process with CLONE_VFORK" => 1,
        "std::process" => 2,
        "tokio, multi thread" => 3,
        "posix_spawn" => 4,
        "tokio, current thread" => 5,
        "tuner on" => 0,
        "tuner off" => 2,
        "by hand" => 5,
        name if name.starts_with("uring-process,") => 6,
        name if name.starts_with("ours") => 0,
        _ => 7,
    }
}

fn style() -> String {
    let light = [
        "#0b62d6", "#6aa5f5", "#c62828", "#b26a00", "#7b1fa2", "#00796b", "#2e7d32", "#5f6368",
    ];
    let dark = [
        "#6cb2ff", "#3f7fd0", "#ff8a80", "#ffb74d", "#d59be8", "#4dd0c0", "#81c784", "#b0b4b8",
    ];
    let colours = |colours: [&str; 8]| {
        colours
            .iter()
            .enumerate()
            .fold(String::new(), |mut out, (at, colour)| {
                let _ = write!(out, ".l{at}{{stroke:{colour}}}.f{at}{{fill:{colour}}}");
                out
            })
    };
    format!(
        "text{{font:12px sans-serif;fill:#202124}}.t{{font-size:15px;font-weight:bold}}\
         .page{{fill:#ffffff}}.grid{{stroke:#dadce0}}.axis{{stroke:#5f6368}}\
         .line{{fill:none;stroke-width:2}}{}\
         @media(prefers-color-scheme:dark){{text{{fill:#e8eaed}}.page{{fill:#0d1117}}\
         .grid{{stroke:#30363d}}.axis{{stroke:#9aa0a6}}{}}}",
        colours(light),
        colours(dark)
    )
}

/// All plots on one picture, two a line.
#[must_use]
pub fn svg<'a>(curves: impl IntoIterator<Item = &'a Curve>) -> String {
    let curves: Vec<&Curve> = curves.into_iter().collect();
    let lines = curves.len().div_ceil(2) as f64;
    let (width, height) = (2.0 * WIDTH, lines * HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\">\n<style>{}</style>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n",
        style()
    );
    for (at, curve) in curves.iter().enumerate() {
        let (x, y) = ((at % 2) as f64 * WIDTH, (at / 2) as f64 * HEIGHT);
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
        text(&mut out, LEFT, 24.0, "start", "t", &curve.title);
        if curve.x.is_empty() {
            bars(&mut out, curve);
        } else {
            lines_of(&mut out, curve);
        }
        out += "</g>\n";
    }
    out += "</svg>\n";
    out
}

fn stroke(out: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// Marks of 1, 2 and 5 with any power of ten.
fn marks() -> impl DoubleEndedIterator<Item = f64> {
    (-3..10).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
}

/// An axis that begins and ends at a mark: logarithmic, or from 0.
struct Axis {
    linear: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(linear: bool, values: &[f64], (from, to): (f64, f64)) -> Axis {
        let least = values.iter().copied().fold(f64::MAX, f64::min);
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let (low, high) = if linear {
            let step = Axis::step(most);
            (0.0, (most / step).ceil() * step)
        } else {
            (
                marks().rfind(|mark| *mark <= least).unwrap_or(least),
                marks().find(|mark| *mark >= most).unwrap_or(most),
            )
        };
        Axis {
            linear,
            low,
            high,
            from,
            to,
        }
    }

    /// Between two ticks, so that there are six of them at most beside that at 0.
    fn step(most: f64) -> f64 {
        marks().find(|mark| *mark * 6.0 >= most).unwrap_or(most)
    }

    fn at(&self, value: f64) -> f64 {
        let share = if self.linear {
            value / self.high
        } else {
            (value / self.low).ln() / (self.high / self.low).ln()
        };
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.linear {
            let step = Axis::step(self.high);
            let count = (self.high / step).round() as u32;
            return (0..=count).map(|tick| f64::from(tick) * step).collect();
        }
        let within: Vec<_> = marks()
            .filter(|mark| *mark >= self.low && *mark <= self.high)
            .collect();
        if within.len() <= 8 {
            return within;
        }
        let tens = |mark: &f64| (mark.log10() - mark.log10().round()).abs() < 1e-9;
        within.into_iter().filter(tens).collect()
    }
}

fn lines_of(out: &mut String, curve: &Curve) {
    let points = curve.series.iter().flat_map(|series| &series.points);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let (xs, ys): (Vec<f64>, Vec<f64>) = points.copied().unzip();
    let xs = Axis::new(curve.linear, &xs, (LEFT, right));
    let ys = Axis::new(curve.linear, &ys, (bottom, TOP));
    let scale = if curve.linear { "" } else { " (logarithmic)" };
    for tick in xs.ticks() {
        let x = xs.at(tick);
        stroke(out, "grid", (x, TOP), (x, bottom));
        text(out, x, bottom + 17.0, "middle", "", &shown(tick, ""));
    }
    for tick in ys.ticks() {
        let y = ys.at(tick);
        stroke(out, "grid", (LEFT, y), (right, y));
        text(out, LEFT - 6.0, y + 4.0, "end", "", &shown(tick, ""));
    }
    stroke(out, "axis", (LEFT, bottom), (right, bottom));
    stroke(out, "axis", (LEFT, TOP), (LEFT, bottom));
    let middle = f64::midpoint(LEFT, right);
    let label = format!("{}{scale}", curve.x);
    text(out, middle, bottom + 35.0, "middle", "", &label);
    let label = format!("{}{scale}", curve.y);
    upright(out, 18.0, f64::midpoint(TOP, bottom), &label);
    let mut all: Vec<_> = curve.series.iter().collect();
    all.sort_by_key(|series| class(&series.name));
    // The first one last, so that nothing lies over it.
    for (at, series) in all.into_iter().enumerate().rev() {
        let class = class(&series.name);
        let at_of = |point: &(f64, f64)| (xs.at(point.0), ys.at(point.1));
        let words: Vec<_> = series
            .points
            .iter()
            .map(at_of)
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            out,
            "<polyline class=\"line l{class}\" points=\"{}\"/>",
            words.join(" ")
        );
        for (x, y) in series.points.iter().map(at_of) {
            dot(out, class, x, y);
        }
        let (x, y) = (
            LEFT - 40.0 + (at % 2) as f64 * 264.0,
            bottom + 56.0 + (at / 2) as f64 * 18.0,
        );
        dot(out, class, x, y - 4.0);
        text(out, x + 10.0, y, "start", "", &series.name);
    }
}

fn dot(out: &mut String, class: usize, x: f64, y: f64) {
    let _ = writeln!(
        out,
        "<circle class=\"f{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"
    );
}

fn upright(out: &mut String, x: f64, y: f64, words: &str) {
    let _ = writeln!(
        out,
        "<text transform=\"translate({x} {y}) rotate(-90)\" text-anchor=\"middle\">{words}</text>"
    );
}

/// One bar a rival, the longest first, from zero.
fn bars(out: &mut String, curve: &Curve) {
    let mut values: Vec<_> = curve
        .series
        .iter()
        .filter_map(|series| Some((series.name.as_str(), series.points.first()?.1)))
        .collect();
    values.sort_by(|a, b| b.1.total_cmp(&a.1));
    let most = values.first().map_or(1.0, |value| value.1);
    let (begin, room) = (232.0, WIDTH - RIGHT - 64.0 - 232.0);
    let step = (HEIGHT - TOP - 60.0) / values.len().max(1) as f64;
    for (at, (name, value)) in values.iter().enumerate() {
        let y = TOP + at as f64 * step;
        let (width, thick) = (value / most * room, step * 0.66);
        let base = y + thick / 2.0 + 4.0;
        text(out, begin - 8.0, base, "end", "", name);
        let _ = writeln!(
            out,
            "<rect class=\"f{}\" x=\"{begin}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{thick:.1}\"/>",
            class(name)
        );
        let x = begin + width + 6.0;
        text(out, x, base, "start", "", &shown(*value, ""));
    }
    let middle = begin + room / 2.0;
    text(out, middle, HEIGHT - 36.0, "middle", "", &curve.y);
}
