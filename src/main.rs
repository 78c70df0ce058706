//! The command line: everything is in the library.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
use rehearsal::backend::linux::allocator::Allocator;

#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;
#[cfg(not(target_os = "linux"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    {
        rehearsal::backend::linux::be_one_if_asked();
        rehearsal::backend::linux::allocator::keep_freed_pages();
        rehearsal::backend::linux::allocator::keep_blocks();
    }
    rehearsal::cli::main()
}
