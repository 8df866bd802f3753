//! A plot as SVG, for light and dark pages.

use std::fmt::Write;

use lab::svg::text;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 72.0;

const STYLE: &str = "text{font:12px sans-serif;fill:#202124}.t{font-size:15px;font-weight:bold}.page{fill:#fff}\
.grid{stroke:#dadce0}.l0{stroke:#0b62d6}.l1{stroke:#b26a00}.l2{stroke:#00796b}.l3{stroke:#c62828}\
.line{fill:none;stroke-width:2}.dash{stroke-dasharray:6 4}\
@media(prefers-color-scheme:dark){text{fill:#e8eaed}.page{fill:#0d1117}.grid{stroke:#30363d}\
.l0{stroke:#6cb2ff}.l1{stroke:#ffb74d}.l2{stroke:#4dd0c0}.l3{stroke:#ff8a80}}";

/// One line of a plot.
pub(crate) struct Line {
    pub(crate) name: String,
    /// x and y.
    pub(crate) points: Vec<(f64, f64)>,
    /// Each point holds until the next.
    pub(crate) steps: bool,
    /// Broken: what is wanted, not what was.
    pub(crate) dashed: bool,
}

/// A plot with linear time and a linear or logarithmic height.
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) log: bool,
    pub(crate) lines: Vec<Line>,
}

impl Plot {
    /// The SVG.
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let high_x = points().map(|p| p.0).fold(f64::MIN_POSITIVE, f64::max);
        let high = points().map(|p| p.1).fold(f64::MIN_POSITIVE, f64::max);
        let low = points().map(|p| p.1).fold(high, f64::min);
        let marks = if self.log {
            log_marks(low, high)
        } else {
            marks(0.0, high)
        };
        let (bottom, top) = (marks[0], marks[marks.len() - 1].max(high));
        let at_x = |x: f64| LEFT + x / high_x * (WIDTH - LEFT - RIGHT);
        let at_y = |y: f64| {
            let share = if self.log {
                (y.max(bottom) / bottom).ln() / (top / bottom).ln()
            } else {
                (y - bottom) / (top - bottom)
            };
            HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        };
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n",
            self.title
        );
        text(&mut out, LEFT, 24.0, "start", "t", &self.title);
        for mark in &marks {
            let y = at_y(*mark);
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\"/>",
                WIDTH - RIGHT
            );
            text(&mut out, LEFT - 6.0, y + 4.0, "end", "", &shown(*mark));
        }
        for mark in self::marks(0.0, high_x) {
            text(
                &mut out,
                at_x(mark),
                HEIGHT - BOTTOM + 18.0,
                "middle",
                "",
                &shown(mark),
            );
        }
        text(
            &mut out,
            WIDTH - RIGHT,
            HEIGHT - BOTTOM + 34.0,
            "end",
            "",
            self.x,
        );
        text(&mut out, LEFT, 44.0, "start", "", self.y);
        let mut x = LEFT;
        for (i, line) in self.lines.iter().enumerate() {
            let dash = if line.dashed { " dash" } else { "" };
            let _ = write!(out, "<polyline class=\"line l{i}{dash}\" points=\"");
            let mut last = None;
            for &(px, py) in &line.points {
                if let Some(before) = last
                    && line.steps
                {
                    let _ = write!(out, "{:.1},{before:.1} ", at_x(px));
                }
                let y = at_y(py);
                let _ = write!(out, "{:.1},{y:.1} ", at_x(px));
                last = Some(y);
            }
            out += "\"/>\n";
            let y = HEIGHT - 16.0;
            let _ = writeln!(
                out,
                "<line class=\"line l{i}{dash}\" x1=\"{x:.0}\" y1=\"{:.0}\" x2=\"{:.0}\" y2=\"{:.0}\"/>",
                y - 4.0,
                x + 24.0,
                y - 4.0
            );
            text(&mut out, x + 30.0, y, "start", "", &line.name);
            x += 46.0 + 6.6 * line.name.len() as f64;
        }
        out += "</svg>\n";
        out
    }
}

/// Four to eight round numbers that cover the range.
fn marks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low).max(f64::MIN_POSITIVE) / 5.0;
    let ten = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|digit| digit * ten)
        .find(|step| *step >= rough)
        .unwrap_or(ten);
    let first = (low / step).floor() as i64;
    (first..)
        .map(|i| i as f64 * step)
        .take_while(|mark| *mark <= high * 1.0001)
        .collect()
}

fn log_marks(low: f64, high: f64) -> Vec<f64> {
    let all = (-12..16).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
    let all: Vec<f64> = all.collect();
    let first = all.iter().rposition(|mark| *mark <= low).unwrap_or(0);
    let last = all
        .iter()
        .position(|mark| *mark >= high)
        .unwrap_or(all.len() - 1);
    all[first..=last.max(first + 1)].to_vec()
}

fn shown(value: f64) -> String {
    for (size, unit) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= size {
            return format!("{}{unit}", (value / size * 100.0).round() / 100.0);
        }
    }
    format!("{}", (value * 1000.0).round() / 1000.0)
}
