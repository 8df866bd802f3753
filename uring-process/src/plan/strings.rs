//! argv, envp and the paths to try, as the kernel reads them: one block of bytes, one of pointers.

use std::{
    ffi::{CStr, OsStr, OsString, c_char},
    io,
    os::unix::ffi::OsStrExt,
    ptr::null,
};

use super::Calls;
use crate::{
    Stage,
    launcher::{Image, Script},
};

pub(super) struct Strings {
    /// Never read through this: the pointers lead here. No `Box`, which would claim to be alone.
    _bytes: Vec<u8>,
    /// argv, null, envp, null, candidates.
    pointers: Box<[*const c_char]>,
    envp_at: usize,
    candidates_at: usize,
}

impl Strings {
    /// An error says which kind of string has a NUL byte.
    pub(super) fn new(
        argv: &[&OsStr],
        env: &[(OsString, OsString)],
        candidates: &[OsString],
    ) -> Result<Self, &'static str> {
        let env_len = env
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2)
            .sum::<usize>();
        let len =
            |strings: &mut dyn Iterator<Item = &OsStr>| strings.map(|s| s.len() + 1).sum::<usize>();
        let capacity = len(&mut argv.iter().copied())
            + len(&mut candidates.iter().map(OsString::as_os_str))
            + env_len;
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity);
        let mut starts = Vec::with_capacity(argv.len() + env.len() + candidates.len());
        let mut push = |parts: &[&[u8]], what| {
            starts.push(bytes.len());
            for part in parts {
                if part.contains(&0) {
                    return Err(what);
                }
                bytes.extend_from_slice(part);
            }
            bytes.push(0);
            Ok(())
        };
        for path in candidates {
            push(&[path.as_bytes()], "its name or PATH")?;
        }
        for arg in argv {
            push(&[arg.as_bytes()], "an argument")?;
        }
        for (name, value) in env {
            push(
                &[name.as_bytes(), b"=", value.as_bytes()],
                "its environment",
            )?;
        }
        let base = bytes.as_ptr().cast::<c_char>();
        let mut at = starts.into_iter().map(|start| base.wrapping_add(start));
        let paths: Vec<_> = at.by_ref().take(candidates.len()).collect();
        let mut pointers = Vec::with_capacity(argv.len() + env.len() + paths.len() + 2);
        pointers.extend(at.by_ref().take(argv.len()));
        pointers.push(null());
        let envp_at = pointers.len();
        pointers.extend(at);
        pointers.push(null());
        let candidates_at = pointers.len();
        pointers.extend(paths);
        let pointers = pointers.into_boxed_slice();
        Ok(Self {
            _bytes: bytes,
            pointers,
            envp_at,
            candidates_at,
        })
    }

    pub(super) fn argv(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }

    pub(super) fn envp(&self) -> *const *const c_char {
        self.pointers[self.envp_at..].as_ptr()
    }

    pub(super) fn candidates(&self) -> (*const *const c_char, usize) {
        let candidates = &self.pointers[self.candidates_at..];
        (candidates.as_ptr(), candidates.len())
    }

    /// The image of a launcher that carries out the calls and runs the program.
    pub(super) fn launcher(&self, calls: &Calls, report_fd: i32) -> io::Result<Image> {
        let strings = |pointers: &[*const c_char]| -> Vec<&CStr> {
            // SAFETY: each leads to a string in `_bytes`, which ends in a NUL byte.
            pointers
                .iter()
                .map(|at| unsafe { CStr::from_ptr(*at) })
                .collect()
        };
        Image::build(&Script {
            calls: &calls.all(),
            candidates: &strings(&self.pointers[self.candidates_at..]),
            argv: &strings(&self.pointers[..self.envp_at - 1]),
            envp: &strings(&self.pointers[self.envp_at..self.candidates_at - 1]),
            exec_stage: Stage::Exec as u32,
            report_fd,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_reads_what_was_given() {
        let long = "x".repeat(1000);
        let argv: Vec<&OsStr> = ["a", "", long.as_str()].map(OsStr::new).to_vec();
        let env = vec![("K".into(), "v=w".into()), ("E".into(), "".into())];
        let strings = Strings::new(&argv, &env, &["/p".into(), "q".into()]).unwrap();
        let read = |mut at: *const *const c_char, len: Option<usize>| {
            let mut found = Vec::new();
            // SAFETY: ends in a null pointer or after `len`.
            unsafe {
                while len.map_or_else(|| !(*at).is_null(), |len| found.len() < len) {
                    found.push(CStr::from_ptr(*at).to_str().unwrap().to_owned());
                    at = at.add(1);
                }
            }
            found
        };
        assert_eq!(read(strings.argv(), None), ["a", "", long.as_str()]);
        assert_eq!(read(strings.envp(), None), ["K=v=w", "E="]);
        let (candidates, len) = strings.candidates();
        assert_eq!(read(candidates, Some(len)), ["/p", "q"]);
    }

    #[test]
    fn a_nul_byte_is_found_wherever_it_is() {
        let none: &[(OsString, OsString)] = &[];
        let is = |argv: &str, env: &[(OsString, OsString)], path: &str| {
            Strings::new(&[OsStr::new(argv)], env, &[path.into()]).err()
        };
        assert_eq!(is("a", none, "p"), None);
        assert_eq!(is("a\0", none, "p"), Some("an argument"));
        assert_eq!(is("a", none, "\0p"), Some("its name or PATH"));
        assert_eq!(
            is("a", &[("K".into(), "\0".into())], "p"),
            Some("its environment")
        );
    }
}
