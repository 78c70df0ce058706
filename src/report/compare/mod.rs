//! An experiment's results: table, CSV, JSON, pictures. A pure function of its trials, so that shares
//! put together give the same bytes as one run.
//!
//! Read first: [`stats`] (what is computed), [`table()`] (what the terminal shows).

pub mod stats;

mod files;

mod plots;

mod table;

pub use files::{csv_files, summary_json, write};
pub use plots::plots;
pub use table::{explain_metrics, table};
