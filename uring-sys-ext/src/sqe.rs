//! The raw submission queue entries: 64 bytes, and 128 bytes for rings with `IORING_SETUP_SQE128`.

use std::mem::{align_of, offset_of, size_of};

use io_uring::squeue::{Entry, Entry128};

/// A submission queue entry of 64 bytes: `struct io_uring_sqe` of `include/uapi/linux/io_uring.h`.
///
/// The kernel's structure is made of unions; here each is one field, named after its most common
/// member, and its documentation says where the requests of this crate put what. The layout has
/// been the same since Linux 5.1 and is the same on every architecture; numbers are in the
/// machine's byte order.
///
/// Pointers are plain `u64`: this type owns nothing and keeps nothing alive. Whatever a request
/// points at must stay valid until its completion has been taken from the completion queue,
/// unless that request's documentation promises an earlier moment.
///
/// # Example
/// ```
/// use uring_sys_ext::RawSqe;
/// use io_uring::{opcode, squeue::Entry};
///
/// let nop = opcode::Nop::new().build().user_data(7);
/// let mut raw = RawSqe::from(nop);
/// assert_eq!((raw.opcode, raw.fd, raw.user_data), (0, -1, 7));
///
/// raw.user_data = 8;
/// assert_eq!(Entry::from(raw).get_user_data(), 8);
/// ```
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RawSqe {
    /// What to do: `IORING_OP_*`.
    pub opcode: u8,
    /// `IOSQE_*` bits, see [`io_uring::squeue::Flags`].
    pub flags: u8,
    /// I/O priority, or flags of the one operation (accept, send, receive, process).
    pub ioprio: u16,
    /// File descriptor, or index of a registered file with `IOSQE_FIXED_FILE`.
    pub fd: i32,
    /// File offset in bytes, or a second pointer (`addr2`).
    pub off: u64,
    /// First pointer.
    pub addr: u64,
    /// Length in bytes, or a number of elements.
    pub len: u32,
    /// Flags of the operation: the kernel's `rw_flags` union.
    pub op_flags: u32,
    /// Handed back in the completion, never looked at by the kernel.
    pub user_data: u64,
    /// Index of a registered buffer, or a buffer group.
    pub buf_index: u16,
    /// Registered credentials to act with; 0 is those of the submitter.
    pub personality: u16,
    /// Where to put a direct descriptor (slot + 1), or a second descriptor.
    pub file_index: u32,
    /// Third pointer.
    pub addr3: u64,
    /// The kernel's `__pad2[0]`; some operations give it a meaning.
    pub pad2: u64,
}

/// A submission queue entry of 128 bytes, for rings made with `IORING_SETUP_SQE128` (Linux 5.19).
///
/// The requests of this crate fit the first half; the second one must then be zero, which is how
/// `From<RawSqe>` leaves it.
///
/// # Example
/// ```
/// use uring_sys_ext::{RawSqe, RawSqe128};
/// use io_uring::squeue::Entry128;
///
/// let raw = RawSqe128::from(RawSqe { user_data: 9, ..RawSqe::default() });
/// assert_eq!(Entry128::from(raw).get_user_data(), 9);
/// ```
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawSqe128 {
    /// The part that a ring with small entries has too.
    pub sqe: RawSqe,
    /// The second half.
    pub extension: [u8; 64],
}

impl From<RawSqe> for RawSqe128 {
    fn from(sqe: RawSqe) -> Self {
        Self {
            sqe,
            extension: [0; 64],
        }
    }
}

const _: () = {
    assert!(size_of::<RawSqe>() == 64);
    assert!(offset_of!(RawSqe, opcode) == 0);
    assert!(offset_of!(RawSqe, flags) == 1);
    assert!(offset_of!(RawSqe, ioprio) == 2);
    assert!(offset_of!(RawSqe, fd) == 4);
    assert!(offset_of!(RawSqe, off) == 8);
    assert!(offset_of!(RawSqe, addr) == 16);
    assert!(offset_of!(RawSqe, len) == 24);
    assert!(offset_of!(RawSqe, op_flags) == 28);
    assert!(offset_of!(RawSqe, user_data) == 32);
    assert!(offset_of!(RawSqe, buf_index) == 40);
    assert!(offset_of!(RawSqe, personality) == 42);
    assert!(offset_of!(RawSqe, file_index) == 44);
    assert!(offset_of!(RawSqe, addr3) == 48);
    assert!(offset_of!(RawSqe, pad2) == 56);
    assert!(size_of::<RawSqe128>() == 128);
    assert!(offset_of!(RawSqe128, extension) == 64);
    // What the conversions below rest on.
    assert!(size_of::<Entry>() == size_of::<RawSqe>());
    assert!(align_of::<Entry>() == align_of::<RawSqe>());
    assert!(size_of::<Entry128>() == size_of::<RawSqe128>());
    assert!(align_of::<Entry128>() == align_of::<RawSqe128>());
};

impl From<RawSqe> for Entry {
    fn from(raw: RawSqe) -> Self {
        // SAFETY: `Entry` is `repr(C)` around the kernel's 64-byte structure, size and alignment
        // are checked above. That structure is integers only, so any bytes are a value of it, and
        // `RawSqe` has no padding, so every byte is initialised. An entry does nothing until it is
        // pushed, which is unsafe and there asks for valid pointers.
        unsafe { std::mem::transmute::<RawSqe, Entry>(raw) }
    }
}

impl From<Entry> for RawSqe {
    fn from(entry: Entry) -> Self {
        // SAFETY: as above, the other way. io-uring starts every entry from zeroed memory, and the
        // kernel's structure has no padding, so every byte is initialised.
        unsafe { std::mem::transmute::<Entry, RawSqe>(entry) }
    }
}

impl From<RawSqe128> for Entry128 {
    fn from(raw: RawSqe128) -> Self {
        // SAFETY: `Entry128` is `repr(C)`: an `Entry` and 64 bytes. See above for the first half;
        // any bytes are valid in the second.
        unsafe { std::mem::transmute::<RawSqe128, Entry128>(raw) }
    }
}

impl From<Entry128> for RawSqe128 {
    fn from(entry: Entry128) -> Self {
        // SAFETY: as above, the other way.
        unsafe { std::mem::transmute::<Entry128, RawSqe128>(entry) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use io_uring::{opcode, squeue::Flags, types};

    #[test]
    fn entries_of_io_uring_read_as_named_fields_and_back() {
        let mut buf = [0u8; 16];
        let read = opcode::Read::new(types::Fd(5), buf.as_mut_ptr(), 16)
            .offset(0x1122_3344_5566_7788)
            .rw_flags(3)
            .ioprio(4)
            .buf_group(6)
            .build()
            .flags(Flags::IO_LINK | Flags::ASYNC)
            .personality(2)
            .user_data(0xabcd);
        let expected = RawSqe {
            opcode: opcode::Read::CODE,
            flags: (Flags::IO_LINK | Flags::ASYNC).bits(),
            ioprio: 4,
            fd: 5,
            off: 0x1122_3344_5566_7788,
            addr: buf.as_ptr() as u64,
            len: 16,
            op_flags: 3,
            user_data: 0xabcd,
            buf_index: 6,
            personality: 2,
            ..RawSqe::default()
        };
        let raw = RawSqe::from(read.clone());
        assert_eq!(raw, expected);
        assert_eq!(RawSqe::from(Entry::from(raw)), expected);

        let wide = RawSqe128::from(Entry128::from(read));
        assert_eq!(wide, RawSqe128::from(expected));
        assert_eq!(RawSqe128::from(Entry128::from(wide)), wide);
    }

    #[test]
    fn an_open_and_a_futex_fill_the_remaining_fields() {
        let path = c"/";
        let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr())
            .flags(libc::O_RDONLY)
            .mode(0o600)
            .file_index(Some(
                types::DestinationSlot::try_from_slot_target(4).unwrap(),
            ))
            .build();
        let raw = RawSqe::from(open);
        assert_eq!(raw.fd, libc::AT_FDCWD);
        assert_eq!(raw.addr, path.as_ptr() as u64);
        assert_eq!((raw.len, raw.op_flags, raw.file_index), (0o600, 0, 5));

        let word = 0u32;
        let wait = opcode::FutexWait::new(&raw const word, 1, u64::from(u32::MAX), 2).build();
        let raw = RawSqe::from(wait);
        assert_eq!(
            (raw.off, raw.addr3, raw.fd, raw.pad2),
            (1, u64::from(u32::MAX), 2, 0)
        );
    }

    #[test]
    fn the_second_half_survives() {
        let mut raw = RawSqe128::from(RawSqe::default());
        raw.extension = std::array::from_fn(|i| i as u8);
        assert_eq!(RawSqe128::from(Entry128::from(raw)), raw);
    }
}
