//! How long the program's allocator keeps pages that nobody uses.
//!
//! A run of a large cluster frees and takes memory in waves, a thousand times a second. Pages that
//! go back to the kernel after the allocator's ten milliseconds have to be cleared and mapped again,
//! as small ones, which costs a twentieth of the run. So they are kept for a second.

use libmimalloc_sys::{mi_option_get, mi_option_set, mi_option_t};

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
    fn the_option_is_the_one_that_says_ten_milliseconds_by_default() {
        keep_freed_pages();
        // SAFETY: as above.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, KEPT);
    }
}
