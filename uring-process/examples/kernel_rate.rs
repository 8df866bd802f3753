//! What a process costs by the kernel's own operation, beside vfork, posix_spawn and the executor of stock kernels.
//!
//! For a kernel that has the operation: `cargo xtask vm rate`. Rivals take turns in each round; a ratio is that of one
//! round, so what the machine does at the moment falls out.

use std::{
    ffi::{CString, c_char, c_int, c_void},
    fs, io,
    os::unix::fs::PermissionsExt,
    ptr::{null, null_mut},
    time::Instant,
};

use io_uring::{IoUring, squeue::Entry};
use uring_process::{
    Command, ExecPlan,
    ring::{Event, Spawner},
};
use uring_sys_ext::{
    discovery::{self, Candidates},
    opcode::{self, OpCode},
};

/// Processes of one rival in one round.
const EACH: usize = 128;
const ROUNDS: usize = 25;
const BATCH: usize = 32;

fn reap() -> io::Result<()> {
    let mut status = 0;
    // SAFETY: writes the status.
    match unsafe { libc::waitpid(-1, &raw mut status, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ if status != 0 => Err(io::Error::other("a child failed")),
        _ => Ok(()),
    }
}

fn checked(result: i32) -> io::Result<()> {
    match result {
        ..0 => Err(io::Error::from_raw_os_error(-result)),
        _ => Ok(()),
    }
}

struct Bench {
    program: CString,
    envp: [*const c_char; 1],
    stack: Vec<u128>,
    number: OpCode,
    ring: IoUring,
    plan: ExecPlan,
    spawner_ring: IoUring,
    spawner: Spawner,
}

impl Bench {
    fn vfork(&mut self) -> io::Result<()> {
        extern "C" fn child(program: *mut c_void) -> c_int {
            let program: *const c_char = program.cast();
            let argv = [program, null()];
            // SAFETY: strings and arrays that end in null; the caller waits, so they stay.
            unsafe {
                libc::execve(program, argv.as_ptr(), argv[1..].as_ptr());
                libc::_exit(127)
            }
        }
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: the child has a stack of its own until its exec, for which the call waits.
        let pid = unsafe {
            let top = self.stack.as_mut_ptr_range().end.cast();
            libc::clone(child, top, flags, self.program.as_ptr().cast_mut().cast())
        };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        reap()
    }

    fn posix_spawn(&mut self) -> io::Result<()> {
        let argv = [self.program.as_ptr().cast_mut(), null_mut()];
        let mut pid = 0;
        // SAFETY: all are valid for the time of the call.
        let errno = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                argv[0],
                null(),
                null(),
                argv.as_ptr(),
                self.envp.as_ptr().cast(),
            )
        };
        checked(-errno)?;
        reap()
    }

    fn operation(&mut self, batch: usize) -> io::Result<()> {
        let argv = [self.program.as_ptr(), null()];
        let entry: Entry = opcode::Process::new(self.number, libc::AT_FDCWD, self.program.as_ptr())
            .argv(argv.as_ptr())
            .envp(self.envp.as_ptr())
            .build();
        for _ in 0..batch {
            // SAFETY: what the entry points at lives until all completions are here.
            unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        }
        let mut done = 0;
        while done < batch {
            self.ring.submit_and_wait(1)?;
            for completion in self.ring.completion() {
                checked(completion.result())?;
                done += 1;
            }
        }
        (0..batch).try_for_each(|_| reap())
    }

    fn stock(&mut self, batch: usize) -> io::Result<()> {
        for _ in 0..batch {
            self.spawner.submit(&self.plan)?;
        }
        while self.spawner.in_flight() > 0 {
            self.spawner.push(&mut self.spawner_ring.submission());
            self.spawner_ring.submit_and_wait(1)?;
            for completion in self.spawner_ring.completion() {
                self.spawner
                    .complete(completion.user_data(), completion.result());
            }
            while let Some(event) = self.spawner.next_event() {
                if let Event::Failed { error, .. } = event {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }
}

type Rival = (&'static str, usize, fn(&mut Bench) -> io::Result<()>);

const RIVALS: [Rival; 6] = [
    ("vfork + exec", 1, Bench::vfork),
    ("posix_spawn", 1, Bench::posix_spawn),
    ("the operation, alone", 1, |b| b.operation(1)),
    ("the operation, 32 an enter", BATCH, |b| b.operation(BATCH)),
    ("executor clone3, alone", 1, |b| b.stock(1)),
    ("executor clone3, 32 at a time", BATCH, |b| b.stock(BATCH)),
];

fn quartiles(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: usize| values[(values.len() - 1) * share / 4];
    (at(1), at(2), at(3))
}

fn main() -> io::Result<()> {
    let found = discovery::get(&Candidates::default()).map_err(io::Error::other)?;
    let Some(number) = found.process else {
        println!("SKIP: this kernel has no process operation");
        return Ok(());
    };
    let path = std::env::temp_dir().join("kernel_rate_exit");
    fs::write(&path, EXIT)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    let spawner_ring = IoUring::new(256)?;
    let mut bench = Bench {
        program: CString::new(path.as_os_str().as_encoded_bytes())?,
        envp: [null()],
        stack: vec![0; 4096],
        number,
        ring: IoUring::new(64)?,
        plan: Command::new(&path).env_clear().plan()?,
        spawner: Spawner::new(&spawner_ring, 1)?,
        spawner_ring,
    };
    let mut times = vec![Vec::new(); RIVALS.len()];
    for round in 0..=ROUNDS {
        for at in 0..RIVALS.len() {
            // In another order each round; the first warms up.
            let at = (at + round) % RIVALS.len();
            let (_, batch, run) = RIVALS[at];
            let begin = Instant::now();
            for _ in 0..EACH / batch {
                run(&mut bench)?;
            }
            if round > 0 {
                times[at].push(begin.elapsed().as_secs_f64() * 1e6 / EACH as f64);
            }
        }
    }
    fs::remove_file(&path)?;
    let against = |mine: usize, other: usize| {
        let ratios = times[mine].iter().zip(&times[other]).map(|(a, b)| a / b);
        let (low, median, high) = quartiles(ratios.collect());
        format!("{median:.2} ({low:.2} to {high:.2})")
    };
    println!(
        "| way, from the call to the child reaped | median, µs | of vfork + exec | of clone3, as many at a time |"
    );
    println!("|---|---|---|---|");
    for (at, (name, batch, _)) in RIVALS.iter().enumerate() {
        let stock = if *batch == 1 { 4 } else { 5 };
        let (_, median, _) = quartiles(times[at].clone());
        println!(
            "| {name} | {median:.0} | {} | {} |",
            against(at, 0),
            against(at, stock)
        );
    }
    println!(
        "{ROUNDS} rounds of {EACH} processes each; ratios within a round: median and quartiles"
    );
    Ok(())
}
