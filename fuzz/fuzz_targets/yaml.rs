//! Any bytes, read as YAML: see `tests/support/yaml_body.rs` for what must hold.

#![no_main]

#[path = "../../tests/support/yaml_body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::exercise(bytes));
