//! The program's allocator, and how long it keeps pages that nobody uses.
//!
//! It is mimalloc by its crate, but for what nearly everything is: of no wider alignment than a word,
//! which every block has. To ask for that by name costs twice as much as the allocation itself.
//!
//! What a run allocates it mostly frees soon, and mimalloc gives out a page's blocks one after the
//! other: by the time a block is used again, it has left the processor's cache. So a thread may keep
//! the small blocks that it freed last ([`keep_blocks`]) and gets the very last one first. A large
//! cluster waits for a ninth fewer lines of memory.
//!
//! A run of a large cluster frees and takes memory in waves, a thousand times a second. Pages that
//! go back to the kernel after the allocator's ten milliseconds have to be cleared and mapped again,
//! as small ones, which costs a twentieth of the run. So they are kept for a second.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_option_get, mi_option_set, mi_option_t, mi_realloc, mi_zalloc,
};
use mimalloc::MiMalloc;

/// mimalloc.
pub struct Allocator;

/// What blocks of every size are aligned to.
const WORD: usize = size_of::<usize>();

/// Blocks up to this size are kept, in bytes.
const LARGEST: usize = 512;
/// So many of each size. The processor's first cache holds a few dozen of the common ones.
const DEPTH: usize = 32;

/// The blocks of one size that a thread freed last.
#[derive(Clone, Copy)]
struct Ring {
    /// Where the last one is; there is none when that is null.
    last: usize,
    blocks: [*mut u8; DEPTH],
}

impl Ring {
    const EMPTY: Ring = Ring {
        last: 0,
        blocks: [null_mut(); DEPTH],
    };

    /// The last block, or null.
    #[inline]
    fn pop(&mut self) -> *mut u8 {
        let block = std::mem::replace(&mut self.blocks[self.last], null_mut());
        if !block.is_null() {
            self.last = self.last.wrapping_sub(1) % DEPTH;
        }
        block
    }

    /// Keeps a block; returns the one that has to go for it, or null.
    #[inline]
    fn push(&mut self, block: *mut u8) -> *mut u8 {
        self.last = (self.last + 1) % DEPTH;
        std::mem::replace(&mut self.blocks[self.last], block)
    }
}

/// What one thread keeps, by size in words.
struct Kept {
    on: bool,
    rings: [Ring; LARGEST / WORD + 1],
}

thread_local! {
    // Nothing has to be made or dropped, so that it is there whenever something is allocated.
    static KEPT: UnsafeCell<Kept> = const {
        UnsafeCell::new(Kept {
            on: false,
            rings: [Ring::EMPTY; LARGEST / WORD + 1],
        })
    };
}

/// Does something with what this thread keeps.
#[inline]
fn kept<R>(act: impl FnOnce(&mut Kept) -> R) -> R {
    // SAFETY: it is this thread's alone, and nothing that is done with it allocates, frees or comes
    // here again.
    KEPT.with(|kept| act(unsafe { &mut *kept.get() }))
}

/// The ring of a block that can be kept.
#[inline]
fn ring_of(layout: Layout) -> Option<usize> {
    (layout.align() <= WORD && layout.size() <= LARGEST).then(|| layout.size().div_ceil(WORD))
}

/// The size that is asked for: whole words, so that blocks of one ring are of one size.
#[inline]
fn whole(size: usize) -> usize {
    // A layout's size is at most `isize::MAX`.
    (size + (WORD - 1)) & !(WORD - 1)
}

/// From now on this thread keeps the small blocks that it frees, until [`let_blocks_go`]; a thread
/// that ends without that leaves them behind.
pub fn keep_blocks() {
    kept(|kept| kept.on = true);
}

/// This thread keeps no blocks any more.
pub fn let_blocks_go() {
    kept(|kept| kept.on = false);
    for at in 0..=LARGEST / WORD {
        loop {
            let block = kept(|kept| kept.rings[at].pop());
            if block.is_null() {
                break;
            }
            // SAFETY: it is mimalloc's, and was freed once, by whoever brought it here.
            unsafe { mi_free(block.cast()) };
        }
    }
}

// SAFETY: blocks are mimalloc's, of at least the size that was asked for; those of a wider alignment
// than a word, which its plain functions do not promise, come from its crate, which asks for it.
// Whichever function gave a block, `mi_free` takes it back and `mi_realloc` moves it. A block that
// was freed is kept by one ring or freed to mimalloc, and every block of a ring is of its size: the
// plain functions are only asked for whole words.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(ring) = ring_of(layout) {
            let block = kept(|kept| kept.rings[ring].pop());
            if !block.is_null() {
                return block;
            }
        }
        match layout.align() <= WORD {
            // SAFETY: there are no preconditions.
            true => unsafe { mi_malloc(whole(layout.size())).cast() },
            // SAFETY: the caller's promise is passed on.
            false => unsafe { MiMalloc.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match layout.align() <= WORD {
            // SAFETY: there are no preconditions.
            true => unsafe { mi_zalloc(whole(layout.size())).cast() },
            // SAFETY: the caller's promise is passed on.
            false => unsafe { MiMalloc.alloc_zeroed(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let goes = match ring_of(layout) {
            Some(ring) => kept(|kept| match kept.on {
                true => kept.rings[ring].push(block),
                false => block,
            }),
            None => block,
        };
        if !goes.is_null() {
            // SAFETY: it is mimalloc's: this block, by the caller's promise, or one kept before.
            unsafe { mi_free(goes.cast()) }
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match layout.align() <= WORD {
            // SAFETY: the block is one of these, says the caller.
            true => unsafe { mi_realloc(block.cast(), whole(size)).cast() },
            // SAFETY: the caller's promise is passed on.
            false => unsafe { MiMalloc.realloc(block, layout, size) },
        }
    }
}

/// `mi_option_purge_delay`, which the binding does not name: milliseconds.
const PURGE_DELAY: mi_option_t = 15;
/// What it is where nobody has set `MIMALLOC_PURGE_DELAY`.
const USUAL: std::ffi::c_long = 10;
const A_SECOND: std::ffi::c_long = 1_000;

/// From now on pages are kept for a second, unless the environment says how long. To be called by
/// programs that use mimalloc, before there is much to free.
pub fn keep_freed_pages() {
    // SAFETY: reading an option has no preconditions; numbers that are none read as 0.
    if unsafe { mi_option_get(PURGE_DELAY) } != USUAL {
        return;
    }
    // SAFETY: the option was just read, so it exists, and may be set at any time.
    unsafe { mi_option_set(PURGE_DELAY, A_SECOND) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_as_asked_and_keep_what_is_in_them() {
        for (size, align) in [
            (1, 1),
            (7, 2),
            (8, 8),
            (24, 8),
            (24, 16),
            (40, 64),
            (5_000, 8),
        ] {
            let layout = Layout::from_size_align(size, align).expect("a layout");
            let wider = Layout::from_size_align(3 * size, align).expect("a layout");
            // SAFETY: blocks are used within their sizes, and freed once with their layouts.
            unsafe {
                let block = Allocator.alloc_zeroed(layout);
                assert_eq!((block as usize) % align, 0, "{layout:?}");
                assert!((0..size).all(|at| *block.add(at) == 0));
                block.add(size - 1).write(7);
                let block = Allocator.realloc(block, layout, wider.size());
                assert_eq!((block as usize) % align, 0, "{wider:?}");
                assert_eq!(*block.add(size - 1), 7);
                Allocator.dealloc(block, wider);
                let block = Allocator.alloc(layout);
                assert_eq!((block as usize) % align, 0, "{layout:?}");
                Allocator.dealloc(block, layout);
            }
        }
    }

    #[test]
    fn a_thread_gets_the_block_that_it_freed_last_and_keeps_no_more_than_it_may() {
        let layout = Layout::from_size_align(40, 8).expect("a layout");
        let of = move |n: usize| -> Vec<*mut u8> {
            // SAFETY: the blocks are not used.
            (0..n).map(|_| unsafe { Allocator.alloc(layout) }).collect()
        };
        let free = move |blocks: &[*mut u8]| {
            for block in blocks {
                // SAFETY: each of these is a block of this layout, and freed once.
                unsafe { Allocator.dealloc(*block, layout) };
            }
        };
        // In a thread of its own, which the harness's allocations do not disturb.
        let work = move || {
            let some = of(3);
            keep_blocks();
            free(&some);
            let again = of(3);
            assert!(again.iter().eq(some.iter().rev()));
            let many = of(2 * DEPTH);
            free(&many);
            let mut again = of(DEPTH);
            assert!(again.iter().eq(many.iter().rev().take(DEPTH)));
            assert!(kept(|kept| kept.rings[5].pop()).is_null());
            again.extend(some);
            free(&again);
            let_blocks_go();
            assert!(kept(|kept| kept
                .rings
                .iter_mut()
                .all(|ring| ring.pop().is_null())));
            free(&of(1));
            assert!(kept(|kept| kept.rings[5].pop()).is_null());
        };
        std::thread::spawn(work).join().expect("no panic");
    }

    #[test]
    fn the_option_is_the_one_that_says_ten_milliseconds_by_default() {
        keep_freed_pages();
        // SAFETY: as above.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, A_SECOND);
    }
}
