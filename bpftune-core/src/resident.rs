//! Lets go of code that only the start needed.
//!
//! Loading BPF objects, reading configuration and parsing the command line touch most of the program, once. Those pages stay
//! mapped, though nobody runs them again. Dropping them costs nothing but a minor fault for each that is wanted after all:
//! they are clean copies of a file, and most stay in the page cache.

use std::{fs, ops::Range};

/// Drops the pages of every mapping of a file's code from this process. What runs on is mapped again when it runs.
/// Returns how many bytes of address space were looked at; 0 where /proc is not mounted.
pub fn let_go_of_code() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    code(&maps)
        .into_iter()
        .filter(|range| {
            // SAFETY: the range is one whole mapping of this process, private, of a file, executable and not writable. Nobody
            // writes to code here, so each page is as the file has it, and the kernel reads it from there again
            // when it is next run (madvise(2), MADV_DONTNEED).
            unsafe {
                libc::madvise(
                    range.start as *mut libc::c_void,
                    range.len(),
                    libc::MADV_DONTNEED,
                ) == 0
            }
        })
        .map(|range| range.len())
        .sum()
}

/// Private, executable, unwritable mappings of files: "55d0-55f0 r-xp 0002 fe:01 7 /usr/bin/bpftune". Read-only data is
/// not among them: what the loader has relocated there exists nowhere else.
fn code(maps: &str) -> Vec<Range<usize>> {
    maps.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let (permissions, path) = (fields.next()?, fields.nth(3)?);
            let number = |text| usize::from_str_radix(text, 16).ok();
            (permissions == "r-xp" && path.starts_with('/'))
                .then(|| Some(number(start)?..number(end)?))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_let_go() {
        let maps = "\
1000-2000 r--p 00000000 fe:01 7 /usr/bin/bpftune
2000-5000 r-xp 00001000 fe:01 7 /usr/bin/bpftune
5000-6000 rw-p 00004000 fe:01 7 /usr/bin/bpftune
6000-7000 rwxp 00000000 fe:01 7 /usr/lib/jit
7000-8000 r-xp 00000000 00:00 0 [vdso]
8000-9000 r-xp 00000000 00:00 0
9000-a000 r-xs 00000000 fe:01 8 /tmp/shared
not a line
";
        let found = code(maps);
        assert_eq!((found.len(), found[0].clone()), (1, 0x2000..0x5000));
    }

    #[test]
    fn the_program_runs_on_with_less_of_it_mapped() {
        // Kilobytes of code that are mapped now.
        let mapped = || -> u64 {
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            let mut counts = false;
            let mut sum = 0;
            for line in smaps.lines() {
                if let Some(number) = line.strip_prefix("Rss:").filter(|_| counts) {
                    sum += number
                        .trim()
                        .trim_end_matches(" kB")
                        .parse::<u64>()
                        .unwrap();
                } else if line.contains('-') {
                    counts = !code(line).is_empty();
                }
            }
            sum
        };
        let before = mapped();
        assert!(let_go_of_code() > 0);
        let after = mapped();
        assert!(after < before, "{after} kB of {before} kB");
    }
}
