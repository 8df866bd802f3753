//! nice(1) without arguments, for the virtual machine: busybox of Debian's has none.

fn main() {
    // SAFETY: integers only.
    let nice = unsafe { nix::libc::getpriority(nix::libc::PRIO_PROCESS, 0) };
    println!("{nice}");
}
