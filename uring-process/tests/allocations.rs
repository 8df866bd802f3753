//! A plan that is used again allocates nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use io_uring::IoUring;
use uring_process::{
    Command, Stdio,
    ring::{Event, Spawner},
};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(run: impl FnOnce()) -> usize {
    let before = COUNT.get();
    run();
    COUNT.get() - before
}

#[test]
fn a_plan_used_again_allocates_nothing() {
    let mut command = Command::new("true");
    let plan = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .setsid(true)
        .plan()
        .unwrap();
    let mut ring = IoUring::new(64).unwrap();
    let mut spawner = Spawner::new(&ring, 1).unwrap();
    let mut round = || {
        for _ in 0..16 {
            spawner.submit(&plan).unwrap();
        }
        let mut ended = 0;
        while ended < 16 {
            spawner.push(&mut ring.submission());
            ring.submit_and_wait(1).unwrap();
            for completion in ring.completion() {
                spawner.complete(completion.user_data(), completion.result());
            }
            while let Some(event) = spawner.next_event() {
                match event {
                    Event::Started(_) => {}
                    Event::Failed { error, .. } => panic!("{error}"),
                    Event::Ended { .. } => ended += 1,
                }
            }
        }
    };
    // The first times fill the pools.
    round();
    round();
    assert_eq!(allocations(&mut round), 0);
    assert!(allocations(|| drop(command.plan())) > 0, "the count works");
}
