//! Work on as many threads as was asked for.

/// Does `work` in a pool of so many threads, one for each core where no number is given; where there
/// are none to be had it says so and goes on without.
pub(super) fn on<R: Send>(threads: Option<u16>, work: impl Fn() -> R + Sync) -> R {
    let number = usize::from(threads.unwrap_or(0));
    match rayon::ThreadPoolBuilder::new().num_threads(number).build() {
        Ok(pool) => pool.install(&work),
        Err(error) => {
            eprintln!("warning: no threads, one run after the other: {error}");
            work()
        }
    }
}
