//! Many of them: spawns, and requests made at random.
//!
//! How many, the environment says: `GUEST_SPAWNS`, `GUEST_FUZZ`. The default is few.

use std::{env, fs, ptr::null_mut, time::Instant};

use io_uring::{IoUring, squeue::Flags};
use uring_sys_ext::{
    RawSqe,
    process::{Attributes, FdMapping, OpFlags},
};

use crate::guest::{Request, assert_no_child, guest, number, open_fds, push, results, ring};

fn count(name: &str, otherwise: usize) -> usize {
    env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Reaps all children, waiting for them.
fn reap(left: usize) {
    for _ in 0..left {
        // SAFETY: a null status is allowed.
        assert!(unsafe { libc::waitpid(-1, null_mut(), 0) } > 0);
    }
}

#[test]
fn spawns() {
    guest!();
    let total = count("GUEST_SPAWNS", 320);
    let fds = open_fds();
    let deferred = || {
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(64)
    };
    for mut ring in [ring(), deferred().unwrap()] {
        let start = Instant::now();
        for _ in 0..total / 64 {
            let mut requests: Vec<_> = (0..32)
                .map(|at| match at % 8 {
                    1 => Request::of_true().with(|a| a.setsid().uid(1000).gid(1000)),
                    2 => Request::of_true().map(0, 5).with(|a| a.fd_map_only()),
                    3 => Request::new("/no/such", &["x"]),
                    _ => Request::of_true(),
                })
                .collect();
            for request in &mut requests {
                push(&mut ring, &request.entry().user_data(1));
            }
            let done = results(&mut ring, 32);
            let failed = done.iter().filter(|(_, r)| *r == -libc::ENOENT).count();
            let ran = done.iter().filter(|(_, r)| *r > 0).count();
            assert_eq!((failed, ran), (4, 28), "{done:?}");
            reap(ran);
        }
        println!("{} in {:?}", total / 64 * 32, start.elapsed());
        assert_no_child();
    }
    assert_eq!(open_fds(), fds);
}

/// xorshift64*, for reproducible runs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 33) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A number as somebody who means harm would have it.
    fn number(&mut self) -> u64 {
        let small = self.below(64);
        let bit = 1u64 << self.below(64);
        let any = self.next();
        self.pick(&[
            0,
            1,
            small,
            bit,
            bit.wrapping_sub(1),
            any,
            u64::MAX,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0xffff_8880_0000_0000,
            0x7fff_ffff_f000,
        ])
    }
}

/// Memory that requests point at, good and bad.
struct Memory {
    paths: Vec<Vec<u8>>,
    arrays: Vec<Vec<*const libc::c_char>>,
    attributes: Vec<[Attributes; 2]>,
    maps: Vec<Vec<FdMapping>>,
    groups: Vec<u32>,
    pidfds: Vec<i32>,
    hole: *mut u8,
}

impl Memory {
    fn new() -> Self {
        let text = |text: &str| text.as_bytes().to_vec();
        let mut long = vec![b'x'; 8192];
        long.push(0);
        // SAFETY: a mapping of two pages, of which the second is taken away.
        let hole = unsafe {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let at = libc::mmap(null_mut(), 8192, prot, flags, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            libc::memset(at, 0x78, 4096);
            libc::munmap(at.byte_add(4096), 4096);
            at.cast()
        };
        let bad = std::ptr::without_provenance(8);
        Self {
            paths: vec![text("/bin/true\0"), text("/no/such\0"), text("\0"), long],
            arrays: vec![
                vec![c"true".as_ptr(), std::ptr::null()],
                vec![std::ptr::null()],
                vec![c"a".as_ptr(), bad, std::ptr::null()],
            ],
            attributes: vec![Default::default(); 64],
            maps: (0..64).map(|_| vec![FdMapping::default(); 4]).collect(),
            groups: vec![1, 2, u32::MAX, 4],
            pidfds: vec![-1; 64],
            hole,
        }
    }

    fn edge(&self, random: &mut Random) -> u64 {
        self.hole as u64 + 4096 - random.below(128)
    }

    fn attributes(&mut self, at: usize, random: &mut Random) -> u64 {
        let map = &mut self.maps[at];
        for entry in map.iter_mut() {
            entry.source = random.pick(&[0, 0, 0, 1, 2, -1, 999, i32::MIN]);
            entry.target = random.pick(&[10, 11, 12, 13, 14, 15, -1, 1023, 1024, i32::MAX]);
        }
        let mut new = Attributes::new();
        let on = |random: &mut Random| random.one_in(4);
        if on(random) {
            new = new.uid(random.pick(&[0, 1000, u32::MAX, random_id()]));
        }
        if on(random) {
            new = new.gid(random.pick(&[0, 1000, u32::MAX]));
        }
        if on(random) {
            let at = random.pick(&[self.groups.as_ptr() as u64, 8, self.hole as u64 + 4092]);
            let count = random.pick(&[0, 1, 2, 4, 65536, 65537, u32::MAX]);
            new = new.groups(std::ptr::without_provenance(at as usize), count);
        }
        if on(random) {
            new = new.setsid();
        }
        if on(random) {
            new = new.pgid(random.pick(&[0, -1, 1, i32::MAX]));
        }
        if on(random) {
            new = new.signal_mask(random.number());
        }
        if on(random) {
            new = new.signal_default(random.number());
        }
        if on(random) {
            new = new.cwd_fd(random.pick(&[0, -1, 3, libc::AT_FDCWD]));
        }
        if random.one_in(16) {
            new = new.cgroup_fd(random.pick(&[0, -1, 3]));
        }
        if random.one_in(64) {
            // Without those whose making takes long.
            let known = [
                libc::CLONE_NEWUTS,
                libc::CLONE_NEWPID,
                libc::CLONE_NEWUSER,
                libc::CLONE_NEWNS,
            ];
            let some = random.pick(&known) as u64;
            new = new.namespaces(random.pick(&[some, some, 0, 1, u64::MAX]));
        }
        if on(random) {
            let at = random.pick(&[self.maps[at].as_ptr() as u64, 8, self.hole as u64 + 4090]);
            let count = random.pick(&[0, 1, 2, 4, 1024, 1 << 20, u32::MAX]);
            new = new.fd_map(std::ptr::without_provenance(at as usize), count);
        }
        if on(random) {
            new = new.fd_map_only();
        }
        if random.one_in(8) {
            let good = &raw mut self.pidfds[at];
            let to = random.pick(&[good, good, std::ptr::without_provenance_mut(8)]);
            new = match random.below(3) {
                0 => new.pidfd(to),
                1 => new.pidfd_slot(random.pick(&[0, 1, 2, 1000, u32::MAX])),
                _ => new.pidfd_slot_alloc(to),
            };
        }
        let pair = &mut self.attributes[at];
        pair[0] = new;
        pair[1] = Attributes::new();
        // SAFETY: integers only, so any bytes are a value.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(pair.as_mut_ptr().cast::<u8>(), size_of_val(pair))
        };
        if random.one_in(4) {
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len() as u64) as usize;
                // Not where the kernel is to write: it would do so, to memory of the test.
                if !(64..72).contains(&at) {
                    bytes[at] = random.next() as u8;
                }
            }
        }
        bytes.as_ptr() as u64
    }

    fn entry(&mut self, at: usize, random: &mut Random) -> RawSqe {
        let edge = self.edge(random);
        let wild = random.number();
        // Most do not get as far as a process: that is where the checks are.
        let path = match random.below(40) {
            0 => self.paths[0].as_ptr() as u64,
            1..4 => self.paths[1].as_ptr() as u64,
            4..20 => self.paths[2].as_ptr() as u64,
            20..24 => self.paths[3].as_ptr() as u64,
            24..32 => edge,
            _ => wild,
        };
        let array = |random: &mut Random| {
            let good = random.below(self.arrays.len() as u64) as usize;
            let good = self.arrays[good].as_ptr() as u64;
            random.pick(&[good, good, good, 0, edge, wild])
        };
        let (argv, envp) = (array(random), array(random));
        let size = random.pick(&[96, 96, 96, 96, 104, 192, 95, 0, 4096, 4097, wild as u32]);
        let attributes = match random.below(8) {
            0 => (0, random.pick(&[0, size])),
            1 => (random.pick(&[edge, wild]), size),
            _ => (self.attributes(at, random), size),
        };
        let mut raw = RawSqe {
            opcode: number().get(),
            fd: random.pick(&[libc::AT_FDCWD, -1, 0, 3, wild as i32]),
            off: argv,
            addr: path,
            addr3: envp,
            pad2: attributes.0,
            len: attributes.1,
            op_flags: random.pick(&[0, 0, 0, 0x1000, 0x100, wild as u32]),
            user_data: at as u64,
            ..RawSqe::default()
        };
        if random.one_in(16) {
            raw.ioprio = random.pick(&[0x8000, 1, 2, 3, wild as u16]);
        }
        if random.one_in(16) {
            // Before Linux 6.16 one that drains waits for ever where an invalid one comes after it, of whatever
            // operation: io_uring/io_uring.c, req_need_defer().
            let not = Flags::SKIP_SUCCESS | Flags::IO_DRAIN;
            raw.flags = random.next() as u8 & !not.bits();
        }
        if random.one_in(32) {
            raw.buf_index = wild as u16;
            raw.file_index = random.next() as u32;
        }
        if random.one_in(32) {
            raw.personality = random.pick(&[1, 2, wild as u16]);
        }
        raw
    }
}

/// An id of nobody.
fn random_id() -> u32 {
    77_777
}

#[test]
fn requests_made_at_random_leave_the_kernel_well() {
    guest!();
    const BATCH: usize = 32;
    let total = count("GUEST_FUZZ", 20_000);
    let seed = count("GUEST_SEED", 1) as u64;
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut memory = Memory::new();
    let fds = open_fds();
    let start = Instant::now();
    let mut tally = std::collections::BTreeMap::<i32, usize>::new();
    let mut sent = 0;
    while sent < total {
        let builder = &mut IoUring::builder();
        if random.one_in(2) {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        let mut ring = builder.setup_submit_all().build(64).unwrap();
        ring.submitter().register_files_sparse(3).unwrap();
        ring.submitter().register_personality().unwrap();
        for _ in 0..200 {
            memory.pidfds.fill(-1);
            let mut to_exit = [false; BATCH];
            for (at, to_exit) in to_exit.iter_mut().enumerate() {
                let raw = memory.entry(at, &mut random);
                *to_exit = OpFlags::from_bits_retain(raw.ioprio).contains(OpFlags::EXIT);
                push(&mut ring, &raw.into());
            }
            let mut children = 0;
            for (at, result) in results(&mut ring, BATCH) {
                *tally.entry(result.min(1)).or_default() += 1;
                children += usize::from(result > 0 && !to_exit[at as usize]);
            }
            sent += BATCH;
            reap(children);
            for fd in &mut memory.pidfds {
                if *fd > 2 {
                    // SAFETY: a pidfd that was given to us, or the number of a slot, which is
                    // lower; of a failure the number is not open.
                    unsafe { libc::close(*fd) };
                }
            }
        }
        assert_no_child();
    }
    println!("{sent} in {:?}: {tally:?}", start.elapsed());
    assert_eq!(open_fds(), fds);
    // It works as before.
    assert_eq!(Request::of_true().ends(), 0);
    let _ = fs::read("/proc/self/status").unwrap();
}
