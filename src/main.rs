//! The command line: everything is in the library.

use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    {
        rehearsal::backend::linux::be_one_if_asked();
        rehearsal::backend::linux::allocator::keep_freed_pages();
    }
    rehearsal::cli::main()
}
