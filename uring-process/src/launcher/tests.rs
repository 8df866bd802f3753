use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::*;
use std::ffi::c_long;

#[path = "../../tests/common/users.rs"]
mod users;

/// Where the scripts of these tests report: a number that nothing else in a child has.
const REPORT: c_int = 100;

type Report = Option<(u32, i32)>;

fn strings(list: &[&str]) -> Vec<CString> {
    list.iter()
        .map(|text| CString::new(*text).unwrap())
        .collect()
}

fn build(calls: &[Call], candidates: &[&str], argv: &[&str], envp: &[&str]) -> Image {
    Image::build(&Script {
        calls,
        candidates: &strings(candidates),
        argv: &strings(argv),
        envp: &strings(envp),
        exec_stage: 7,
        report_fd: REPORT,
    })
    .unwrap()
}

fn call(stage: u32, number: c_long, args: impl IntoIterator<Item = usize>) -> Call {
    Call {
        stage,
        number,
        args: args.into_iter().map(Arg::Value).collect(),
        ignore: 0,
    }
}

/// Runs a command with a pipe at [`REPORT`]; at last, `then` runs in the child.
fn reported(
    command: &mut Command,
    then: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> (Output, Report) {
    let (mut reader, writer) = io::pipe().unwrap();
    let (raw, mut then) = (writer.as_raw_fd(), then);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: between fork and exec the closure only makes system calls. Nothing else of the child
    // uses the descriptor that dup2(2) replaces, which comes without the close-on-exec mark.
    let child = unsafe {
        command.pre_exec(move || match libc::dup2(raw, REPORT) {
            -1 => Err(io::Error::last_os_error()),
            _ => then(),
        })
    };
    let child = child.spawn().unwrap();
    drop(writer);
    let output = child.wait_with_output().unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    let word = |at: usize| u32::from_ne_bytes(bytes[at..][..4].try_into().unwrap());
    let report = match bytes.len() {
        0 => None,
        8 => Some((word(0), word(4) as i32)),
        _ => panic!("a report of {} bytes", bytes.len()),
    };
    (output, report)
}

/// What a child does to become the launcher. Returns only on failure.
fn start(fd: c_int) -> io::Result<()> {
    let argv = [c"launcher".as_ptr(), std::ptr::null()];
    let (path, envp) = (c"".as_ptr(), argv[1..].as_ptr());
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: path and both arrays are C strings and end in null; on success nothing returns.
    unsafe { libc::syscall(libc::SYS_execveat, fd, path, argv.as_ptr(), envp, flags) };
    Err(io::Error::last_os_error())
}

fn run(image: &Image) -> (Output, Report) {
    let fd = image.as_fd().as_raw_fd();
    reported(&mut Command::new("launcher"), move || start(fd))
}

/// What the program printed; it must have been started and have exited with 0.
fn printed(image: &Image) -> Vec<u8> {
    let (output, report) = run(image);
    assert_eq!(report, None);
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn failure(image: &Image) -> Report {
    let (output, report) = run(image);
    assert_eq!(output.status.code(), Some(127));
    report
}

fn with_nuls(list: &[&str]) -> Vec<u8> {
    list.iter()
        .flat_map(|text| text.bytes().chain([0]))
        .collect()
}

#[test]
fn argv_and_envp_arrive_as_given() {
    let show = |file| format!("/bin/cat /proc/$$/{file}; exit 0");
    let (cmdline, environ) = (show("cmdline"), show("environ"));
    let long = "x".repeat(100_000);
    let mut argv = vec!["sh", "-c", &cmdline, "", "a b\n", "", &long, &long];
    argv.extend(["é"; 2000]);
    argv.push("");
    assert_eq!(
        printed(&build(&[], &["/bin/sh"], &argv, &[])),
        with_nuls(&argv)
    );

    for envp in [&[][..], &["A=1", "", "no equals sign", "B=", "A=2"]] {
        let image = build(&[], &["/bin/sh"], &["sh", "-c", &environ], envp);
        assert_eq!(printed(&image), with_nuls(envp));
    }
}

/// A word of 8 bytes of the data of an image.
fn word(image: &Image, at: usize) -> usize {
    let mut bytes = [0; 8];
    let file = File::from(image.as_fd().try_clone_to_owned().unwrap());
    file.read_exact_at(&mut bytes, (layout::DATA_OFFSET + at) as u64)
        .unwrap();
    u64::from_ne_bytes(bytes) as usize
}

fn data_call(stage: u32, number: c_long, before: &[usize], data: &[u8], after: &[usize]) -> Call {
    let values = |list: &[usize]| list.iter().map(|v| Arg::Value(*v)).collect::<Vec<_>>();
    let mut args = values(before);
    args.push(Arg::Data(data.into()));
    args.extend(values(after));
    Call {
        stage,
        number,
        args,
        ignore: 0,
    }
}

#[test]
fn arguments_of_calls_arrive() {
    // mmap(2) has six arguments; what it mapped from where is then written out.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let mut content = vec![b'.'; layout::PAGE];
    content.extend(b"mapped ");
    fs::write(&path, content).unwrap();
    let file = File::open(&path).unwrap();
    let (there, page) = (0x1000_0000, layout::PAGE);
    let (kind, prot) = (
        libc::MAP_PRIVATE | libc::MAP_FIXED,
        libc::PROT_READ as usize,
    );
    let calls = [
        call(
            1,
            libc::SYS_mmap,
            [there, page, prot, kind as usize, 101, page],
        ),
        call(2, libc::SYS_write, [1, there, 7]),
        data_call(3, libc::SYS_write, &[1], b"copied ", &[7]),
        data_call(4, libc::SYS_chdir, &[], b"/proc\0", &[]),
    ];
    let image = build(&calls, &["/bin/pwd"], &["pwd"], &[]);
    let (fd, launcher) = (file.as_raw_fd(), image.as_fd().as_raw_fd());
    let (output, report) = reported(&mut Command::new("launcher"), move || {
        // SAFETY: nothing else of the child uses the descriptor that is replaced.
        unsafe { libc::dup2(fd, 101) };
        start(launcher)
    });
    assert_eq!(
        (report, output.stdout.as_slice()),
        (None, &b"mapped copied /proc\n"[..])
    );

    let second_argument = |index| word(&image, layout::CALLS + index * layout::CALL + 16);
    let first_argument = |index| word(&image, layout::CALLS + index * layout::CALL + 8);
    assert_eq!((second_argument(2) % 16, first_argument(3) % 16), (0, 0));
}

#[test]
fn a_failing_call_reports_its_stage_and_errno() {
    let fine = || call(1, libc::SYS_getpid, []);
    let bad = [
        (call(2, libc::SYS_close, [9999]), libc::EBADF),
        (
            data_call(u32::MAX, libc::SYS_chdir, &[], b"/proc/none\0", &[]),
            libc::ENOENT,
        ),
        (
            data_call(0, libc::SYS_chdir, &[], b"/proc/version\0", &[]),
            libc::ENOTDIR,
        ),
        (
            data_call(5, libc::SYS_uname, &[], &[0; 1000], &[]),
            libc::EFAULT,
        ), // read-only
        (call(6, -1, []), libc::ENOSYS),
    ];
    for (call, errno) in bad {
        let stage = call.stage;
        let calls = [fine(), call, fine()];
        let image = build(&calls, &["/bin/true"], &["true"], &[]);
        assert_eq!(failure(&image), Some((stage, errno)));
    }
    let ok = build(&[fine()], &["/bin/true"], &["true"], &[]);
    assert!(printed(&ok).is_empty());

    // A result that is one of -4095 to -1 in its lower half only is none: lseek(2) in a new file.
    let calls = [
        call(1, libc::SYS_close, [0]),
        data_call(2, libc::SYS_memfd_create, &[], b"file\0", &[]),
        call(
            3,
            libc::SYS_lseek,
            [0, 0xffff_ffff, libc::SEEK_SET as usize],
        ),
    ];
    printed(&build(&calls, &["/bin/true"], &["true"], &[]));
}

#[test]
fn too_many_arguments_are_refused() {
    let script = Script::<&CStr> {
        calls: &[call(1, libc::SYS_getpid, [0; 7])],
        candidates: &[],
        argv: &[],
        envp: &[],
        exec_stage: 7,
        report_fd: REPORT,
    };
    let error = Image::build(&script).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// Files that execve(2) fails on: not executable, not a program.
fn bad_files(dir: &Path) -> (PathBuf, PathBuf) {
    let (denied, garbage) = (dir.join("denied"), dir.join("garbage"));
    for (path, mode) in [(&denied, 0o644), (&garbage, 0o755)] {
        fs::write(path, "\0").unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    (denied, garbage)
}

#[test]
fn candidates_are_searched_as_execvp_does() {
    let dir = tempfile::tempdir().unwrap();
    let (denied, garbage) = bad_files(dir.path());
    let (denied, garbage) = (denied.to_str().unwrap(), garbage.to_str().unwrap());
    let (none, no_dir, good) = ("/proc/none", "/proc/version/x", "/bin/true");
    let name = "x".repeat(300);
    let cases: [(&[&str], Option<c_int>); 14] = [
        (&[], Some(libc::ENOENT)),
        (&[good], None),
        (&[none], Some(libc::ENOENT)),
        (&[no_dir], Some(libc::ENOTDIR)),
        (&[denied], Some(libc::EACCES)),
        (&[garbage], Some(libc::ENOEXEC)),
        (&[none, no_dir], Some(libc::ENOTDIR)),
        (&[no_dir, none], Some(libc::ENOENT)),
        (&[none, no_dir, denied, good, garbage], None),
        (&[denied, none, no_dir], Some(libc::EACCES)),
        (&[none, denied], Some(libc::EACCES)),
        (&[none, garbage, good], Some(libc::ENOEXEC)),
        (&[denied, garbage, good], Some(libc::ENOEXEC)),
        (&[&name, good], Some(libc::ENAMETOOLONG)),
    ];
    for (candidates, errno) in cases {
        let (_, report) = run(&build(&[], candidates, &["true"], &[]));
        assert_eq!(report, errno.map(|errno| (7, errno)), "{candidates:?}");
    }
}

/// Runs an image under a seccomp(2) filter: a system call with this first argument has this errno.
fn run_filtered(image: &Image, number: c_long, first: usize, errno: c_int) -> Report {
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let (load, equal, answer) = (0x20, 0x15, 0x06);
    let mut filter = [
        step(load, 0, 0), // number
        step(equal, 3, number as u32),
        step(load, 0, 16), // first argument, lower half
        step(equal, 1, first as u32),
        step(answer, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(answer, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let fd = image.as_fd().as_raw_fd();
    let (_, report) = reported(&mut Command::new("launcher"), move || {
        let program = libc::sock_fprog {
            len: 6,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: the program and its filter are alive, and 6 is the filter's length.
        let result = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            start(fd)
        }
    });
    report
}

#[test]
fn every_error_of_a_candidate_has_its_rule() {
    let goes_on = [
        libc::EACCES,
        libc::ENOENT,
        libc::ENOTDIR,
        libc::ESTALE,
        libc::ENODEV,
        libc::ETIMEDOUT,
    ];
    let image = build(&[], &["/bin/first", "/bin/true"], &["true"], &[]);
    let path = word(&image, layout::CALLS); // the first candidate, as there are no calls
    for errno in 1..=133 {
        let report = run_filtered(&image, libc::SYS_execve, path, errno);
        let expected = if goes_on.contains(&errno) {
            None
        } else {
            Some((7, errno))
        };
        assert_eq!(report, expected, "errno {errno}");
    }
}

#[test]
fn the_range_of_errors_is_whole() {
    let image = build(
        &[call(5, libc::SYS_getppid, [77])],
        &["/bin/true"],
        &["true"],
        &[],
    );
    assert_eq!(run_filtered(&image, libc::SYS_getppid, 77, 1), Some((5, 1)));
    assert_eq!(
        run_filtered(&image, libc::SYS_getppid, 77, 4095),
        Some((5, 4095))
    );
    assert_eq!(run_filtered(&image, libc::SYS_getppid, 78, 1), None);
}

#[test]
fn ids_are_changed() {
    if !users::can_change() {
        return;
    }
    let groups: Vec<u8> = [5u32, 6].iter().flat_map(|id| id.to_ne_bytes()).collect();
    let calls = [
        data_call(1, libc::SYS_setgroups, &[2], &groups, &[]),
        call(2, libc::SYS_setresgid, [4321; 3]),
        call(3, libc::SYS_setresuid, [1234; 3]),
    ];
    let argv = ["sh", "-c", "grep -E '^(Uid|Gid|Groups)' /proc/self/status"];
    let text = printed(&build(&calls, &["/bin/sh"], &argv, &["PATH=/bin:/usr/bin"]));
    let text = String::from_utf8(text).unwrap();
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let expected = "Uid: 1234 1234 1234 1234 Gid: 4321 4321 4321 4321 Groups: 5 6";
    assert_eq!(words.join(" "), expected);

    let back = call(4, libc::SYS_setresuid, [0; 3]);
    let calls: Vec<_> = calls.into_iter().chain([back]).collect();
    assert_eq!(
        failure(&build(&calls, &["/bin/true"], &["true"], &[])),
        Some((4, libc::EPERM))
    );
}

#[test]
fn the_program_has_neither_descriptor() {
    let script = "for fd in /proc/$$/fd/*; do /bin/readlink $fd; done; exit 0";
    let text = printed(&build(&[], &["/bin/sh"], &["sh", "-c", script], &[]));
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("/dev/null") && !text.contains("memfd"),
        "{text}"
    );
    let script = format!("test -e /proc/$$/fd/1 && test ! -e /proc/$$/fd/{REPORT}");
    printed(&build(&[], &["/bin/sh"], &["sh", "-c", &script], &[]));
}

#[test]
fn a_reader_that_is_gone_does_not_matter() {
    let image = build(&[], &[], &[], &[]);
    let fd = image.as_fd().as_raw_fd();
    let mut command = Command::new("launcher");
    let (output, report) = reported(&mut command, move || {
        let mut ends = [0; 2];
        // SAFETY: the array has room for both; the read end is closed, and the write end renamed.
        unsafe {
            libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC);
            libc::close(ends[0]);
            libc::dup2(ends[1], REPORT);
        }
        start(fd)
    });
    assert_eq!(report, None);
    let status = output.status;
    assert!(
        status.code() == Some(127) || status.signal() == Some(libc::SIGPIPE),
        "{status}"
    );
}

#[test]
fn one_image_serves_many_at_once() {
    let image = build(&[], &["/bin/sh"], &["sh", "-c", "echo $0"], &[]);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| (0..20).for_each(|_| assert_eq!(printed(&image), b"sh\n")));
        }
    });
}

#[test]
fn the_file_is_sealed() {
    let image = build(&[], &[], &[], &[]);
    let mut file = File::from(image.as_fd().try_clone_to_owned().unwrap());
    let eperm = |result: io::Result<()>| result.unwrap_err().raw_os_error() == Some(libc::EPERM);
    let len = file.metadata().unwrap().len();
    assert!(eperm(file.write_all(b"x")));
    assert!(eperm(file.set_len(len - 1)));
    assert!(eperm(file.set_len(len + 1)));
    // SAFETY: F_ADD_SEALS takes an int and touches no memory of ours.
    let more = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SEAL) };
    assert!(more < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM));
    // SAFETY: F_GETFD touches no memory of ours.
    let flags = unsafe { libc::fcntl(image.as_fd().as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags, libc::FD_CLOEXEC);
}

#[test]
fn readelf_finds_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("launcher");
    save(&build(&[], &["/bin/true"], &["true"], &[]), &path);
    let output = match Command::new("readelf")
        .env("LC_ALL", "C")
        .arg("-lhW")
        .arg(&path)
        .output()
    {
        Ok(output) => output,
        Err(error) => return println!("SKIP: readelf: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let line = |start: &str| {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with(start));
        lines
            .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    assert_eq!(line("Type: ")[0][1], "EXEC");
    let loads = line("LOAD");
    let flags = |words: &[&str]| words[6..words.len() - 1].concat();
    assert_eq!(
        (loads.len(), flags(&loads[0]), flags(&loads[1])),
        (2, "RE".into(), "R".into())
    );
    assert_eq!(flags(&line("GNU_STACK")[0]), "RW");
}

fn save(image: &Image, path: &Path) {
    let mut file = File::from(image.as_fd().try_clone_to_owned().unwrap());
    let mut bytes = Vec::new();
    io::Seek::rewind(&mut file).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_launcher_can_be_tried_and_we_stay_dumpable() {
    // SAFETY: geteuid(2) always succeeds and touches no memory.
    if unsafe { libc::geteuid() } == 0 {
        // In parallel with other tests, and twice: the second answer is the kept one.
        assert!(trial().unwrap() && available() && available());
        // What this is all about.
        let calls = [
            call(1, libc::SYS_setresgid, [4321; 3]),
            call(2, libc::SYS_setresuid, [1234; 3]),
            call(3, libc::SYS_exit_group, [0]),
        ];
        assert!(runs(build(&calls, &[], &[], &[])).unwrap());
        // SAFETY: PR_GET_DUMPABLE takes no argument and touches no memory.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 1);
    } else {
        assert!(!available());
    }
}

/// The program of aarch64 from the same text, by a cross assembler and an emulator, where they are.
#[test]
fn the_program_of_aarch64_works() {
    if cfg!(target_arch = "aarch64") {
        return println!("SKIP: the other tests are of aarch64");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let mut text = include_str!("aarch64.s").to_owned();
    for (name, value) in [
        ("data", layout::DATA),
        ("report_fd", layout::REPORT_FD),
        ("exec_stage", layout::EXEC_STAGE),
        ("argv", layout::ARGV),
        ("envp", layout::ENVP),
        ("candidates", layout::CANDIDATES),
        ("calls", layout::CALLS),
    ] {
        text = text.replace(&format!("{{{name}}}"), &value.to_string());
    }
    fs::write(file("code.s"), text).unwrap();
    let tool = |name: &str, args: &[&str]| {
        Command::new(name)
            .args(args)
            .current_dir(dir.path())
            .output()
            .map_err(|error| {
                println!("SKIP: {name}: {error}");
            })
    };
    for (name, args) in [
        ("qemu-aarch64", &["--version"][..]),
        ("aarch64-linux-gnu-gcc", &["-c", "code.s"]),
        (
            "aarch64-linux-gnu-objcopy",
            &["-O", "binary", "-j", ".text", "code.o", "code"],
        ),
    ] {
        let Ok(output) = tool(name, args) else { return };
        assert!(output.status.success(), "{name}: {output:?}");
    }
    let code = fs::read(file("code")).unwrap();
    let (denied, garbage) = bad_files(dir.path());
    let (denied, garbage) = (denied.to_str().unwrap(), garbage.to_str().unwrap());
    let run = |calls: &[Call], candidates: &[&str], argv: &[&str], envp: &[&str]| {
        let script = Script {
            calls,
            candidates: &strings(candidates),
            argv: &strings(argv),
            envp: &strings(envp),
            exec_stage: 7,
            report_fd: REPORT,
        };
        save(
            &Image::of_program(layout::EM_AARCH64, &code, &script).unwrap(),
            &file("launcher"),
        );
        let mut command = Command::new("qemu-aarch64");
        let (output, report) = reported(command.arg(file("launcher")), || Ok(()));
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            report,
        )
    };
    const CHDIR: c_long = 49; // numbers of aarch64
    const WRITE: c_long = 64;
    let chdir = |stage, path: &[u8]| data_call(stage, CHDIR, &[], path, &[]);
    let print = || data_call(1, WRITE, &[1], b"hello ", &[6]);
    let show = format!("test ! -e /proc/$$/fd/{REPORT} && echo $(pwd) $A $# $2");
    let argv = ["sh", "-c", &show, "0", "", "b"];
    let good = ["/proc/none", "/proc/version/x", denied, "/bin/sh"];
    assert_eq!(
        run(&[print(), chdir(2, b"/proc\0")], &good, &argv, &["A=1"]),
        (Some(0), "hello /proc 1 2 b\n".into(), None)
    );
    let failed = |calls: &[Call], candidates: &[&str]| {
        let (status, _, report) = run(calls, candidates, &["true"], &[]);
        assert_eq!(status, Some(127));
        report.unwrap()
    };
    let calls = [print(), chdir(9, b"/none\0"), print()];
    assert_eq!(failed(&calls, &["/bin/true"]), (9, libc::ENOENT));
    assert_eq!(failed(&[], &[]), (7, libc::ENOENT));
    assert_eq!(
        failed(&[], &["/proc/none", "/proc/version/x"]),
        (7, libc::ENOTDIR)
    );
    assert_eq!(failed(&[], &[denied, "/proc/none"]), (7, libc::EACCES));
    assert_eq!(
        failed(&[], &[denied, garbage, "/bin/true"]),
        (7, libc::ENOEXEC)
    );
}
