//! Memory that is really used: anonymous pages, written to, given back when they go.

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::libc::c_void;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Memory is taken and given back in pieces of this size, in bytes.
const PIECE: NonZeroUsize = NonZeroUsize::new(256 << 10).expect("not zero");
const PAGE: usize = 4096;

/// Memory in use.
#[derive(Debug, Default)]
pub struct Ballast {
    pieces: Vec<NonNull<c_void>>,
}

impl Ballast {
    /// Uses about `bytes`; the kernel may kill this process for it.
    pub fn become_as_large_as(&mut self, bytes: u64) {
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX) / PIECE;
        while self.pieces.len() > wanted {
            if let Some(piece) = self.pieces.pop() {
                // SAFETY: the piece was mapped with this size and nobody else points into it.
                let _ = unsafe { munmap(piece, PIECE.get()) };
            }
        }
        while self.pieces.len() < wanted {
            let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            // SAFETY: a new private mapping at an address that the kernel chooses.
            let mapped = unsafe { mmap_anonymous(None, PIECE, protection, MapFlags::MAP_PRIVATE) };
            let Ok(piece) = mapped else { return };
            for offset in (0..PIECE.get()).step_by(PAGE) {
                // SAFETY: inside the mapping, which is writable.
                unsafe { piece.cast::<u8>().add(offset).write_volatile(1) };
            }
            self.pieces.push(piece);
        }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        self.become_as_large_as(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/smaps_rollup").expect("/proc");
        let line = status.lines().find(|l| l.starts_with("Anonymous:"));
        let words = line.and_then(|l| l.split_whitespace().nth(1));
        words.and_then(|w| w.parse().ok()).expect("a number")
    }

    #[test]
    fn it_is_resident_and_given_back() {
        let mut ballast = Ballast::default();
        let before = resident_kib();
        ballast.become_as_large_as(64 << 20);
        let with = resident_kib();
        assert!(with >= before + 60_000, "{before} then {with} KiB");
        ballast.become_as_large_as(0);
        // Other tests run beside this one.
        assert!(resident_kib() + 40_000 < with);
    }
}
