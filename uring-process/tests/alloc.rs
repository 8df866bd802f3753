//! A plan that is used again allocates nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::{Mutex, MutexGuard, PoisonError},
};

use io_uring::IoUring;
use uring_process::{
    Command,
    ring::{Event, Spawner},
};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    COUNT.with(|count| count.set(count.get() + 1));
}

// SAFETY: the system's allocator, which counts the calls of each thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(of: impl FnOnce()) -> usize {
    let before = COUNT.with(Cell::get);
    of();
    COUNT.with(Cell::get) - before
}

/// Slots are shared by all threads: one taken by another test would have to be made anew.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_plan_used_again_allocates_nothing() {
    let _alone = alone();
    assert!(allocations(|| drop(std::hint::black_box(Box::new(1)))) > 0);
    let mut ring = IoUring::new(64).unwrap();
    let mut spawner = Spawner::new(&ring, 1).unwrap();
    let plain = Command::new("true").plan().unwrap();
    let captured = Command::new("true").capture_plan().unwrap();
    // Told at the end, events are as many at a time as they can be: the warm-up.
    let mut round = |plan, at_the_end: bool| {
        for _ in 0..8 {
            spawner.submit(plan).unwrap();
        }
        let mut ended = 0;
        while ended < 8 || spawner.in_flight() > 0 {
            spawner.push(&mut ring.submission());
            ring.submit_and_wait(1).unwrap();
            for completion in ring.completion() {
                spawner.complete(completion.user_data(), completion.result());
            }
            if at_the_end && spawner.in_flight() > 0 {
                continue;
            }
            while let Some(event) = spawner.next_event() {
                ended += usize::from(matches!(event, Event::Ended { .. }));
            }
        }
    };
    for plan in [&plain, &captured] {
        for _ in 0..5 {
            round(plan, true);
        }
        assert_eq!(allocations(|| (0..20).for_each(|_| round(plan, false))), 0);
    }
}

#[test]
fn the_blocking_door_allocates_nothing_but_its_scratch() {
    let _alone = alone();
    let plan = Command::new("true").plan().unwrap();
    let spawn = || assert!(plan.spawn().unwrap().wait().unwrap().success());
    spawn();
    let each = allocations(spawn);
    assert!(each <= 1, "{each} allocations");
}
