//! Tuners of the system, of what the host has once.

mod common;

use std::num::NonZero;

use common::until;
use lab::{
    daemon::{Daemon, binary},
    network::HostValues,
};
use nix::{
    sys::{
        mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap},
        signal::{Signal, kill},
    },
    unistd::Pid,
};

fn max_map_count() -> i64 {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    text.trim().parse().unwrap()
}

/// Calls `f` while this process has so many mappings more.
fn with_mappings(count: usize, f: impl FnOnce()) {
    let page = 65536;
    let length = NonZero::new(count * page).unwrap();
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: new memory at an address of the kernel's choice, which nobody reads or writes.
    unsafe {
        let all = mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE).unwrap();
        for at in (0..count).step_by(2) {
            mprotect(all.byte_add(at * page), page, ProtFlags::PROT_NONE).unwrap();
        }
        f();
        munmap(all, count * page).unwrap();
    }
}

#[test]
fn a_process_with_many_mappings_gets_room_before_it_is_refused() {
    need_root!();
    let mut values = HostValues::default();
    values.set("vm.max_map_count", "65530").unwrap();
    let daemon = Daemon::start(&binary().unwrap(), &[], &["--tuner", "vm-maps"]).unwrap();
    with_mappings(20_000, || {});
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(max_map_count(), 65_530, "there was room");
    with_mappings(40_000, || {
        until("the limit rises", || max_map_count() == 131_072);
    });
    drop(daemon);
    assert_eq!(max_map_count(), 65_530, "restored");
}

/// Loop devices that stand on memory, as the lab's slow disks do.
fn disks_on_memory() -> Vec<String> {
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    devices
        .filter(|device| {
            std::fs::read_to_string(device.path().join("loop/backing_file"))
                .is_ok_and(|file| file.starts_with("/dev/shm/"))
        })
        .map(|device| device.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_lab_that_is_interrupted_takes_down_what_it_set_up() {
    need_root!();
    let dirty = || std::fs::read_to_string("/proc/sys/vm/dirty_ratio").unwrap();
    let (before, had) = (dirty(), disks_on_memory());
    let daemon = binary().unwrap();
    let mut lab = std::process::Command::new(daemon.with_file_name("lab"))
        .args(["system", "--only", "a large writer alone", "--runs", "1"])
        .arg("--bpftune")
        .arg(&daemon)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut ended = None;
    until("it set up a disk, or ended for want of one", || {
        ended = lab.try_wait().unwrap();
        ended.is_some() || (disks_on_memory() != had && dirty() != before)
    });
    if ended.is_some() {
        println!("SKIP: the lab cannot make a slow disk here");
        return;
    }
    kill(Pid::from_raw(lab.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(lab.wait().unwrap().code(), Some(128 + 2));
    assert_eq!(disks_on_memory(), had);
    assert_eq!(dirty(), before);
}
