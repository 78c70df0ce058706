//! Real runs: processes, namespaces and cgroups of this host.
//!
//! These tests need root and say so when they are skipped. Each one is bounded in time, touches
//! only what its own cell made, and looks for leaks: what was there before is there afterwards.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real processes take real time"
)]

mod bench;
mod containers;
mod crun;
mod failures;
mod images;
mod leaks;
mod rootless;
mod runs;
mod vm;

/// Whether the tests can run; says why when they cannot.
fn possible() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let must = std::env::var_os("REHEARSAL_ROOT_TESTS").is_some();
    assert!(root || !must, "real containers need root");
    if !root {
        println!("skipped: real containers need root");
    }
    root
}

/// The program under test.
fn program() -> std::path::PathBuf {
    env!("CARGO_BIN_EXE_rehearsal").into()
}

/// Cells count runs of their process and look at its descriptors: one at a time.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ONE.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
