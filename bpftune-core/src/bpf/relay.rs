//! One attachment for the programs of several objects on one tracepoint.
//!
//! The first program on a tracepoint is called directly; with a second one the kernel goes through a list of pointers
//! (`tracepoint_add_func`, `__traceiter_*`), which costs each event twice as much again. So of the programs that can hand
//! on (`bpftune/relay.h`) only the first of a line is attached, and each tail-calls the next. A program's runs and time, as
//! `kernel.bpf_stats_enabled` has them, are then the whole line's, and stand with its first.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    ptr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use libbpf_rs::{MapCore, MapFlags, MapHandle, libbpf_sys};

/// The map by which a program of that name finds the next one.
pub(super) fn next_of(program: &str) -> String {
    format!("{program}_next")
}

/// Of one line; the kernel follows no more than 33 tail calls (`MAX_TAIL_CALL_CNT`).
const MOST: usize = 8;

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// Programs on one tracepoint, each of which hands on to the next.
struct Line {
    section: String,
    stations: Vec<Station>,
    /// The first one's attachment.
    attached: OwnedFd,
}

impl Line {
    /// After the one at that place has left.
    fn close_gap(&mut self, at: usize) -> Result<(), libbpf_rs::Error> {
        let following = self.stations.get(at);
        match (at.checked_sub(1), following) {
            (Some(before), _) => self.stations[before].hand_on(following),
            // Attached before the other one is detached: rather an event twice than none.
            (None, Some(first)) => {
                self.attached = first.attach()?;
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }
}

struct Station {
    id: u64,
    program: OwnedFd,
    next: MapHandle,
}

impl Station {
    /// Hands on to `following`, or to nobody.
    fn hand_on(&self, following: Option<&Station>) -> Result<(), libbpf_rs::Error> {
        let first = 0u32.to_ne_bytes();
        match following {
            Some(following) => {
                let program = following.program.as_raw_fd().to_ne_bytes();
                self.next.update(&first, &program, MapFlags::ANY)
            }
            None => self.next.delete(&first),
        }
    }

    /// Attaches it by itself.
    fn attach(&self) -> io::Result<OwnedFd> {
        // SAFETY: no name, as for programs that know their tracepoint by BTF, and a descriptor that lives.
        let fd =
            unsafe { libbpf_sys::bpf_raw_tracepoint_open(ptr::null(), self.program.as_raw_fd()) };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        // SAFETY: the kernel has just made it, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// A program's place in a line, which it leaves on drop.
pub(super) struct Place(u64);

fn lines() -> MutexGuard<'static, Vec<Line>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    /// At the end of a line of its section, or as the first of a new one.
    pub(super) fn take(
        section: &str,
        program: &impl AsFd,
        next: MapHandle,
    ) -> Result<Place, libbpf_rs::Error> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let station = Station {
            id,
            program: program.as_fd().try_clone_to_owned()?,
            next,
        };
        let mut lines = lines();
        let open = |line: &&mut Line| line.section == section && line.stations.len() < MOST;
        if let Some(line) = lines.iter_mut().find(open)
            && let Some(last) = line.stations.last()
            && last.hand_on(Some(&station)).is_ok()
        {
            line.stations.push(station);
            return Ok(Place(id));
        }
        let attached = station.attach()?;
        lines.push(Line {
            section: section.to_owned(),
            stations: vec![station],
            attached,
        });
        Ok(Place(id))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = lines();
        let of = |line: &Line| {
            line.stations
                .iter()
                .position(|station| station.id == self.0)
        };
        let Some((line, at)) = (0..lines.len()).find_map(|line| Some((line, of(&lines[line])?)))
        else {
            return;
        };
        let gone = lines[line].stations.remove(at);
        if lines[line].stations.is_empty() {
            lines.swap_remove(line);
            return;
        }
        if let Err(error) = lines[line].close_gap(at) {
            let line = &mut lines[line];
            tracing::warn!(
                "{}: a program that nobody reads stays attached: {error}",
                line.section
            );
            // Those behind it are still handed on to.
            line.stations.insert(at, gone);
            return;
        }
        // What leaves hands on no more, so that nothing runs twice while it ends.
        let _ = gone.hand_on(None);
    }
}
