//! Exit codes, the same for every command.

use std::process::ExitCode;

/// All checks pass.
pub const PASSED: u8 = 0;
/// A check failed.
pub const FAILED: u8 = 1;
/// Bad input.
pub const INPUT: u8 = 2;
/// Internal error.
pub const INTERNAL: u8 = 3;
/// The host cannot do what was asked.
pub const HOST: u8 = 4;

/// The worst of several codes: internal errors first, then the host, input, failed checks.
pub fn worst(codes: impl IntoIterator<Item = u8>) -> ExitCode {
    ExitCode::from(codes.into_iter().max().unwrap_or(PASSED))
}
