//! The program's allocator, and how long it keeps pages that nobody uses.
//!
//! It is mimalloc by its crate, but for what nearly everything is: of no wider alignment than a word,
//! which every block has. To ask for that by name costs twice as much as the allocation itself.
//!
//! A run of a large cluster frees and takes memory in waves, a thousand times a second. Pages that
//! go back to the kernel after the allocator's ten milliseconds have to be cleared and mapped again,
//! as small ones, which costs a twentieth of the run. So they are kept for a second.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_malloc, mi_option_get, mi_option_set, mi_option_t, mi_realloc, mi_zalloc,
};
use mimalloc::MiMalloc;

/// mimalloc.
pub struct Allocator;

/// What blocks of every size are aligned to.
const WORD: usize = size_of::<usize>();

// SAFETY: blocks are mimalloc's, of the size that was asked for; those of a wider alignment than a
// word, which its plain functions do not promise, come from its crate, which asks for it. Whichever
// function gave a block, `mi_free` takes it back and `mi_realloc` moves it.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match layout.align() <= WORD {
            // SAFETY: there are no preconditions.
            true => unsafe { mi_malloc(layout.size()).cast() },
            // SAFETY: the caller's promise is passed on.
            false => unsafe { MiMalloc.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match layout.align() <= WORD {
            // SAFETY: there are no preconditions.
            true => unsafe { mi_zalloc(layout.size()).cast() },
            // SAFETY: the caller's promise is passed on.
            false => unsafe { MiMalloc.alloc_zeroed(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match layout.align() <= WORD {
            // SAFETY: the block is one of these, says the caller.
            true => unsafe { mi_realloc(block.cast(), size).cast() },
            // SAFETY: the caller's promise is passed on.
            false => unsafe { MiMalloc.realloc(block, layout, size) },
        }
    }
}

/// `mi_option_purge_delay`, which the binding does not name: milliseconds.
const PURGE_DELAY: mi_option_t = 15;
/// What it is where nobody has set `MIMALLOC_PURGE_DELAY`.
const USUAL: std::ffi::c_long = 10;
const KEPT: std::ffi::c_long = 1_000;

/// From now on pages are kept for a second, unless the environment says how long. To be called by
/// programs that use mimalloc, before there is much to free.
pub fn keep_freed_pages() {
    // SAFETY: reading an option has no preconditions; numbers that are none read as 0.
    if unsafe { mi_option_get(PURGE_DELAY) } != USUAL {
        return;
    }
    // SAFETY: the option was just read, so it exists, and may be set at any time.
    unsafe { mi_option_set(PURGE_DELAY, KEPT) };
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
    fn the_option_is_the_one_that_says_ten_milliseconds_by_default() {
        keep_freed_pages();
        // SAFETY: as above.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, KEPT);
    }
}
