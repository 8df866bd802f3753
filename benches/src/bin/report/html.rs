//! One page with everything.

use std::fmt::Write;

use lab::result::{Part, Results, Verdict, made, svg, table};

use crate::curves;

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:15px/1.45 sans-serif;max-width:1160px;margin:2em auto;padding:0 1em}\
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #8884;padding:.3em .6em;text-align:left;\
vertical-align:top}.yes{color:#2e7d32}.no{color:#c62828;font-weight:bold}.open{color:#b26a00}svg{max-width:100%;\
height:auto}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A Markdown table's lines as rows.
fn rows(part: &Part) -> String {
    let text = table(std::slice::from_ref(part));
    let lines = text.lines().skip(2).zip(&part.rows);
    lines.fold(String::new(), |mut out, (line, row)| {
        let class = match row.verdict {
            Some(Verdict::Met) => "yes",
            Some(Verdict::NotMet) => "no",
            Some(Verdict::Open) => "open",
            None => "",
        };
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        out += "<tr>";
        for (at, cell) in cells.iter().enumerate() {
            let class = if at == 3 { class } else { "" };
            let cell = escaped(&cell.replace("**", ""));
            let _ = write!(out, "<td class=\"{class}\">{cell}</td>");
        }
        out += "</tr>\n";
        out
    })
}

/// The page.
pub(crate) fn page(files: &[(&str, Results)]) -> String {
    let parts = || files.iter().flat_map(|(_, results)| &results.parts);
    let with = |verdict| {
        let rows = parts().flat_map(|part| &part.rows);
        rows.filter(|row| row.verdict == Some(verdict)).count()
    };
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>What was measured</title>\
         <style>{STYLE}</style></head><body>\n<h1>What was measured</h1>\n\
         <p>Goals: <b class=\"yes\">{} met</b>, <b class=\"no\">{} not met</b>, \
         <b class=\"open\">{} without a verdict</b>.</p>\n",
        with(Verdict::Met),
        with(Verdict::NotMet),
        with(Verdict::Open)
    );
    for (file, results) in files {
        let mut benches: Vec<&str> = Vec::new();
        for part in &results.parts {
            if !benches.contains(&part.bench.as_str()) {
                benches.push(&part.bench);
            }
        }
        for bench in benches {
            let parts: Vec<Part> = results.of(bench).cloned().collect();
            let _ = write!(
                out,
                "<h2>{file}: {}</h2>\n<p>{}</p>\n<table><tr><th>what</th><th>figure</th><th>goal</th>\
                 <th>met</th></tr>\n",
                escaped(bench),
                escaped(&made(&parts)).replace('\n', "<br>")
            );
            parts.iter().for_each(|part| out += &rows(part));
            out += "</table>\n";
            let notes: Vec<_> = parts.iter().flat_map(|part| &part.notes).collect();
            if !notes.is_empty() {
                out += "<ul>\n";
                for note in notes {
                    let _ = writeln!(out, "<li>{}</li>", escaped(note));
                }
                out += "</ul>\n";
            }
            let curves = curves(&parts);
            if !curves.is_empty() {
                out += &svg(&curves);
            }
        }
    }
    out += "</body></html>\n";
    out
}

#[cfg(test)]
mod tests {
    use lab::result::Row;

    use super::*;

    #[test]
    fn has_each_row_with_its_verdict() {
        let mut part = Part {
            bench: "spawn".into(),
            ..Part::default()
        };
        part.row(Row::count("a < b", "", 3.0).at_most(4.0));
        part.row(Row::count("c", "", 5.0).at_most(4.0));
        let mut results = Results::default();
        results.put(part);
        let page = page(&[("bench", results)]);
        for text in [
            "<td class=\"\">a &lt; b</td>",
            "<td class=\"yes\">yes</td>",
            "<td class=\"no\">no</td>",
            "1 met",
            "1 not met",
        ] {
            assert!(page.contains(text), "{text} in {page}");
        }
    }
}
