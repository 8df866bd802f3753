//! Rows and curves: what a run found, beside its goals.

use std::{fs, io, path::Path, process::Command, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::stats::{self, Ratio};

/// A figure, and its goal where it has one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: String,
    /// The median.
    pub(crate) ours: f64,
    pub(crate) rival: Option<f64>,
    pub(crate) rival_name: Option<String>,
    /// Ours by the rival's, with its interval of 95 % confidence.
    pub(crate) ratio: Option<Ratio>,
    pub(crate) samples: usize,
    pub(crate) goal: Option<String>,
    pub(crate) met: Option<bool>,
    pub(crate) machine: String,
    pub(crate) kernel: String,
    pub(crate) commit: String,
    pub(crate) date: String,
}

impl Row {
    /// A figure alone.
    pub(crate) fn figure(name: impl Into<String>, ours: f64, unit: &str, samples: usize) -> Self {
        Self {
            name: name.into(),
            unit: unit.into(),
            ours,
            rival: None,
            rival_name: None,
            ratio: None,
            samples,
            goal: None,
            met: None,
            machine: String::new(),
            kernel: String::new(),
            commit: String::new(),
            date: String::new(),
        }
    }

    /// Two figures and their ratio.
    pub(crate) fn compared(
        name: impl Into<String>,
        unit: &str,
        ours: &[f64],
        rival: (&str, &[f64]),
    ) -> Self {
        let mut row = Self::figure(name, stats::median(ours), unit, ours.len());
        row.rival = Some(stats::median(rival.1));
        row.rival_name = Some(rival.0.into());
        row.ratio = Some(stats::ratio(ours, rival.1));
        row
    }

    pub(crate) fn rival(mut self, name: &str, figure: f64) -> Self {
        self.rival = Some(figure);
        self.rival_name = Some(name.into());
        self
    }

    fn judged(self) -> f64 {
        self.ratio.map_or(self.ours, |ratio| ratio.value)
    }

    fn goal_unit(&self) -> &str {
        if self.ratio.is_some() {
            "x"
        } else {
            &self.unit
        }
    }

    /// The goal is of the ratio where there is one.
    pub(crate) fn at_most(mut self, goal: f64) -> Self {
        self.goal = Some(format!("at most {goal} {}", self.goal_unit()).trim().into());
        self.met = Some(self.clone().judged() <= goal);
        self
    }

    pub(crate) fn at_least(mut self, goal: f64) -> Self {
        self.goal = Some(
            format!("at least {goal} {}", self.goal_unit())
                .trim()
                .into(),
        );
        self.met = Some(self.clone().judged() >= goal);
        self
    }
}

/// Points of one rival.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Curve {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) series: Vec<Series>,
}

impl Curve {
    pub(crate) fn new(title: &str, x: &str, y: &str) -> Self {
        Self {
            title: title.into(),
            x: x.into(),
            y: y.into(),
            series: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, name: &str, x: f64, y: f64) {
        if let Some(series) = self.series.iter_mut().find(|series| series.name == name) {
            series.points.push((x, y));
        } else {
            self.series.push(Series {
                name: name.into(),
                points: vec![(x, y)],
            });
        }
    }
}

/// How busy others kept the machine during one part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Busy {
    pub(crate) part: String,
    pub(crate) processors: f64,
}

/// All of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) command: String,
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) machine: String,
    pub(crate) kernel: String,
    pub(crate) libc: String,
    pub(crate) quick: bool,
    pub(crate) seconds: f64,
    pub(crate) others: Vec<Busy>,
    pub(crate) rows: Vec<Row>,
    pub(crate) curves: Vec<Curve>,
    /// What was left out, and what else a reader must know.
    pub(crate) notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(quick: bool) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let first = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let memory = first(&read("/proc/meminfo"), "MemTotal");
        let kib: f64 = memory
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0.0);
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let cpuinfo = read("/proc/cpuinfo");
        let virtual_machine = if cpuinfo.contains("hypervisor") {
            "virtual machine, "
        } else {
            ""
        };
        Self {
            command: format!(
                "cargo xtask bench spawn{}",
                if quick { " --quick" } else { "" }
            ),
            date: date(),
            commit: commit(),
            machine: format!(
                "{virtual_machine}{cpus} processors ({}), {:.0} GiB",
                first(&cpuinfo, "model name"),
                kib / 1048576.0
            ),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            libc: libc_version(),
            quick,
            ..Self::default()
        }
    }

    pub(crate) fn row(&mut self, mut row: Row) {
        row.machine.clone_from(&self.machine);
        row.kernel.clone_from(&self.kernel);
        row.commit.clone_from(&self.commit);
        row.date.clone_from(&self.date);
        eprintln!("  {}", line(&row));
        self.rows.push(row);
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        eprintln!("  note: {note}");
        self.notes.push(note);
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        fs::write(path, self.json()? + "\n")
    }

    pub(crate) fn json(&self) -> io::Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            io::Error::new(
                error.kind(),
                format!("{path}: {error}; `cargo xtask bench spawn` makes it"),
            )
        })?;
        Ok(serde_json::from_str(&text)?)
    }

    /// A table in Markdown, which a terminal shows as well.
    pub(crate) fn table(&self) -> String {
        let mut out = String::from("| what | figure | goal | met |\n|---|---|---|---|\n");
        for row in &self.rows {
            out += &line(row);
            out.push('\n');
        }
        out
    }

    /// One line on how quiet the machine was.
    pub(crate) fn quiet(&self) -> String {
        let most = self.others.iter().map(|busy| busy.processors);
        let mean = most.clone().sum::<f64>() / self.others.len().max(1) as f64;
        let worst = self
            .others
            .iter()
            .max_by(|a, b| a.processors.total_cmp(&b.processors));
        let Some(worst) = worst else {
            return String::new();
        };
        format!(
            "Other programs kept {mean:.2} processors busy on average of the parts, at most {:.2} ({}){}.",
            worst.processors,
            worst.part,
            if worst.processors > 0.3 {
                ": the machine was BUSY, which costs most those that sleep and are woken often, so ratios of throughput are larger than on a quiet one, and figures that were taken at different times compare badly"
            } else {
                ""
            }
        )
    }
}

fn line(row: &Row) -> String {
    let mut figure = shown(row.ours, &row.unit);
    if let (Some(rival), Some(name)) = (row.rival, &row.rival_name) {
        figure += &format!("; {name}: {}", shown(rival, &row.unit));
    }
    if let Some(Ratio { value, low, high }) = row.ratio {
        figure += &format!("; {} x ({} to {})", two(value), two(low), two(high));
    }
    let met = match row.met {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    };
    let goal = row.goal.as_deref().unwrap_or_default();
    format!("| {} | {figure} | {goal} | {met} |", row.name)
}

/// Two digits behind the point, or three that say something.
fn two(value: f64) -> String {
    if value < 0.01 {
        format!("{value:.5}")
    } else if value < 0.1 {
        format!("{value:.3}")
    } else if value < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}

pub(crate) fn shown(value: f64, unit: &str) -> String {
    let number = if value >= 1000.0 {
        let digits = format!("{value:.0}");
        let (head, tail) = digits.split_at(digits.len() - 3);
        format!("{head},{tail}")
    } else if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value < 0.1 {
        format!("{value:.3}")
    } else {
        format!("{value:.1}")
    };
    format!("{number} {unit}").trim().to_owned()
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(program)
        .args(args)
        .current_dir(root)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn commit() -> String {
    let commit = output("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_default();
    match output("git", &["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if !changes.is_empty() => format!("{commit} with changes"),
        _ => commit,
    }
}

#[cfg(target_env = "gnu")]
fn libc_version() -> String {
    // SAFETY: returns a static string.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    format!("glibc {}", version.to_string_lossy())
}

#[cfg(not(target_env = "gnu"))]
fn libc_version() -> String {
    "not glibc".into()
}

/// Today in UTC.
fn date() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let days = now.map_or(0, |now| now.as_secs() / 86400) as i64;
    // Days to a civil date: eras of 400 years, years that begin in March.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
