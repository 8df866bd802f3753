//! What a process costs by the kernel's own operation, beside vfork, posix_spawn and the executor of stock kernels.
//!
//! For a kernel that has the operation: `cargo xtask vm rate`. Rivals take turns in each round; a ratio is that of one
//! round, so what the machine does at the moment falls out. An executor is chosen once a process, so each of
//! `uring-process` has a process of its own, which works when it is told to.

use std::{
    ffi::{CString, c_char, c_int, c_void},
    io::{self, Read, Write},
    process::{ChildStdin, ChildStdout, Stdio},
    ptr::{null, null_mut},
    time::Instant,
};

use io_uring::IoUring;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use uring_process::{
    Command, ExecPlan,
    ring::{Event, Spawner},
};
use uring_sys_ext::{
    discovery::{self, Candidates},
    opcode::{self, OpCode},
    process::OpFlags,
};

/// Processes of one rival in one round.
const EACH: usize = 128;
const ROUNDS: usize = 25;
const BATCH: usize = 32;

/// In the machine, a static program that exits at once.
const PROGRAM: &str = "/bin/true";

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

/// The bare ways.
struct Bench {
    program: CString,
    argv: [*const c_char; 2],
    envp: [*const c_char; 1],
    stack: Vec<u128>,
    number: OpCode,
    ring: IoUring,
    helpers: [Helper; 2],
}

impl Bench {
    /// Returns when the child has executed.
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
        Ok(())
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

    /// Pushes entries of the operation.
    fn push(&mut self, batch: usize, flags: OpFlags) -> io::Result<()> {
        let entry = opcode::Process::new(self.number, libc::AT_FDCWD, self.program.as_ptr())
            .argv(self.argv.as_ptr())
            .envp(self.envp.as_ptr())
            .op_flags(flags)
            .build();
        for _ in 0..batch {
            // SAFETY: what the entry points at lives as long as this.
            unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Submits what was pushed, and waits until all have completed.
    fn complete(&mut self, batch: usize) -> io::Result<()> {
        let mut due = batch;
        while due > 0 {
            self.ring.submit_and_wait(due)?;
            for completion in self.ring.completion() {
                checked(completion.result())?;
                due -= 1;
            }
        }
        Ok(())
    }

    /// The same, and until all are reaped.
    fn finish(&mut self, batch: usize) -> io::Result<()> {
        self.complete(batch)?;
        (0..batch).try_for_each(|_| reap())
    }

    fn operation(&mut self, batch: usize) -> io::Result<()> {
        self.push(batch, OpFlags::empty())?;
        self.finish(batch)
    }

    /// The completion is that of the end, and there is nothing to reap.
    fn until_the_end(&mut self, batch: usize, flags: OpFlags) -> io::Result<()> {
        self.push(batch, OpFlags::EXIT | flags)?;
        self.complete(batch)
    }

    fn submit(&mut self) -> io::Result<()> {
        self.push(1, OpFlags::empty())?;
        self.ring.submit().map(drop)
    }
}

/// What a helper does: a plan on a ring, by whatever executor it was given.
struct Library {
    plan: ExecPlan,
    ring: IoUring,
    spawner: Spawner,
}

impl Library {
    /// Hands the starts over: they are on their way from here on.
    fn begin(&mut self, batch: usize) -> io::Result<()> {
        for _ in 0..batch {
            self.spawner.submit(&self.plan)?;
        }
        self.spawner.push(&mut self.ring.submission());
        Ok(())
    }

    /// Follows all to their ends.
    fn finish(&mut self) -> io::Result<()> {
        while self.spawner.in_flight() > 0 {
            self.ring.submit_and_wait(1)?;
            for completion in self.ring.completion() {
                self.spawner
                    .complete(completion.user_data(), completion.result());
            }
            while let Some(event) = self.spawner.next_event() {
                if let Event::Failed { error, .. } = event {
                    return Err(error.into());
                }
            }
            self.spawner.push(&mut self.ring.submission());
        }
        Ok(())
    }

    fn ring(&mut self, batch: usize) -> io::Result<()> {
        self.begin(batch)?;
        self.finish()
    }

    fn submit(&mut self) -> io::Result<()> {
        self.begin(1)?;
        self.ring.submit().map(drop)
    }

    fn blocking(&mut self) -> io::Result<()> {
        match self.plan.spawn()?.wait()?.success() {
            true => Ok(()),
            false => Err(io::Error::other("a child failed")),
        }
    }

    /// A byte in is the number at a time, or one of the constants below; the time that [`EACH`] processes took goes out.
    fn serve() -> io::Result<()> {
        let ring = a_ring()?;
        let mut library = Self {
            plan: Command::new(PROGRAM).env_clear().plan()?,
            spawner: Spawner::new(&ring, 1)?,
            ring,
        };
        let mut what = [0];
        while io::stdin().read(&mut what)? == 1 {
            let time = match what[0] {
                BLOCKING => timed(|| library.blocking(), 1)?,
                HELD_UP => held_up(&mut library, Self::submit, Self::finish)?,
                batch => timed(|| library.ring(batch.into()), batch.into())?,
            };
            io::stdout().write_all(&time.to_ne_bytes())?;
            io::stdout().flush()?;
        }
        Ok(())
    }
}

/// To a helper: by the blocking door.
const BLOCKING: u8 = 0;
/// To a helper: only until the start is on its way.
const HELD_UP: u8 = 255;

struct Helper {
    input: ChildStdin,
    output: ChildStdout,
}

impl Helper {
    fn new(executor: &str) -> io::Result<Self> {
        let mut child = std::process::Command::new(std::env::current_exe()?)
            .arg("serve")
            .env("URING_PROCESS_FORCE", executor)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Self { input, output }),
            _ => Err(io::Error::other("no pipes")),
        }
    }

    /// Seconds that [`EACH`] processes took.
    fn work(&mut self, batch: u8) -> io::Result<f64> {
        self.input.write_all(&[batch])?;
        let mut time = [0; 8];
        self.output.read_exact(&mut time)?;
        Ok(f64::from_ne_bytes(time))
    }
}

/// As one thread uses it best.
fn a_ring() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(256)
}

/// Seconds that [`EACH`] processes took.
fn timed(mut each: impl FnMut() -> io::Result<()>, batch: usize) -> io::Result<f64> {
    let begin = Instant::now();
    (0..EACH / batch).try_for_each(|_| each())?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Seconds that [`EACH`] calls of `start` took, not what comes after each.
fn held_up<T>(
    bench: &mut T,
    start: fn(&mut T) -> io::Result<()>,
    finish: fn(&mut T) -> io::Result<()>,
) -> io::Result<f64> {
    let mut time = 0.0;
    for _ in 0..EACH {
        time += timed(|| start(bench), EACH)?;
        finish(bench)?;
    }
    Ok(time)
}

/// Runs it with this thread, and the children it makes, bound to the first processor.
fn on_one_processor<T>(run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = Pid::from_raw(0);
    let all = sched_getaffinity(own)?;
    let mut first = CpuSet::new();
    first.set(0)?;
    sched_setaffinity(own, &first)?;
    let result = run();
    sched_setaffinity(own, &all)?;
    result
}

struct Rival {
    name: &'static str,
    run: fn(&mut Bench) -> io::Result<f64>,
    /// The rows of vfork and of the stock executor that are of the same kind.
    vfork: usize,
    stock: usize,
}

const KERNEL: usize = 0;
const CLONE3: usize = 1;

const RIVALS: [Rival; 18] = [
    Rival {
        name: "vfork + exec",
        run: |b| timed(|| b.vfork().and_then(|()| reap()), 1),
        vfork: 0,
        stock: 11,
    },
    Rival {
        name: "vfork + exec, bound to one processor",
        run: |b| on_one_processor(|| timed(|| b.vfork().and_then(|()| reap()), 1)),
        vfork: 0,
        stock: 11,
    },
    Rival {
        name: "posix_spawn",
        run: |b| timed(|| b.posix_spawn(), 1),
        vfork: 0,
        stock: 13,
    },
    Rival {
        name: "the operation, one at a time",
        run: |b| timed(|| b.operation(1), 1),
        vfork: 0,
        stock: 11,
    },
    Rival {
        name: "the operation, 32 an enter",
        run: |b| timed(|| b.operation(BATCH), BATCH),
        vfork: 0,
        stock: 12,
    },
    Rival {
        name: "the operation to the end, one at a time, SYNC",
        run: |b| timed(|| b.until_the_end(1, OpFlags::SYNC), 1),
        vfork: 0,
        stock: 11,
    },
    Rival {
        name: "the operation to the end, one at a time",
        run: |b| timed(|| b.until_the_end(1, OpFlags::empty()), 1),
        vfork: 0,
        stock: 11,
    },
    Rival {
        name: "the operation to the end, 32 an enter",
        run: |b| timed(|| b.until_the_end(BATCH, OpFlags::empty()), BATCH),
        vfork: 0,
        stock: 12,
    },
    Rival {
        name: "executor kernel, one at a time",
        run: |b| b.helpers[KERNEL].work(1),
        vfork: 0,
        stock: 11,
    },
    Rival {
        name: "executor kernel, 32 at a time",
        run: |b| b.helpers[KERNEL].work(BATCH as u8),
        vfork: 0,
        stock: 12,
    },
    Rival {
        name: "executor kernel, spawn and wait",
        run: |b| b.helpers[KERNEL].work(BLOCKING),
        vfork: 0,
        stock: 13,
    },
    Rival {
        name: "executor clone3, one at a time",
        run: |b| b.helpers[CLONE3].work(1),
        vfork: 0,
        stock: 11,
    },
    Rival {
        name: "executor clone3, 32 at a time",
        run: |b| b.helpers[CLONE3].work(BATCH as u8),
        vfork: 0,
        stock: 12,
    },
    Rival {
        name: "executor clone3, spawn and wait",
        run: |b| b.helpers[CLONE3].work(BLOCKING),
        vfork: 0,
        stock: 13,
    },
    Rival {
        name: "caller held up: vfork + exec",
        run: |b| held_up(b, Bench::vfork, |_| reap()),
        vfork: 14,
        stock: 17,
    },
    Rival {
        name: "caller held up: the operation",
        run: |b| held_up(b, Bench::submit, |b| b.finish(1)),
        vfork: 14,
        stock: 17,
    },
    Rival {
        name: "caller held up: executor kernel",
        run: |b| b.helpers[KERNEL].work(HELD_UP),
        vfork: 14,
        stock: 17,
    },
    Rival {
        name: "caller held up: executor clone3",
        run: |b| b.helpers[CLONE3].work(HELD_UP),
        vfork: 14,
        stock: 17,
    },
];

fn quartiles(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: usize| values[(values.len() - 1) * share / 4];
    (at(1), at(2), at(3))
}

fn main() -> io::Result<()> {
    if std::env::args().nth(1).is_some_and(|word| word == "serve") {
        return Library::serve();
    }
    let found = discovery::get(&Candidates::default()).map_err(io::Error::other)?;
    let Some(number) = found.process else {
        println!("SKIP: this kernel has no process operation");
        return Ok(());
    };
    let program = CString::new(PROGRAM)?;
    let mut bench = Bench {
        argv: [program.as_ptr(), null()],
        program,
        envp: [null()],
        stack: vec![0; 4096],
        number,
        ring: a_ring()?,
        helpers: [Helper::new("kernel")?, Helper::new("clone3")?],
    };
    bench.ring.submitter().register_files_sparse(BATCH as u32)?;
    let mut times = vec![Vec::new(); RIVALS.len()];
    for round in 0..=ROUNDS {
        for at in 0..RIVALS.len() {
            // In another order each round; the first warms up.
            let at = (at + round) % RIVALS.len();
            let time = (RIVALS[at].run)(&mut bench)?;
            if round > 0 {
                times[at].push(time * 1e6 / EACH as f64);
            }
        }
    }
    let against = |mine: usize, other: usize| {
        let ratios = times[mine].iter().zip(&times[other]).map(|(a, b)| a / b);
        let (low, median, high) = quartiles(ratios.collect());
        format!("{median:.2} ({low:.2} to {high:.2})")
    };
    println!(
        "| way, from the call to the child reaped, or as long as the caller is held up | median, µs | of vfork + exec | of clone3, the same way |"
    );
    println!("|---|---|---|---|");
    for (
        at,
        Rival {
            name, vfork, stock, ..
        },
    ) in RIVALS.iter().enumerate()
    {
        let (_, median, _) = quartiles(times[at].clone());
        println!(
            "| {name} | {median:.0} | {} | {} |",
            against(at, *vfork),
            against(at, *stock)
        );
    }
    println!(
        "{ROUNDS} rounds of {EACH} processes each; ratios within a round: median and quartiles"
    );
    Ok(())
}
