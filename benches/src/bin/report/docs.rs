//! The made parts of Markdown pages.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lab::{
    Error, Result,
    network::scenarios,
    result::{Part, Results, made, svg, table},
};

use crate::curves;

const BEGIN: &str = "<!-- result: ";
/// Above a table that was measured before results were kept; says when.
const BY_HAND: &str = "<!-- by hand: ";
const END: &str = "<!-- end of result -->";
/// Notes that are a table of their own.
const CALLS: &str = "system calls of a spawn, ";

type Files<'a> = [(&'a str, Results)];

/// Writes every page anew, or only says which differ. Returns the faults.
pub(crate) fn update(root: &Path, results: &Files<'_>, check: bool) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let mut pages = vec![root.join("README.md")];
    pages.extend(markdown(&root.join("docs"))?);
    for path in pages {
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        let text = read(&path)?;
        let mut page = Page::default();
        match page.fill(&text, results) {
            Ok(new) if check && new != text => {
                faults.push(format!(
                    "{name} is not what docs/results says: `cargo xtask report` writes it"
                ));
            }
            Ok(new) if new != text => write(&path, &new)?,
            Ok(_) => {}
            Err(why) => {
                faults.push(format!("{name}: {why}"));
                continue;
            }
        }
        faults.extend(bare_tables(&text).into_iter().map(|line| {
            format!("{name}:{line}: a table of figures without a result behind it: put it into a block {BEGIN}...")
        }));
        for (file, picture) in page.pictures {
            let path = path.with_file_name(&file);
            if !check {
                write(&path, &picture)?;
            } else if fs::read_to_string(&path).unwrap_or_default() != picture {
                faults.push(format!(
                    "{file} is not what docs/results says: `cargo xtask report` writes it"
                ));
            }
        }
    }
    Ok(faults)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::doing(format!("cannot read {}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<()> {
    eprintln!("wrote {}", path.display());
    fs::write(path, text).map_err(Error::doing(format!("cannot write {}", path.display())))
}

/// Every page below a folder.
fn markdown(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = || Error::doing::<std::io::Error>(format!("cannot list {}", dir.display()));
    let mut pages = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        if path.is_dir() {
            pages.extend(markdown(&path)?);
        } else if path.extension().is_some_and(|end| end == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(pages)
}

/// Lines, counted from 1, where a table of figures begins that is in no block and has no [`BY_HAND`] right above.
fn bare_tables(text: &str) -> Vec<usize> {
    let (mut within, mut by_hand) = (false, false);
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        within = (within || line.starts_with(BEGIN)) && line != END;
        let is_head = line.starts_with('|')
            && line
                .split('|')
                .any(|cell| ["figure", "figures", "met", "ours"].contains(&cell.trim()));
        if is_head && !within && !by_hand {
            found.push(at + 1);
        }
        // Blank lines may lie between.
        by_hand = line.starts_with(BY_HAND) || (by_hand && line.is_empty());
    }
    found
}

#[derive(Default)]
struct Page {
    /// File names and contents.
    pictures: Vec<(String, String)>,
}

impl Page {
    /// The page with its blocks made anew; or what is wrong with one.
    fn fill(&mut self, text: &str, results: &Files<'_>) -> Result<String, String> {
        let mut out = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            out += line;
            out.push('\n');
            let Some(words) = line.strip_prefix(BEGIN) else {
                continue;
            };
            let words = words
                .strip_suffix(" -->")
                .ok_or(format!("`{line}` has no end `-->`"))?;
            out += self.block(words, results)?.trim_end();
            out.push('\n');
            out += END;
            out.push('\n');
            if !lines.any(|line| line == END) {
                return Err(format!("`{line}` has no `{END}` after it"));
            }
        }
        Ok(out)
    }

    /// `words`: "table bench/spawn/blocked", "plot bench/spawn spawn.svg", "scenarios lab".
    fn block(&mut self, words: &str, results: &Files<'_>) -> Result<String, String> {
        let (kind, which) = words.split_once(' ').unwrap_or((words, ""));
        let (which, picture) = match (kind, which.rsplit_once(' ')) {
            ("plot", Some((which, picture))) => (which, picture),
            _ => (which, ""),
        };
        let mut names = which.splitn(3, '/');
        let mut next = || names.next().unwrap_or_default();
        let (file, bench, part) = (next(), next(), next());
        let parts: Vec<Part> = results
            .iter()
            .filter(|(name, _)| *name == file)
            .flat_map(|(_, results)| &results.parts)
            .filter(|candidate| bench.is_empty() || candidate.bench == bench)
            .filter(|candidate| candidate.name.starts_with(part))
            .cloned()
            .collect();
        if parts.is_empty() {
            let command = match file {
                "lab" => format!("lab network --only {bench}` or `lab system"),
                _ => format!("{file} {bench}"),
            };
            return Err(format!(
                "nothing behind `{words}` in docs/results: `cargo xtask {command}`, then `cargo xtask report`"
            ));
        }
        let notes = || parts.iter().flat_map(|part| &part.notes);
        match kind {
            "made" => Ok(made(&parts)),
            "table" => Ok(table(&parts)),
            "scenarios" => Ok(scenarios(&parts)),
            "notes" => Ok(notes()
                .filter(|note| !note.starts_with(CALLS))
                .map(|note| format!("* In this run: {note}\n"))
                .collect()),
            "calls" => {
                let calls = notes().filter_map(|note| note.strip_prefix(CALLS)?.split_once(": "));
                let lines = calls
                    .map(|(name, list)| format!("| {name} | {} |\n", list.replace("; ", "<br>")));
                Ok(lines.fold("| | calls |\n|---|---|\n".into(), |all, line| all + &line))
            }
            "plot" => {
                self.pictures.push((picture.into(), svg(&curves(&parts))));
                Ok(format!("![The figures as plots]({picture})"))
            }
            _ => Err(format!(
                "`{kind}` in `{words}` is none of made, table, scenarios, notes, calls, plot"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use lab::result::{Curve, Row};

    use super::*;

    fn results() -> Vec<(&'static str, Results)> {
        let mut part = Part {
            bench: "spawn".into(),
            name: "blocked".into(),
            ..Part::default()
        };
        part.row(Row::count("things", "", 3.0).at_most(4.0));
        part.notes
            .push("system calls of a spawn, std: fork 1; exec 1".into());
        part.notes.push("left out".into());
        part.curves.push(Curve::new("a", "", "b"));
        let mut results = Results::default();
        results.put(part);
        vec![("bench", results)]
    }

    fn block(words: &str) -> Result<String, String> {
        Page::default().block(words, &results())
    }

    #[test]
    fn blocks_are_made_anew_and_the_rest_stays() {
        let text = format!("# A\n\n{BEGIN}table bench/spawn -->\nold\n{END}\nrest\n");
        let mut page = Page::default();
        let new = page.fill(&text, &results()).unwrap();
        assert!(new.starts_with("# A\n\n<!-- result: table bench/spawn -->\n| what |"));
        assert!(new.contains("| things | 3 | at most 4 | yes |\n<!-- end of result -->\nrest\n"));
        assert_eq!(page.fill(&new, &results()).unwrap(), new);
    }

    #[test]
    fn every_kind_says_what_it_is_for() {
        assert!(
            block("calls bench/spawn")
                .unwrap()
                .contains("| std | fork 1<br>exec 1 |")
        );
        assert_eq!(
            block("notes bench/spawn/blo").unwrap(),
            "* In this run: left out\n"
        );
        assert!(
            block("plot bench/spawn spawn.svg")
                .unwrap()
                .contains("(spawn.svg)")
        );
        for bad in [
            "table bench/none",
            "table lab/spawn",
            "table bench/spawn/x",
            "song bench/spawn",
        ] {
            block(bad).unwrap_err();
        }
    }

    #[test]
    fn a_block_without_an_end_is_found() {
        let text = format!("{BEGIN}table bench/spawn -->\nold\n");
        let error = Page::default().fill(&text, &results()).unwrap_err();
        assert!(error.contains("no `<!-- end"), "{error}");
    }

    #[test]
    fn tables_by_hand_are_found() {
        let table = "| what | figure | goal | met |\n|---|---|---|---|\n";
        let text = format!("| name | about |\n\n{table}\n{BEGIN}table x -->\n{table}{END}\n");
        assert_eq!(bare_tables(&text), [3]);
        let marked = format!("{BY_HAND}commit 1895041 -->\n\n{table}\ntext\n{table}");
        assert_eq!(bare_tables(&marked), [7]);
    }
}
