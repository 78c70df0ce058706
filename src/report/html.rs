//! A run as one HTML page that needs nothing else: verdict, checks, what users felt, the pictures,
//! what happened when, pods, KubeEvents.
//!
//! Everything stands in the file: styles, pictures as SVG; no script, no font, no address outside.
//! It is readable in light and in dark; pictures keep their white sheet.

use crate::record::{CheckRow, PodLife, RunRecord, TrafficRecord, verdict};
use crate::report::names::Names;
use crate::report::number::{count, duration, latency, percent, seconds, thousands};
use crate::report::plots;
use crate::report::story::{StoryOptions, story};

/// So many rows a table of the page has at most; the results folder has them all.
const ROWS_MAX: usize = 400;

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1a1a1a;--grey:#666;--line:#ddd;--page:#fff;--soft:#f6f6f6;
--bad:#b3261e;--good:#00704f}
@media (prefers-color-scheme:dark){:root{--ink:#e8e8e8;--grey:#a0a0a0;--line:#3a3a3a;--page:#161616;
--soft:#202020;--bad:#ff8a7a;--good:#5fd3a6}}
body{font:15px/1.5 Inter,'Helvetica Neue',Helvetica,Arial,sans-serif;color:var(--ink);
background:var(--page);max-width:1000px;margin:2em auto;padding:0 1em}
h1{font-size:1.6em;margin-bottom:0}h2{font-size:1.15em;margin-top:2em}
.grey{color:var(--grey)}.bad{color:var(--bad);font-weight:600}.good{color:var(--good)}
table{border-collapse:collapse;font-size:.92em;width:100%}
th{text-align:left;color:var(--grey);font-weight:500}
td,th{padding:.25em .9em .25em 0;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
pre{background:var(--soft);padding:1em;overflow-x:auto;font-size:.82em;line-height:1.45}
svg{max-width:100%;height:auto;display:block;margin:1em 0;border-radius:4px}
details{margin-top:1em}summary{cursor:pointer;color:var(--grey)}.wide{overflow-x:auto}
";

fn escaped(text: &str) -> String {
    (text.replace('&', "&amp;").replace('<', "&lt;")).replace('>', "&gt;")
}

/// The page.
pub fn html(run: &RunRecord) -> String {
    let header = &run.header;
    let name = escaped(&header.scenario);
    let class = match run.checks.iter().find(|c| !c.passed) {
        None => "good",
        Some(_) if run.checks.iter().any(CheckRow::failed) => "bad",
        Some(_) => "grey",
    };
    let verdict = match verdict(&run.checks) {
        None => "<span class=\"grey\">no checks</span>".to_owned(),
        Some(verdict) => format!("<span class=\"{class}\">{verdict}</span>"),
    };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{name}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{name}: {verdict}</h1>\n"
    );
    page.push_str(&about(run));
    page.push_str(&checks(run));
    page.push_str(&traffic(run));
    for (_, svg) in plots(run) {
        page.push_str(&svg);
    }
    let told = escaped(&story(run, &story_options()));
    page.push_str(&format!("<h2>What happened</h2>\n<pre>{told}</pre>\n"));
    page.push_str(&pods(run));
    page.push_str(&events(run));
    page.push_str("</body>\n</html>\n");
    page
}

fn story_options() -> StoryOptions {
    StoryOptions {
        width: 120,
        ..StoryOptions::default()
    }
}

fn about(run: &RunRecord) -> String {
    let header = &run.header;
    let mut parts = vec![
        format!("Kubernetes {}", header.kubernetes_version),
        count(header.nodes.into(), "node"),
        count(header.workloads.into(), "workload"),
        format!("{} simulated", duration(header.simulated)),
        format!("{} events", thousands(header.events)),
        format!("seed {}", header.seed),
        format!("digest {}", header.digest),
        format!("backend {}", header.backend),
    ];
    if header.interrupted {
        parts.push("interrupted before its end".to_owned());
    }
    let mut out = format!("<p class=\"grey\">{}</p>\n", escaped(&parts.join(" · ")));
    let list = |title: &str, parts: Vec<String>| match parts.is_empty() {
        true => String::new(),
        false => format!("<p><b>{title}</b> {}</p>\n", escaped(&parts.join(", "))),
    };
    let kinds = header.not_modelled.iter();
    let kinds = kinds.map(|(kind, n)| format!("{kind} ×{n}")).collect();
    out.push_str(&list("Not modelled:", kinds));
    out.push_str(&list("Degraded:", header.degraded.clone()));
    let warnings = header.warnings.iter();
    let warnings = warnings
        .map(|w| format!("{}:{}:{}: {}", w.file, w.line, w.column, w.message))
        .collect();
    out.push_str(&list("Warnings about the input:", warnings));
    out
}

fn row(cells: &[(&str, String)]) -> String {
    let cells = cells.iter().map(|(class, text)| match *class {
        "" => format!("<td>{text}</td>"),
        class => format!("<td class=\"{class}\">{text}</td>"),
    });
    format!("<tr>{}</tr>\n", cells.collect::<String>())
}

/// A table; `*` before a name means a column of numbers.
fn table(columns: &[&str], rows: &[String]) -> String {
    let heads = columns.iter().map(|name| match name.strip_prefix('*') {
        Some(name) => format!("<th class=\"n\">{name}</th>"),
        None => format!("<th>{name}</th>"),
    });
    format!(
        "<div class=\"wide\"><table>\n<tr>{}</tr>\n{}</table></div>\n",
        heads.collect::<String>(),
        rows.concat()
    )
}

fn checks(run: &RunRecord) -> String {
    if run.checks.is_empty() {
        return String::new();
    }
    let (passed, failed): (Vec<_>, Vec<_>) = run.checks.iter().partition(|c| c.passed);
    let rows: Vec<String> = (failed.into_iter().chain(passed))
        .map(|check| {
            let class = match (check.passed, check.open) {
                (true, _) => "good",
                (_, true) => "grey",
                _ => "bad",
            };
            row(&[
                (class, check.word().to_owned()),
                ("", escaped(&check.name)),
                ("", escaped(&check.kind)),
                ("", escaped(&check.detail)),
            ])
        })
        .collect();
    let columns = ["", "check", "kind", "measured"];
    format!("<h2>Checks</h2>\n{}", table(&columns, &rows))
}

fn traffic(run: &RunRecord) -> String {
    if run.traffic.is_empty() {
        return String::new();
    }
    let line = |t: &TrafficRecord| {
        let causes = t.failed_by.iter();
        let causes: Vec<String> = causes.map(|(cause, n)| format!("{cause} {n}")).collect();
        let class = if t.failed > 0 { "n bad" } else { "n" };
        row(&[
            ("", escaped(&t.name)),
            ("", escaped(t.to.trim_start_matches("service/"))),
            ("n", thousands(t.sent)),
            (class, thousands(t.failed)),
            (class, percent(t.failed, t.sent)),
            ("", escaped(&causes.join(", "))),
            ("n", latency(t.p50_us)),
            ("n", latency(t.p99_us)),
            ("n", latency(t.max_us)),
        ])
    };
    let columns = [
        "from",
        "to",
        "*requests",
        "*failed",
        "*share",
        "seen as",
        "*p50",
        "*p99",
        "*max",
    ];
    let rows = |internal: bool| -> Vec<String> {
        let of = run.traffic.iter().filter(|t| t.internal == internal);
        of.map(line).collect()
    };
    let (users, calls) = (rows(false), rows(true));
    let mut out = String::new();
    if !users.is_empty() {
        out.push_str(&format!(
            "<h2>What users felt</h2>\n{}",
            table(&columns, &users)
        ));
    }
    if !calls.is_empty() {
        let summary = "calls between services";
        let body = table(&columns, &calls);
        out.push_str(&format!(
            "<details><summary>{summary}</summary>\n{body}</details>\n"
        ));
    }
    out
}

fn pods(run: &RunRecord) -> String {
    let names = Names::new(run);
    let begun = run.header.begun;
    let line = |p: &PodLife| {
        let at =
            |time: Option<crate::engine::Time>| time.map(|t| seconds(t, begun)).unwrap_or_default();
        row(&[
            ("", escaped(&format!("{}/{}", p.namespace, p.name))),
            ("", escaped(names.app(p))),
            ("", escaped(&p.node)),
            ("n", seconds(p.created, begun)),
            ("n", at(p.scheduled)),
            ("n", at(p.started)),
            ("n", at(p.ready)),
            ("n", at(p.terminating)),
            ("n", at(p.gone)),
            ("n", p.restarts.to_string()),
            ("", escaped(&p.reason)),
        ])
    };
    let rows: Vec<String> = run.pods.iter().take(ROWS_MAX).map(line).collect();
    let columns = [
        "pod",
        "of",
        "node",
        "*created",
        "*scheduled",
        "*started",
        "*ready",
        "*leaves",
        "*gone",
        "*restarts",
        "reason",
    ];
    folded("pods, times in seconds", run.pods.len(), &columns, &rows)
}

fn events(run: &RunRecord) -> String {
    let begun = run.header.begun;
    let warnings: Vec<_> = run.events.iter().filter(|e| e.level == "Warning").collect();
    let rows: Vec<String> = (warnings.iter().take(ROWS_MAX))
        .map(|e| {
            row(&[
                ("n", seconds(e.at, begun)),
                ("", escaped(&format!("{} {}", e.kind, e.name))),
                ("", escaped(&e.reason)),
                ("", escaped(&e.message)),
            ])
        })
        .collect();
    let columns = ["*seconds", "object", "reason", "message"];
    folded(
        "KubeEvents of type Warning",
        warnings.len(),
        &columns,
        &rows,
    )
}

/// A table behind its title, with the number of rows that are not shown.
fn folded(title: &str, all: usize, columns: &[&str], rows: &[String]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let more = match all - rows.len() {
        0 => String::new(),
        n => format!(
            "<p class=\"grey\">{} more in the results folder</p>\n",
            thousands(n as u64)
        ),
    };
    let count = thousands(all as u64);
    let body = table(columns, rows);
    format!("<details><summary>{count} {title}</summary>\n{body}{more}</details>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_from_outside_and_escapes_names() {
        let mut run = RunRecord::default();
        run.header.scenario = "a <b>".into();
        run.checks.push(CheckRow {
            name: "x > 1".into(),
            kind: "always".into(),
            passed: false,
            at_s: None,
            run_s: None,
            detail: "min 0 at 00:01".into(),
            open: false,
        });
        let page = html(&run);
        assert!(page.contains("<title>a &lt;b&gt;</title>"), "{page}");
        assert!(page.contains("1 of 1 check failed"), "{page}");
        assert!(page.contains("<td>x &gt; 1</td>"), "{page}");
        for outside in ["http://", "https://", "<script", "src=", "@import"] {
            let found = page.match_indices(outside);
            let xmlns = |at: usize| page[..at].ends_with("xmlns=\"");
            assert_eq!(found.filter(|(at, _)| !xmlns(*at)).count(), 0, "{outside}");
        }
    }
}
