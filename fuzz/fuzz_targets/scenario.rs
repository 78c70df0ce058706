//! Any bytes, read as a scenario: see `tests/support/scenario_body.rs` for what must hold.

#![no_main]

#[path = "../../tests/support/scenario_body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::exercise(bytes));
