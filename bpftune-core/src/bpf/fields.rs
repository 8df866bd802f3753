//! Fields of a C structure that a BPF program has sent.

/// The bytes of a structure. Each field is asked for by its offset; `None` where they end before it does.
///
/// ```
/// use bpftune_core::bpf::Fields;
/// let mut sent = [0; 12];
/// sent[..4].copy_from_slice(&7u32.to_ne_bytes());
/// sent[4..8].copy_from_slice(b"eth0");
/// let sent = Fields(&sent);
/// assert_eq!(sent.u32(0), Some(7));
/// assert_eq!(sent.text(4, 8).as_deref(), Some("eth0"));
/// assert_eq!(sent.u64(8), None);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    /// Bytes as they are.
    #[must_use]
    pub fn bytes<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    /// A `__u8`.
    #[must_use]
    pub fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    /// A `__u16` in the processor's order.
    #[must_use]
    pub fn u16(self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_ne_bytes)
    }

    /// A `__u32`.
    #[must_use]
    pub fn u32(self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_ne_bytes)
    }

    /// A `__u64`.
    #[must_use]
    pub fn u64(self, at: usize) -> Option<u64> {
        self.bytes(at).map(u64::from_ne_bytes)
    }

    /// A `char[length]`, up to its NUL where it has one.
    #[must_use]
    pub fn text(self, at: usize, length: usize) -> Option<String> {
        let field = self.0.get(at..at.checked_add(length)?)?;
        let end = field.iter().position(|&byte| byte == 0).unwrap_or(length);
        Some(String::from_utf8_lossy(&field[..end]).into_owned())
    }
}
