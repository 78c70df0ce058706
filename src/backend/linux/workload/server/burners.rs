//! CPU work of requests, taken in turn by all the cores that a container may use.
//!
//! Pieces of work wait in one line. Whoever is free takes the first one, computes for a short slice,
//! and puts what is left at the end: processor sharing, as the simulation has it, among as many
//! pieces as there are. The server's own thread takes part between its other doings; further
//! threads, one for each further core, begin when there is work for them and sleep when there is not.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::sys;

/// The longest time that one piece has a core before the next one's turn, in nanoseconds.
const SLICE: u64 = 200_000;
/// Room for a thread that calls nothing deep.
const STACK: usize = 64 << 10;

/// A piece of work.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// The connection whose request it belongs to.
    token: u64,
    /// CPU time that is left, in nanoseconds.
    left: u64,
}

impl Piece {
    /// Computes for a slice; whether it is done.
    fn burn(&mut self) -> bool {
        let start = sys::thread_cpu();
        let slice = self.left.min(SLICE);
        let mut used = 0;
        while used < slice {
            std::hint::spin_loop();
            used = sys::thread_cpu() - start;
        }
        self.left = self.left.saturating_sub(used);
        self.left == 0
    }
}

#[derive(Default)]
struct Line {
    pieces: VecDeque<Piece>,
    /// Tokens of pieces that other threads have done.
    done: Vec<u64>,
    /// Threads that sleep.
    asleep: usize,
}

struct Shared {
    line: Mutex<Line>,
    come: Condvar,
    /// Readable when `done` may hold something.
    told: EventFd,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        crate::backend::linux::precedence::take_short_turns();
        let mut line = self.line();
        loop {
            let Some(mut piece) = line.pieces.pop_front() else {
                line.asleep += 1;
                line = self.come.wait(line).unwrap_or_else(PoisonError::into_inner);
                line.asleep -= 1;
                continue;
            };
            drop(line);
            let done = piece.burn();
            line = self.line();
            if !done {
                line.pieces.push_back(piece);
                continue;
            }
            line.done.push(piece.token);
            // It cannot overflow, and a failure would show as a request that hangs.
            let _ = self.told.write(1);
        }
    }
}

/// Work in progress, and who does it.
pub struct Burners {
    shared: Arc<Shared>,
    /// Threads that may still be started.
    spare: usize,
}

impl Burners {
    /// For so many cores; the calling thread is one of them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(cores: u32) -> io::Result<Burners> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let shared = Shared {
            line: Mutex::default(),
            come: Condvar::new(),
            told: EventFd::from_flags(flags)?,
        };
        Ok(Burners {
            shared: Arc::new(shared),
            spare: cores.saturating_sub(1) as usize,
        })
    }

    /// Readable when [`Burners::done`] may have something.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.shared.told.as_fd()
    }

    /// Puts a request's work into the line, in so many pieces.
    pub fn put(&mut self, token: u64, pieces: u32, each: u64) {
        let mut line = self.shared.line();
        let piece = Piece { token, left: each };
        line.pieces
            .extend(std::iter::repeat_n(piece, pieces as usize));
        // One of them is this thread's.
        let others = line.pieces.len() - 1;
        let sleepers = line.asleep;
        drop(line);
        for _ in 0..others.min(sleepers) {
            self.shared.come.notify_one();
        }
        for _ in 0..others.saturating_sub(sleepers).min(self.spare) {
            self.start();
        }
    }

    fn start(&mut self) {
        self.spare -= 1;
        let shared = self.shared.clone();
        let named = std::thread::Builder::new().stack_size(STACK);
        // Without it the other threads do the work, more slowly: a limit of processes is that.
        let _ = named.spawn(move || shared.work());
    }

    /// Whether there is something for the calling thread to do.
    pub fn waits(&self) -> bool {
        !self.shared.line().pieces.is_empty()
    }

    /// Computes for a slice; the token of a piece that is done with it.
    pub fn take_turn(&self) -> Option<u64> {
        let mut piece = self.shared.line().pieces.pop_front()?;
        let done = piece.burn();
        if !done {
            self.shared.line().pieces.push_back(piece);
        }
        done.then_some(piece.token)
    }

    /// Tokens of the pieces that other threads have done.
    pub fn done(&self) -> Vec<u64> {
        let _ = self.shared.told.read();
        std::mem::take(&mut self.shared.line().done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn every_piece_is_done_once_whoever_does_it() {
        let mut burners = Burners::new(3).expect("threads");
        for token in 0..20 {
            burners.put(token, 2, 500_000);
        }
        let (mut done, begun) = (vec![0; 20], Instant::now());
        while done.iter().sum::<u32>() < 40 {
            for token in burners.done().into_iter().chain(burners.take_turn()) {
                done[token as usize] += 1;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{done:?}");
        }
        assert_eq!(done, [2; 20]);
        assert!(!burners.waits());
    }

    #[test]
    fn a_single_core_starts_no_thread() {
        let mut burners = Burners::new(1).expect("no threads");
        burners.put(7, 3, 1);
        for _ in 0..3 {
            assert_eq!(burners.take_turn(), Some(7));
        }
        assert_eq!((burners.take_turn(), burners.done()), (None, Vec::new()));
    }
}
