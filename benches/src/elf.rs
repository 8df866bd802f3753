//! The programs that are spawned: static, without a C library, a few instructions each.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

#[cfg(target_arch = "x86_64")]
mod code {
    pub(super) const MACHINE: u16 = 62;
    /// `exit_group(0)`
    pub(super) const EXIT: &[u8] = &[0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05];
    /// `write(1, "hello\n", 6)`, then the same
    pub(super) const HELLO: &[u8] = &[
        0xb8, 1, 0, 0, 0, // mov eax, 1
        0xbf, 1, 0, 0, 0, // mov edi, 1
        0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea rsi, [rip + 16]
        0xba, 6, 0, 0, 0, // mov edx, 6
        0x0f, 0x05, 0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05, // syscall, exit_group(0)
        b'h', b'e', b'l', b'l', b'o', b'\n',
    ];
}

#[cfg(target_arch = "aarch64")]
mod code {
    pub(super) const MACHINE: u16 = 183;
    /// `exit_group(0)`
    pub(super) const EXIT: &[u8] = &[
        0x00, 0x00, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4,
    ];
    /// `write(1, "hello\n", 6)`, then the same
    pub(super) const HELLO: &[u8] = &[
        0x20, 0x00, 0x80, 0xd2, 0xe1, 0x00, 0x00, 0x10, 0xc2, 0x00, 0x80, 0xd2, 0x08, 0x08, 0x80,
        0xd2, 0x01, 0x00, 0x00, 0xd4, 0x00, 0x00, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 0x01, 0x00,
        0x00, 0xd4, b'h', b'e', b'l', b'l', b'o', b'\n',
    ];
}

/// The programs, in a directory that goes when this is dropped.
pub struct Programs {
    dir: tempfile::TempDir,
}

impl Programs {
    /// Writes them.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new() -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("spawn-bench").tempdir()?;
        // Other users run them, too.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let programs = Self { dir };
        write(&programs.exit(), code::EXIT)?;
        write(&programs.hello(), code::HELLO)?;
        Ok(programs)
    }

    /// Where they are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends at once.
    #[must_use]
    pub fn exit(&self) -> PathBuf {
        self.dir.path().join("exit")
    }

    /// Writes six bytes and ends.
    #[must_use]
    pub fn hello(&self) -> PathBuf {
        self.dir.path().join("hello")
    }
}

fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    fs::write(path, image(code))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// The bytes of the program that ends at once.
#[must_use]
pub fn exit_image() -> Vec<u8> {
    image(code::EXIT)
}

fn image(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let len = HEADERS + code.len() as u64;
    let mut out = b"\x7fELF\x02\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend(2u16.to_le_bytes()); // executable
    out.extend(code::MACHINE.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        out.extend(word.to_le_bytes()); // entry, program headers, section headers
    }
    out.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    out.extend(1u32.to_le_bytes()); // PT_LOAD
    out.extend(5u32.to_le_bytes()); // read, execute
    for word in [0, BASE, BASE, len, len, 0x1000] {
        out.extend(word.to_le_bytes());
    }
    out.extend_from_slice(code);
    out
}
