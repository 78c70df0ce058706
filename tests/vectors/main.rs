//! Behaviour recorded from the real Kubernetes components; a difference is this project's bug
//! until shown otherwise.
//!
//! One test per recorded file. The files are read from the folder `$REHEARSAL_VECTORS` when it is
//! set (`NAME.jsonl` or `NAME.jsonl.gz`), else from the packed copies beside this file. Every run
//! prints `file/family passed/total`, and for each case that differs its id (its line number where
//! it has none) and the first difference. A missing or empty file, an unreadable line, a field that
//! the comparison does not know, and a family without a case are failures.
//!
//! The files `…-more` hold cases of the same kinds that were made to reach what the recordings do
//! not, answered by the same components, and once answered differently here.
//!
//! To add a file: put `NAME.jsonl.gz` here, write `NAME.rs` with a `compare` function and the
//! tolerances at its top, and call [`support::check`] from a test below.

mod controllers;
mod cron;
mod hints;
mod nodes;
mod openb;
mod scheduler;
mod support;
mod updates;
mod validation;
mod yaml;

#[test]
fn controllers() {
    support::check(&controllers::VECTORS);
}

#[test]
fn branches() {
    support::check(&controllers::BRANCHES);
}

#[test]
fn cron() {
    support::check(&cron::VECTORS);
    support::check(&cron::MORE);
}

#[test]
fn hints() {
    support::check(&hints::VECTORS);
}

#[test]
fn nodes() {
    support::check(&nodes::VECTORS);
}

#[test]
fn yaml() {
    support::check(&yaml::VECTORS);
    support::check(&yaml::MORE);
}

#[test]
fn scheduler() {
    support::check(&scheduler::VECTORS);
}

#[test]
fn scheduler_more() {
    support::check(&scheduler::MORE);
}

#[test]
fn validation() {
    support::check(&validation::VECTORS);
    support::check(&validation::MORE);
}

#[test]
fn updates() {
    support::check(&updates::VECTORS);
}
