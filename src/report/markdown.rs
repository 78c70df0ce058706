//! A run as Markdown, for pull requests and job summaries: verdict, checks, what users felt, and the
//! story folded away.

use crate::record::{CheckRow, RunRecord, TrafficRecord, verdict};
use crate::report::number::{count, duration, latency, percent, thousands};
use crate::report::story::{StoryOptions, story};

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    let text = text
        .replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('<', "&lt;");
    text.replace(['\n', '\r'], " ")
}

/// The whole text of one run.
pub fn markdown(run: &RunRecord) -> String {
    let header = &run.header;
    let mark = match run.checks.iter().map(mark).max() {
        Some(worst) => worst.1,
        None => "➖",
    };
    let verdict = verdict(&run.checks).unwrap_or("no checks".to_owned());
    let mut out = format!("### {mark} {}: {verdict}\n\n", cell(&header.scenario));
    out.push_str(&format!(
        "Kubernetes {}, {}, {}, {} simulated, seed {}, digest `{}`",
        header.kubernetes_version,
        count(header.nodes.into(), "node"),
        count(header.workloads.into(), "workload"),
        duration(header.simulated),
        header.seed,
        header.digest.get(..8).unwrap_or(&header.digest)
    ));
    out.push_str(if header.interrupted {
        ", **interrupted**\n\n"
    } else {
        "\n\n"
    });
    checks(run, &mut out);
    let users: Vec<&TrafficRecord> = run.traffic.iter().filter(|t| !t.internal).collect();
    traffic(&users, &mut out);
    if !header.not_modelled.is_empty() {
        let kinds = header
            .not_modelled
            .iter()
            .map(|(kind, n)| format!("{kind} ×{n}"));
        let kinds: Vec<String> = kinds.collect();
        out.push_str(&format!("Not modelled: {}\n\n", cell(&kinds.join(", "))));
    }
    let options = StoryOptions {
        width: 110,
        ..StoryOptions::default()
    };
    let told = story(run, &options);
    let fence = fence(&told);
    out.push_str(&format!(
        "<details><summary>What happened</summary>\n\n{fence}text\n{told}{fence}\n\n</details>\n"
    ));
    out
}

/// More backticks than the text has in a row.
fn fence(text: &str) -> String {
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    fence
}

/// How a check came out, the worse the greater.
fn mark(check: &CheckRow) -> (u8, &'static str) {
    match (check.passed, check.open) {
        (true, _) => (0, "✅"),
        (false, true) => (1, "➖"),
        (false, false) => (2, "❌"),
    }
}

/// Failed checks first.
fn checks(run: &RunRecord, out: &mut String) {
    if run.checks.is_empty() {
        return;
    }
    out.push_str("| | Check | Measured |\n|---|---|---|\n");
    let (passed, failed): (Vec<_>, Vec<_>) = run.checks.iter().partition(|c| c.passed);
    for check in failed.into_iter().chain(passed) {
        let (_, mark) = mark(check);
        let (name, detail) = (cell(&check.name), cell(&check.detail));
        out.push_str(&format!("| {mark} | {name} | {detail} |\n"));
    }
    out.push('\n');
}

fn traffic(users: &[&TrafficRecord], out: &mut String) {
    if users.is_empty() {
        return;
    }
    out.push_str("| Traffic | To | Requests | Failed | p50 | p99 | Max |\n");
    out.push_str("|---|---|--:|--:|--:|--:|--:|\n");
    for t in users {
        out.push_str(&format!(
            "| {} | {} | {} | {} ({}) | {} | {} | {} |\n",
            cell(&t.name),
            cell(t.to.trim_start_matches("service/")),
            thousands(t.sent),
            thousands(t.failed),
            percent(t.failed, t.sent),
            latency(t.p50_us),
            latency(t.p99_us),
            latency(t.max_us)
        ));
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_first_and_cells_stay_cells() {
        let check = |name: &str, passed| CheckRow {
            name: name.into(),
            passed,
            detail: "a | b\nc".into(),
            kind: "always".into(),
            ..CheckRow::default()
        };
        let mut run = RunRecord::default();
        run.header.scenario = "loss".into();
        let open = CheckRow {
            open: true,
            ..check("later", false)
        };
        run.checks = vec![check("good", true), open.clone()];
        let text = markdown(&run);
        let heading = "### ➖ loss: 1 of 2 checks not decided\n";
        assert!(text.starts_with(heading), "{text}");
        run.checks = vec![open, check("bad", false)];
        let text = markdown(&run);
        let heading = "### ❌ loss: 1 of 2 checks failed, 1 not decided\n";
        assert!(text.starts_with(heading), "{text}");
        run.checks = vec![check("good", true), check("bad", false)];
        let text = markdown(&run);
        assert!(
            text.starts_with("### ❌ loss: 1 of 2 checks failed\n"),
            "{text}"
        );
        assert!(
            text.contains("| ❌ | bad | a \\| b c |\n| ✅ | good |"),
            "{text}"
        );
        assert!(text.contains("<details>"), "{text}");
        assert_eq!(fence("a ``` b"), "````");
    }
}
