//! Work on as many threads as was asked for.

/// Does `work` in a pool of so many threads, one for each core where no number is given; where there
/// are none to be had it says so and goes on without.
pub(super) fn on<R: Send>(threads: Option<u16>, work: impl Fn() -> R + Sync) -> R {
    let number = usize::from(threads.unwrap_or(0));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(number);
    #[cfg(target_os = "linux")]
    let pool = {
        use crate::backend::linux::allocator::{keep_blocks, let_blocks_go};
        pool.start_handler(|_| keep_blocks())
            .exit_handler(|_| let_blocks_go())
    };
    match pool.build() {
        Ok(pool) => pool.install(&work),
        Err(error) => {
            eprintln!("warning: no threads, one run after the other: {error}");
            work()
        }
    }
}
