//! Layouts, builders and query allocate nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
    ptr::null,
};

use io_uring::squeue::{Entry, Entry128, Flags};
use uring_sys_ext::{
    RawSqe, RawSqe128, opcode,
    process::{Attributes, FdMapping, OpFlags, Request},
    query, sized,
};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: hands everything to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
}

#[test]
fn layouts_builders_and_query_allocate_nothing() {
    // SAFETY: the entries are never submitted.
    let number = unsafe { opcode::OpCode::assume(200) };
    let count = allocations(|| {
        let groups = [1, 2];
        let map = [FdMapping {
            source: 3,
            target: 0,
        }];
        let mut pidfd = -1;
        let mut attributes = Attributes::new()
            .uid(1)
            .groups(groups.as_ptr(), 2)
            .fd_map(map.as_ptr(), 1)
            .pidfd(&raw mut pidfd)
            .setsid();
        let read = Attributes::from_bytes(attributes.as_bytes());
        black_box((read.is_ok(), attributes.failed_stage(), attributes.flags()));
        black_box(sized::shortest(attributes.as_bytes(), 8));

        let argv = [c"true".as_ptr(), null()];
        let entry = opcode::Process::new(number, libc::AT_FDCWD, c"/bin/true".as_ptr())
            .argv(argv.as_ptr())
            .envp(argv.as_ptr())
            .attributes(&raw mut attributes)
            .op_flags(OpFlags::PROBE)
            .build()
            .flags(Flags::IO_LINK);
        let raw = RawSqe::from(entry);
        black_box((
            Request::from(raw),
            Entry::from(raw),
            Entry128::from(RawSqe128::from(raw)),
        ));
        black_box(opcode::Clone::new(number).build());
        black_box(
            opcode::Exec::new(number, 3, c"x".as_ptr(), null(), null())
                .flags(0)
                .build(),
        );
        let _ = black_box(query::opcodes());
    });
    assert_eq!(count, 0);
}
