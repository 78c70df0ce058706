//! The program as its users meet it: arguments in, text, files and exit codes out.
//!
//! One test binary for all of it: linking is most of what a small test file costs.

mod audit;
mod cli;
mod compare;
mod explain;
mod input;
mod program;
mod readme;
mod reports;
mod search;
