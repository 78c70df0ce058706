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
mod calibrate;
mod containers;
mod crun;
mod failures;
mod images;
#[path = "../support/inventory.rs"]
mod inventory;
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

/// A test that runs alone, and has to leave everything as it was.
struct Alone {
    before: inventory::Inventory,
    _one: std::sync::MutexGuard<'static, ()>,
}

fn alone() -> Alone {
    let one = ONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Alone {
        before: inventory::Inventory::take(),
        _one: one,
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // A test that has failed says so itself.
        if !std::thread::panicking() {
            self.before.is_back();
        }
    }
}
