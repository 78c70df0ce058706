//! The story of a run on a terminal: what happened and why, what users felt, what was promised.
//!
//! Every line is derived from the record: [`nodes`], [`rollouts`], [`pods`] and [`autoscaling`] find
//! what is worth telling, [`traffic`] says what came of the requests, and [`verdict`] what was checked. Repetition
//! is told once with a count; when there is still too much, the least important lines go and their
//! number is told. The cause stands before the number, and nothing depends on colour.

mod autoscaling;

pub mod line;

mod nodes;

mod pods;

mod rollouts;

mod traffic;

mod verdict;

use super::names::Names;
use super::number::{count, duration};
use crate::record::RunRecord;
use line::{Line, Page};

/// How to print a story.
#[derive(Clone, Debug, Default)]
pub struct StoryOptions {
    /// Columns of the terminal; 0 for no limit.
    pub width: usize,
    /// Whether colours (ANSI) may be used.
    pub colour: bool,
    /// The results folder as the user would name it; `None` when nothing was written.
    pub results: Option<String>,
}

/// So many lines a timeline has at most.
const LINES_MAX: usize = 25;

/// The whole story.
pub fn story(run: &RunRecord, options: &StoryOptions) -> String {
    let names = Names::new(run);
    let mut page = Page::new(options);
    page.plain(&heading(run));
    for remark in remarks(run) {
        page.wrapped(2, &remark);
    }
    let mut lines = traffic::begins(&names);
    lines.extend(nodes::lines(&names));
    lines.extend(rollouts::lines(&names));
    lines.extend(pods::lines(&names));
    lines.extend(autoscaling::lines(&names));
    lines.sort_by_key(|line| line.at);
    page.timeline(&names, shortened(lines));
    traffic::outcome(&names, &mut page);
    verdict::print(run, options, &mut page);
    page.text()
}

/// Checks and verdict only, for `--quiet`.
pub fn verdict(run: &RunRecord, options: &StoryOptions) -> String {
    let mut page = Page::new(options);
    verdict::print(run, options, &mut page);
    page.text()
}

/// The timeline of what happened between two instants, unshortened: for `explain`.
pub fn window(
    run: &RunRecord,
    options: &StoryOptions,
    from: crate::engine::Time,
    to: crate::engine::Time,
) -> String {
    let names = Names::new(run);
    let mut lines = traffic::begins(&names);
    lines.extend(nodes::lines(&names));
    lines.extend(rollouts::lines(&names));
    lines.extend(pods::lines(&names));
    lines.extend(autoscaling::lines(&names));
    lines.sort_by_key(|line| line.at);
    lines.retain(|line| from <= line.at && line.at <= to);
    let mut page = Page::new(options);
    page.timeline(&names, lines);
    page.text()
}

fn heading(run: &RunRecord) -> String {
    let header = &run.header;
    let digest: String = header.digest.chars().take(8).collect();
    let mut parts = vec![
        header.scenario.clone(),
        format!("k8s {}", header.kubernetes_version),
        count(header.nodes.into(), "node"),
        count(header.workloads.into(), "workload"),
        format!("{} simulated", duration(header.simulated)),
        format!("seed {}", header.seed),
        format!("digest {digest}…"),
    ];
    if header.backend != "sim" && !header.backend.is_empty() {
        parts.push(format!("backend {}", header.backend));
    }
    if header.interrupted {
        parts.push("INTERRUPTED".to_owned());
    }
    parts.join("  ")
}

fn remarks(run: &RunRecord) -> Vec<String> {
    let header = &run.header;
    let mut remarks = Vec::new();
    if !header.not_modelled.is_empty() {
        let parts: Vec<String> = (header.not_modelled.iter())
            .map(|(kind, n)| format!("{kind} ×{n}"))
            .collect();
        remarks.push(format!("not modelled: {}", parts.join(", ")));
    }
    for lost in &header.degraded {
        remarks.push(format!("degraded: {lost}"));
    }
    remarks
}

/// The most important lines in order of time, with the number of those left out.
fn shortened(mut lines: Vec<Line>) -> Vec<Line> {
    if lines.len() <= LINES_MAX {
        return lines;
    }
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by_key(|i| (lines[*i].rank, *i));
    order.truncate(LINES_MAX - 1);
    order.sort_unstable();
    let left_out = lines.len() - order.len();
    let last = lines.last().map_or(crate::engine::Time::ZERO, |l| l.at);
    let mut kept: Vec<Line> = Vec::with_capacity(LINES_MAX);
    for i in order {
        kept.push(std::mem::take(&mut lines[i]));
    }
    let mut more = Line::new(last, 0, format!("… and {left_out} more"));
    more.timeless = true;
    kept.push(more);
    kept
}
