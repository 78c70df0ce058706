//! Tables, stories, plots, explanations: pure functions of what a run left behind.
//!
//! Everything here reads a [`RunRecord`](crate::record::RunRecord), in memory or from a results
//! folder ([`folder::read`]), and returns text. Nothing here knows the cluster, reads a clock or
//! asks the terminal: the same record gives the same bytes.
//!
//! Read first: [`summary_json`] (what programs read), [`story::story`] (what people read),
//! [`folder`] (what stays on disk).

pub mod number;

pub mod summary;

pub mod tables;

pub mod folder;

pub use summary::summary_json;
