//! A `bpftune` daemon of our own, confined to given namespaces.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value as Json;

use crate::{Error, Result, netns::Netns};

/// Where the `bpftune` binary is: beside this program, or one folder up where this is a test.
///
/// # Errors
/// Where it has not been built.
pub fn binary() -> Result<PathBuf> {
    let me = std::env::current_exe().map_err(Error::doing("cannot find this program"))?;
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("bpftune"))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::other(
                "no bpftune binary beside this program",
                "build it: cargo build -p bpftune-tuners",
            )
        })
}

/// Where the rig is, a daemon that changes what a test tells it to; beside the `bpftune` binary.
///
/// # Errors
/// Where it has not been built.
pub fn rig() -> Result<PathBuf> {
    let rig = binary()?.with_file_name("rig");
    if rig.is_file() {
        return Ok(rig);
    }
    Err(Error::other(
        "no rig beside bpftune",
        "build it: cargo build -p lab",
    ))
}

/// A running daemon; killed and its state directory removed on drop.
pub struct Daemon {
    child: Option<Child>,
    binary: PathBuf,
    state: Arc<tempfile::TempDir>,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    /// From starting it until it said that it is ready.
    pub ready_after: Duration,
}

/// What a daemon says of its knobs at one moment.
pub struct Knobs(Vec<Json>);

impl Knobs {
    /// Changes and reversals over all of them.
    #[must_use]
    pub fn changes(&self) -> (u64, u64) {
        let sum = |key: &str| self.0.iter().filter_map(|knob| knob[key].as_u64()).sum();
        (sum("changes"), sum("reversals"))
    }

    /// How many differ from their original values.
    #[must_use]
    pub fn lasting(&self) -> u64 {
        let differs =
            |knob: &&Json| !knob["original"].is_null() && knob["original"] != knob["current"];
        self.0.iter().filter(differs).count() as u64
    }

    /// Whether the daemon has yet to decide whether a change stays.
    #[must_use]
    pub fn on_trial(&self) -> bool {
        self.0.iter().any(|knob| knob["on_trial"] == true)
    }
}

impl Daemon {
    /// Starts it for these namespaces only, and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not get ready in 10 s; its log is in the error.
    pub fn start(binary: &Path, netns: &[&Netns], args: &[&str]) -> Result<Daemon> {
        let state = tempfile::tempdir().map_err(Error::doing("cannot make a directory"))?;
        Daemon::start_in(binary, Arc::new(state), netns, args)
    }

    /// The same in the state directory of another daemon, which is dead.
    ///
    /// # Errors
    /// As above.
    pub fn start_in(
        binary: &Path,
        state: Arc<tempfile::TempDir>,
        netns: &[&Netns],
        args: &[&str],
    ) -> Result<Daemon> {
        Daemon::launch(binary, state, &["run"], netns, args)
    }

    /// A daemon with the classic flags, of which `-s` must be one: its log is read.
    ///
    /// # Errors
    /// As above.
    pub fn start_classic(binary: &Path, netns: &[&Netns], flags: &[&str]) -> Result<Daemon> {
        let state = tempfile::tempdir().map_err(Error::doing("cannot make a directory"))?;
        Daemon::launch(binary, Arc::new(state), flags, netns, &[])
    }

    fn launch(
        binary: &Path,
        state: Arc<tempfile::TempDir>,
        first: &[&str],
        netns: &[&Netns],
        args: &[&str],
    ) -> Result<Daemon> {
        let mut command = Command::new(binary);
        command
            .args(first)
            .arg("--state-dir")
            .arg(state.path().join("state"));
        command.arg("--control").arg(state.path().join("control"));
        for netns in netns {
            command.arg("--netns").arg(netns.path());
        }
        command
            .args(args)
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .env("NO_COLOR", "1");
        let started = Instant::now();
        let mut child = command
            .spawn()
            .map_err(Error::doing(format!("cannot start {}", binary.display())))?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let (ready, is_ready) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let reader = std::thread::spawn({
            let log = log.clone();
            move || {
                for line in lines.map_while(std::io::Result::ok) {
                    if line.contains("ready after") {
                        let _ = ready.send(started.elapsed());
                    }
                    log.lock().expect("no panic under the lock").push(line);
                }
            }
        });
        let mut daemon = Daemon {
            child: Some(child),
            binary: binary.to_owned(),
            state,
            log,
            reader: Some(reader),
            ready_after: Duration::ZERO,
        };
        match is_ready.recv_timeout(Duration::from_secs(10)) {
            Ok(after) => daemon.ready_after = after,
            Err(_) => {
                let log = daemon.log().join("\n");
                return Err(Error::other("bpftune did not get ready", log));
            }
        }
        Ok(daemon)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Its state directory's parent, which outlives it while this is held.
    #[must_use]
    pub fn state(&self) -> Arc<tempfile::TempDir> {
        self.state.clone()
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic under the lock").clone()
    }

    /// Runs a command of the binary against it: its exit status, standard output and error.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn command(&self, args: &[&str]) -> Result<(Option<i32>, String, String)> {
        command(&self.binary, &self.state, args)
    }

    /// `bpftune status --json`.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn status(&self) -> Result<Json> {
        let (_, out, err) = self.command(&["status", "--json"])?;
        serde_json::from_str(&out).map_err(|_| Error::other("bpftune status", err))
    }

    /// Changes and reversals over all knobs.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn changes(&self) -> Result<(u64, u64)> {
        Ok(self.knobs()?.changes())
    }

    /// Its knobs as `bpftune status` has them.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn knobs(&self) -> Result<Knobs> {
        let mut status = self.status()?;
        match status["knobs"].take() {
            Json::Array(knobs) => Ok(Knobs(knobs)),
            _ => Err(Error::other("bpftune status", "it names no knobs")),
        }
    }

    /// Its reverter's process, 0 where it has none.
    #[must_use]
    pub fn reverter(&self) -> u32 {
        let parent = self.pid();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .find(|pid| {
                // "42 (bpftune-revert) S 41 ..."
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.rsplit_once(") ")
                    .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok())
                    == Some(parent)
            })
            .unwrap_or(0)
    }

    /// Kills the daemon and its reverter, as an OOM killer or a power cut may: what they left stays.
    ///
    /// # Errors
    /// As [`Daemon::stop`].
    pub fn kill_with_reverter(&mut self) -> Result<()> {
        // A stopped daemon does not notice that its reverter is gone.
        let _ = kill(Pid::from_raw(self.pid() as i32), Signal::SIGSTOP);
        match self.reverter() {
            0 => {}
            reverter => {
                let _ = kill(Pid::from_raw(reverter as i32), Signal::SIGKILL);
            }
        }
        self.stop(Signal::SIGKILL).map(|_| ())
    }

    /// Sends a signal and waits for the end; gives the exit status.
    ///
    /// # Errors
    /// Where it does not end within 5 s.
    pub fn stop(&mut self, signal: Signal) -> Result<Option<i32>> {
        let Some(mut child) = self.child.take() else {
            return Ok(None);
        };
        let _ = kill(Pid::from_raw(child.id() as i32), signal);
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match child.try_wait() {
                Ok(Some(status)) => {
                    if let Some(reader) = self.reader.take() {
                        let _ = reader.join();
                    }
                    return Ok(status.code());
                }
                _ if Instant::now() > deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(Error::other(
                        "bpftune did not end",
                        format!("{signal} was sent 5 s ago"),
                    ));
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// Runs a command of the binary with a daemon's directories, also when the daemon is dead.
///
/// # Errors
/// Where it cannot be started.
pub fn command(
    binary: &Path,
    state: &tempfile::TempDir,
    args: &[&str],
) -> Result<(Option<i32>, String, String)> {
    let output = Command::new(binary)
        .args(args)
        .arg("--state-dir")
        .arg(state.path().join("state"))
        .arg("--control")
        .arg(state.path().join("control"))
        .output()
        .map_err(Error::doing(format!("cannot start {}", binary.display())))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    ))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A failing test wants to know what the daemon saw.
            eprintln!("{}", self.log().join("\n"));
        }
        // SIGTERM, so that values are restored.
        let _ = self.stop(Signal::SIGTERM);
    }
}
