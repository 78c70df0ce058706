//! Tables, stories, plots, explanations: pure functions of what a run left behind.
//!
//! Everything here reads a [`RunRecord`], in memory or from a results
//! folder ([`folder::read`]), and returns text. Nothing here knows the cluster, reads a clock or
//! asks the terminal: the same record gives the same bytes.
//!
//! Read first: [`summary_json`] (what programs read), [`story::story`] (what people read),
//! [`folder`] (what stays on disk).

pub mod number;

pub mod summary;

pub mod tables;

pub mod folder;

pub mod names;

pub mod story;

pub mod agreement;

pub mod audit;

pub mod explain;

pub mod plots;

pub mod compare;

pub mod junit;

pub mod markdown;

pub mod html;

pub mod beside;

use crate::engine::Time;
use crate::record::RunRecord;

pub use beside::side_by_side;
pub use html::html;
pub use markdown::markdown;
pub use plots::plots;
pub use summary::summary_json;

/// The moment that an explanation should begin with: when most requests failed in one second, else
/// when the first check failed; as `mm:ss` from the run's beginning.
pub fn worst_moment(run: &RunRecord) -> Option<String> {
    let users = run.traffic.iter().filter(|t| !t.internal);
    let worst = (users.flat_map(|t| &t.seconds))
        .filter(|s| s.failures() > 0)
        .max_by_key(|s| (s.failures(), std::cmp::Reverse(s.second)))
        .map(|s| s.at().since(run.header.begun).as_secs());
    let check = || {
        let failed = run.checks.iter().filter(|c| c.failed());
        failed.filter_map(|c| c.run_s).map(|at| at as u64).min()
    };
    Some(Time::from_secs(worst.or_else(check)?).clock())
}
