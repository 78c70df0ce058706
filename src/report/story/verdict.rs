//! What was promised, whether it held, and the commands that come next.

use super::StoryOptions;
use super::line::{Page, Paint, columns};
use crate::record::{CheckRow, RunRecord};
use crate::report::number::count;
use crate::report::worst_moment;

/// Checks, the count of those that failed, the replay line.
pub fn print(run: &RunRecord, options: &StoryOptions, page: &mut Page) {
    let (passed, failed): (Vec<&CheckRow>, Vec<&CheckRow>) =
        run.checks.iter().partition(|c| c.passed);
    passes(&passed, page);
    let wide = failed.iter().map(|c| columns(&c.name)).max().unwrap_or(0);
    for check in &failed {
        let word = page.paint(Paint::Red, "FAIL");
        let pad = " ".repeat(wide.min(40).saturating_sub(columns(&check.name)));
        let text = format!(" {}{pad}   {}", check.name, check.detail);
        page.hanging(&format!("  {word}"), &text, 7);
    }
    page.plain(&closing(run, options, failed.len()));
}

/// As many to a line as there is room for.
fn passes(checks: &[&CheckRow], page: &mut Page) {
    let mut row = String::new();
    let mut wide = 0;
    for check in checks {
        let detail = match check.detail.as_str() {
            "" => String::new(),
            detail => format!(" ({detail})"),
        };
        let text = format!(" {}{detail}", check.name);
        let len = columns(&text) + 4;
        if wide > 0 && wide + 3 + len > page.width().min(120) {
            page.plain(&row);
            (row, wide) = (String::new(), 0);
        }
        if wide == 0 {
            row.push_str("  ");
            wide = 2;
        } else {
            row.push_str("   ");
            wide += 3;
        }
        row.push_str(&page.paint(Paint::Green, "PASS"));
        row.push_str(&text);
        wide += len;
    }
    if wide > 0 {
        page.plain(&row);
    }
}

fn closing(run: &RunRecord, options: &StoryOptions, failed: usize) -> String {
    let all = run.checks.len();
    let verdict = match (all, failed) {
        (0, _) => "No checks.".to_owned(),
        (_, 0) => format!("{} passed.", count(all as u64, "check")),
        _ => format!(
            "{failed} of {all} {} failed.",
            if all == 1 { "check" } else { "checks" }
        ),
    };
    let header = &run.header;
    let arguments: String = header.arguments.iter().map(|a| format!(" {a}")).collect();
    let mut text = format!(
        "{verdict} Replay: rehearsal run {} --seed {}{arguments}",
        header.file, header.seed
    );
    if let Some(results) = &options.results {
        text.push_str(&format!("   Explain: rehearsal explain {results}"));
        if let Some(at) = worst_moment(run) {
            text.push_str(&format!(" --at {at}"));
        }
    }
    text
}
