//! A disk of this host, files on it, and reads and writes that no memory answers.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    fs::{self, File, OpenOptions},
    io::Write,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Error, Result, bpf_stats::number, network::HostValues};

/// Where files are made: on a disk, unlike /tmp on many hosts.
const FOLDER: &str = "/var/tmp";

/// The disk below [`FOLDER`], and what was written to its queue; put back on drop.
pub(super) struct Disk {
    name: String,
    host: HostValues,
}

impl Disk {
    pub(super) fn new() -> Result<Disk> {
        let name = name().ok_or_else(|| Error::other(MISSING, "mount one there"))?;
        Ok(Disk {
            name,
            host: HostValues::default(),
        })
    }

    /// Writes a file of its queue: "scheduler".
    pub(super) fn set(&mut self, file: &str, value: &str) -> Result<()> {
        let path = format!("/sys/block/{}/queue/{file}", self.name);
        self.host.set(&path, value)
    }
}

const MISSING: &str = "there is no disk below /var/tmp whose queue could be changed";

/// Why there is none, if so.
pub(super) fn missing() -> Option<&'static str> {
    name().is_none().then_some(MISSING)
}

fn name() -> Option<String> {
    let dev = fs::metadata(FOLDER).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(dev), nix::sys::stat::minor(dev));
    let mut folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    if folder.join("partition").exists() {
        folder.pop();
    }
    let has_queue = folder.join("queue/nr_requests").exists();
    has_queue.then(|| Some(folder.file_name()?.to_str()?.to_owned()))?
}

/// A file of that many MiB, which goes with this.
pub(super) struct Data {
    file: tempfile::NamedTempFile,
    pub(super) bytes: u64,
}

impl Data {
    pub(super) fn new(mib: u64) -> Result<Data> {
        let mut file = tempfile::NamedTempFile::new_in(FOLDER)
            .map_err(Error::doing("cannot make a file in /var/tmp"))?;
        let mut block = vec![0u8; 1 << 20];
        for at in 0..mib {
            // No two alike, for who would store zeros?
            block
                .iter_mut()
                .step_by(64)
                .for_each(|byte| *byte = fastrand::u8(..));
            block[..8].copy_from_slice(&at.to_ne_bytes());
            file.write_all(&block)
                .map_err(Error::doing("cannot write a file"))?;
        }
        let data = Data {
            file,
            bytes: mib << 20,
        };
        data.file
            .as_file()
            .sync_all()
            .map_err(Error::doing("cannot write a file"))?;
        data.forget();
        Ok(data)
    }

    /// Takes it out of memory.
    pub(super) fn forget(&self) {
        let fd = self.file.as_file().as_raw_fd();
        // SAFETY: posix_fadvise(2) takes numbers only.
        unsafe { libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED) };
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    fn direct(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        options
            .open(self.path())
            .map_err(Error::doing("cannot open a file with O_DIRECT"))
    }
}

/// Memory at a page's start, as O_DIRECT wants it.
struct Aligned {
    memory: *mut u8,
    layout: Layout,
}

impl Aligned {
    fn new(bytes: usize) -> Aligned {
        let layout = Layout::from_size_align(bytes, 4096).expect("a size of some MiB");
        // SAFETY: the size is not 0.
        let memory = unsafe { alloc_zeroed(layout) };
        assert!(!memory.is_null(), "no memory");
        Aligned { memory, layout }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated with this size, filled with zeros, and borrowed as long as this is.
        unsafe { std::slice::from_raw_parts_mut(self.memory, self.layout.size()) }
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody borrows it any more.
        unsafe { dealloc(self.memory, self.layout) };
    }
}

/// Reads pages here and there, one after the other; how long each took.
pub(super) fn read_pages(data: &Data, how_long: Duration) -> Result<Vec<Duration>> {
    let (file, mut page) = (data.direct()?, Aligned::new(4096));
    let (start, mut took) = (Instant::now(), Vec::new());
    while start.elapsed() < how_long {
        let at = fastrand::u64(..data.bytes / 4096) * 4096;
        let began = Instant::now();
        file.read_exact_at(page.bytes(), at)
            .map_err(Error::doing("cannot read a page"))?;
        took.push(began.elapsed());
    }
    Ok(took)
}

/// The time that 99 of 100 took no longer than, milliseconds.
pub(super) fn slowest_hundredth(took: Vec<Duration>) -> f64 {
    slowest(took, 100)
}

/// The time that all but one of so many took no longer than, milliseconds.
pub(super) fn slowest(mut took: Vec<Duration>, of: usize) -> f64 {
    took.sort_unstable();
    let rank = (took.len() * (of - 1)).div_ceil(of);
    took.get(rank.clamp(1, took.len().max(1)) - 1)
        .map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0)
}

/// What a [`Writer`] writes at a time.
#[derive(Clone, Copy)]
pub(super) enum Blocks {
    /// A MiB after the other.
    InARow,
    /// 4 KiB here and there.
    Scattered,
}

impl Blocks {
    fn words(self) -> [&'static str; 2] {
        match self {
            Blocks::InARow => ["--rw=write", "--bs=1m"],
            Blocks::Scattered => ["--rw=randwrite", "--bs=4k"],
        }
    }
}

/// One process that writes, 64 at a time (fio, libaio), past the page cache, until this goes.
pub(super) struct Writer {
    fio: Child,
    _data: Data,
}

/// Why there is none, if so.
pub(super) fn no_writer() -> Option<&'static str> {
    let found = Command::new("fio").arg("--version").output().is_ok();
    (!found).then_some("no fio: apt-get install fio")
}

impl Writer {
    pub(super) fn start(data: Data, blocks: Blocks) -> Result<Writer> {
        let fio = Command::new("fio")
            .args(["--name=writer", "--direct=1"])
            .args(blocks.words())
            .args(["--ioengine=libaio", "--iodepth=64", "--time_based"])
            .args(["--runtime=3600", "--thread", "--output=/dev/null"])
            .arg(format!("--filename={}", data.path().display()))
            .arg(format!("--size={}", data.bytes))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(Error::doing("cannot start fio"))?;
        Ok(Writer { fio, _data: data })
    }

    /// Bytes written so far.
    pub(super) fn bytes(&self) -> u64 {
        number(&format!("/proc/{}/io", self.fio.id()), "write_bytes:").unwrap_or(0)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.fio.kill();
        let _ = self.fio.wait();
    }
}

/// A file mapped into memory.
pub(super) struct Mapped {
    memory: *mut libc::c_void,
    bytes: usize,
}

impl Mapped {
    pub(super) fn new(data: &Data) -> Result<Mapped> {
        let file = File::open(data.path()).map_err(Error::doing("cannot open a file"))?;
        let bytes = data.bytes as usize;
        // SAFETY: a new mapping of an open file, of no address of ours.
        let memory = unsafe {
            let (prot, flags) = (libc::PROT_READ, libc::MAP_SHARED);
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                prot,
                flags,
                file.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(Error::doing("cannot map a file")(
                std::io::Error::last_os_error(),
            ));
        }
        Ok(Mapped { memory, bytes })
    }

    /// Reads one byte of a page.
    pub(super) fn touch(&self, page: usize) -> u8 {
        assert!((page + 1) * 4096 <= self.bytes);
        // SAFETY: within the mapping of a file that nobody makes shorter.
        unsafe { self.memory.cast::<u8>().add(page * 4096).read_volatile() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and borrowed by nobody.
        unsafe { libc::munmap(self.memory, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_hundredth_is_by_rank() {
        let took = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(slowest_hundredth(took), 198.0);
        assert!(slowest_hundredth(Vec::new()).is_nan());
        assert_eq!(slowest_hundredth(vec![Duration::from_millis(7)]), 7.0);
    }

    #[test]
    fn pages_are_read_past_memory_and_mapped() {
        if let Some(missing) = missing() {
            println!("SKIP: {missing}");
            return;
        }
        let data = Data::new(2).unwrap();
        let took = read_pages(&data, Duration::from_millis(20)).unwrap();
        assert!(!took.is_empty());
        let mapped = Mapped::new(&data).unwrap();
        assert_eq!(
            (mapped.touch(0), mapped.touch(256)),
            (0, 1),
            "each MiB begins with its number"
        );
        if let Some(missing) = no_writer() {
            println!("SKIP: {missing}");
            return;
        }
        let writer = Writer::start(Data::new(4).unwrap(), Blocks::InARow).unwrap();
        while writer.bytes() < 4 << 20 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
