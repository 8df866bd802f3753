//! The launcher's program for the architecture that we are built for.
//!
//! It lies as read-only data in its own section, reached by numeric labels only: no symbol is made
//! that could clash with the one of another version of this crate in the same program.

#[allow(unused_macros, reason = "some architectures have no program")]
macro_rules! program {
    ($text:literal, $($fetch:literal),+) => {{
        use super::layout;
        let (start, end): (*const u8, *const u8);
        // SAFETY: what runs here only loads two addresses into two registers, as declared. The
        // program is put into another section, and the section is switched back.
        unsafe {
            core::arch::asm!(
                ".pushsection .rodata.launcher, \"a\"",
                ".balign 16",
                "20:",
                include_str!($text),
                "29:",
                ".popsection",
                $($fetch,)+
                start = out(reg) start,
                end = out(reg) end,
                data = const layout::DATA,
                report_fd = const layout::REPORT_FD,
                exec_stage = const layout::EXEC_STAGE,
                argv = const layout::ARGV,
                envp = const layout::ENVP,
                candidates = const layout::CANDIDATES,
                calls = const layout::CALLS,
                options(nomem, nostack, preserves_flags),
            );
        }
        // SAFETY: both addresses are of one assembled piece, `end` right after its last byte; it is
        // mapped for as long as this code is, and never written.
        unsafe { core::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
    }};
}

/// The program, and the ELF number of its machine (`e_machine`, elf(5)); None: not written yet.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
pub(super) fn program() -> Option<(u16, &'static [u8])> {
    let code = program!(
        "x86_64.s",
        "lea {start}, [rip + 20b]",
        "lea {end}, [rip + 29b]"
    );
    Some((super::layout::EM_X86_64, code))
}

/// The program, and the ELF number of its machine (`e_machine`, elf(5)); None: not written yet.
#[cfg(all(
    target_arch = "aarch64",
    target_pointer_width = "64",
    target_endian = "little"
))]
pub(super) fn program() -> Option<(u16, &'static [u8])> {
    let code = program!(
        "aarch64.s",
        "adrp {start}, 20b",
        "add {start}, {start}, :lo12:20b",
        "adrp {end}, 29b",
        "add {end}, {end}, :lo12:29b"
    );
    Some((super::layout::EM_AARCH64, code))
}

/// The program, and the ELF number of its machine (`e_machine`, elf(5)); None: not written yet.
#[cfg(not(any(
    all(target_arch = "x86_64", target_pointer_width = "64"),
    all(
        target_arch = "aarch64",
        target_pointer_width = "64",
        target_endian = "little"
    )
)))]
pub(super) fn program() -> Option<(u16, &'static [u8])> {
    None
}
