//! The pages that are made from a run's figures.

use std::{fs, io, path::Path};

use crate::{plot, report::Report};

const ABOUT: &str = "\
# What making a process costs

`uring-process` makes processes without holding its caller up: `ExecPlan::start` returns when the process
exists, not when its program runs. This page compares it with other ways to make processes.

io_uring itself adds no throughput here: no released kernel lets a ring make processes. A process is made by one
clone3(2) that shares the parent's memory. The ring's part is that \"it runs\" and \"it has ended\" arrive as
completions in a ring of your own, beside your other work. What is faster is faster because the caller does
not wait for the exec, because the descriptor table is not copied, and because a plan is made once.
";

const HOW: &str = "
## How it was measured

* All rivals start the same program: static, without a C library, it exits at once (a few rows say
  `/bin/true` instead). Streams and environment are inherited, the latter without what cargo adds. Rivals take
  turns within one run, one process or one batch of 0.25 s each, in another order each round.
* For processes a second each rival is a process of its own, so that none pays for another's threads and
  handler of SIGCHLD.
* The bench, its rivals and all children run at the highest priority (niceness -20, as root), so that other
  programs take little part in it.
* A figure is a median. A ratio is ours divided by the rival's, with its interval of 95 % confidence by
  bootstrap. \"Caller blocked\" is the time of `ExecPlan::start`, and for the others that of `spawn`, which
  returns when the program runs.
* The parent's memory is touched anonymous memory in pages of 4 KiB. Huge pages are refused for it
  (`MADV_NOHUGEPAGE`): with them page tables are small, and fork(2) looks cheaper than it is for a program
  whose heap has been in use for a while.
* \"uring-process with CLONE_VFORK\" is the same code with one more flag, by which the caller waits for the
  exec.
* std::process and posix_spawn have 64 in flight by making 64 and then waiting for the oldest each time.
  That is not the fastest that they can: \"at its fastest\" has as many in flight as were fastest in a trial.
  uring-process uses one thread and one ring; tokio's multi-thread runtime has a thread for each processor.
* \"2 bare vfork loops\" are two processes that do nothing but vfork, execve with the same environment,
  and wait, one child at a time: about what this machine can do. A goal of 2.2 times std is only within reach
  where std makes less than 45 % of it.
* The stall of another thread: one thread, alone on its processor under `SCHED_FIFO`, writes to fresh pages
  and reads the clock after each, 10 ms of each 13 ms; the longest gap between two readings is the stall.
  Another thread makes processes on the other processor, one after the other, for 1 s. \"Nothing going on\"
  is the machine's own noise.
* The samples are also given to criterion, which tells on standard error what has changed since the last
  run.
";

const CALLS: &str = "
## System calls of a spawn

Counted by strace(1), as the difference of a run of 500 spawns and one of 100. glibc 2.36 looks at each
signal's handler in the child: 121 calls of rt_sigaction for a posix_spawn(3), and so for std and tokio,
which use it. Newer versions of glibc do not do that. Under strace the caller is slow and finds many
completions at a time; how often it calls io_uring_enter(2) at full speed is in the table above.
";

pub(crate) fn write(report: &Report, dir: &Path) -> io::Result<String> {
    let (page, svg) = (dir.join("spawn.md"), dir.join("spawn.svg"));
    let kind = if report.quick {
        " (a quick run: few samples)"
    } else {
        ""
    };
    let made = format!(
        "Made by `{}`{kind} on {}, at commit {}: {}, Linux {}, {}. {} The run took {:.0} s.\n",
        report.command,
        report.date,
        report.commit,
        report.machine,
        report.kernel,
        report.libc,
        report.quiet(),
        report.seconds
    );
    let (calls, notes): (Vec<_>, Vec<_>) = report
        .notes
        .iter()
        .partition(|note| note.starts_with("system calls of a spawn, "));
    let mut text = format!(
        "{ABOUT}\n{made}\n{}\n![The figures as plots](spawn.svg)\n{HOW}",
        report.table()
    );
    for note in notes {
        text += &format!("* In this run: {note}\n");
    }
    text += CALLS;
    text += "\n| | calls |\n|---|---|\n";
    for call in calls {
        let call = call.trim_start_matches("system calls of a spawn, ");
        if let Some((name, list)) = call.split_once(": ") {
            text += &format!("| {name} | {} |\n", list.replace("; ", "<br>"));
        }
    }
    fs::write(&page, text)?;
    fs::write(&svg, plot::page(&report.curves))?;
    Ok(format!("{} and {}", page.display(), svg.display()))
}
