//! What was promised, whether it held, and the commands that come next.

use super::StoryOptions;
use super::line::{Page, Paint, columns};
use crate::record::{CheckRow, RunRecord, verdict};
use crate::report::worst_moment;

/// Checks, the count of those that failed, the replay line.
pub fn print(run: &RunRecord, options: &StoryOptions, page: &mut Page) {
    let (passed, others): (Vec<&CheckRow>, Vec<&CheckRow>) =
        run.checks.iter().partition(|c| c.passed);
    passes(&passed, page);
    let wide = others.iter().map(|c| columns(&c.name)).max().unwrap_or(0);
    for check in &others {
        let colour = if check.open { Paint::Dim } else { Paint::Red };
        let word = page.paint(colour, check.word());
        let pad = " ".repeat(wide.min(40).saturating_sub(columns(&check.name)));
        let text = format!(" {}{pad}   {}", check.name, check.detail);
        page.hanging(&format!("  {word}"), &text, 7);
    }
    closing(run, options, page);
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

fn closing(run: &RunRecord, options: &StoryOptions, page: &mut Page) {
    let verdict = verdict(&run.checks).map_or("No checks.".to_owned(), |v| format!("{v}."));
    let header = &run.header;
    let arguments: String = header.arguments.iter().map(|a| format!(" {a}")).collect();
    // A real run is repeated by its journal; its scenario and seed make another one.
    let replay = match (header.backend.as_str(), &options.results) {
        ("linux", Some(results)) => format!(" Replay: rehearsal replay {results}"),
        ("linux", None) => String::new(),
        _ => format!(
            " Replay: rehearsal run {} --seed {}{arguments}",
            header.file, header.seed
        ),
    };
    let explain = options.results.as_ref().map(|results| {
        let at = worst_moment(run).map(|at| format!(" --at {at}"));
        format!(
            "Explain: rehearsal explain {results}{}",
            at.unwrap_or_default()
        )
    });
    let line = format!("{verdict}{replay}");
    match explain {
        None => page.plain(&line),
        Some(explain) if columns(&line) + 3 + columns(&explain) <= page.width() => {
            page.plain(&format!("{line}   {explain}"));
        }
        // Each on a line of its own, to be copied whole.
        Some(explain) => {
            page.plain(&line);
            page.plain(&explain);
        }
    }
}
