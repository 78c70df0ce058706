//! An audit as text: the table, what was found, what to do about it; and the same for pull requests
//! and CI systems.

use std::time::Duration;

use super::junit;
use super::number::{count, latency, percent, span};
use super::story::StoryOptions;
use super::story::line::{Page, Paint, columns};
use crate::record::audit::{Audit, Finding, Fix, Grade, Outcome};

/// How somebody fared, in a word or two: `down 5:42`, `0.34% failed`, `ok`.
pub fn words(outcome: &Outcome) -> String {
    match outcome.grade {
        Grade::None => "-".into(),
        Grade::Ok => "ok".into(),
        Grade::Slow => format!("p99 {}", latency(outcome.p99_us)),
        Grade::Short => format!("{} left", outcome.least),
        Grade::Failing => format!("{} failed", percent(outcome.failed, outcome.ended)),
        Grade::Stuck => "blocked".into(),
        Grade::Down => {
            let whole = Duration::from_secs(outcome.down_s.round() as u64);
            format!("down {}", span(whole))
        }
    }
}

/// The same, narrow enough for a column.
fn cell(outcome: &Outcome) -> String {
    words(outcome).replace(" failed", "")
}

/// `node loss: down 5:42 (node-3); drain: 0.30% failed`.
fn each(audit: &Audit, outcomes: &[Outcome], trials: &[usize]) -> String {
    let trials = trials.iter().map(|trial| {
        let (outcome, title) = (&outcomes[*trial], &audit.trials[*trial].title);
        let place = match outcome.run.as_str() {
            "" => String::new(),
            _ if outcome.grade <= Grade::Ok => String::new(),
            run => format!(" ({run})"),
        };
        let held = match outcome.stuck.as_str() {
            "" => String::new(),
            held => format!(" ({held})"),
        };
        format!("{title} {}{place}{held}", words(outcome))
    });
    trials.collect::<Vec<_>>().join("; ")
}

/// What happened to whom.
pub fn what(audit: &Audit, finding: &Finding) -> String {
    let subject = &audit.subjects[finding.subject];
    each(audit, &subject.outcomes, &finding.trials)
}

/// What is left of it with all fixes.
pub fn left(audit: &Audit, finding: &Finding) -> Option<String> {
    let subject = &audit.subjects[finding.subject];
    finding.fix?;
    (!subject.fixed.is_empty()).then(|| each(audit, &subject.fixed, &finding.trials))
}

/// The name of a subject, with its namespace where there are several.
fn name(audit: &Audit, subject: usize) -> String {
    let first = audit.subjects.first().map(|s| s.namespace.as_str());
    let subject = &audit.subjects[subject];
    let alone = audit
        .subjects
        .iter()
        .all(|s| Some(s.namespace.as_str()) == first);
    match alone {
        true => subject.reference(),
        false => format!("{}/{}", subject.namespace, subject.reference()),
    }
}

/// The whole audit.
pub fn text(audit: &Audit, options: &StoryOptions) -> String {
    let mut page = Page::new(options);
    head(audit, &mut page);
    table(audit, &mut page);
    let (inherent, counted): (Vec<&Finding>, Vec<&Finding>) =
        audit.findings.iter().partition(|f| f.inherent);
    for (number, group) in groups(&counted).iter().enumerate() {
        page.plain("");
        tell(audit, number + 1, group, &mut page);
    }
    for group in groups(&inherent) {
        page.plain("");
        everybody(audit, &group, &mut page);
    }
    page.plain("");
    page.plain(&verdict(audit));
    if let Some(dir) = &options.results {
        let fixes = match audit.fixes.is_empty() {
            true => "",
            false => ", the fixes as patches and objects in fixes/",
        };
        page.plain(&format!(
            "Files: {dir}: every bad day as a scenario in scenarios/{fixes}"
        ));
    }
    page.text()
}

fn head(audit: &Audit, page: &mut Page) {
    page.plain(&format!(
        "audit of {}   k8s {}   {}   {}   {}   seed {}",
        audit.paths.join(" "),
        audit.kubernetes_version,
        audit.cluster,
        count(audit.subjects.len() as u64, "workload"),
        count(audit.runs.into(), "run"),
        audit.seed
    ));
    page.wrapped(2, &format!("load: {}", audit.load));
    let listed = |all: &[(String, u64)]| {
        all.iter()
            .map(|(kind, n)| format!("{kind} ×{n}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !audit.not_modelled.is_empty() {
        page.wrapped(2, &format!("not modelled: {}", listed(&audit.not_modelled)));
    }
    if !audit.not_judged.is_empty() {
        page.wrapped(2, &format!("not judged: {}", audit.not_judged.join(", ")));
    }
    page.plain("");
}

fn table(audit: &Audit, page: &mut Page) {
    const FIXED: &str = "  with the fixes";
    let names: Vec<String> = (0..audit.subjects.len()).map(|s| name(audit, s)).collect();
    let lead = names
        .iter()
        .map(|n| columns(n))
        .max()
        .unwrap_or(0)
        .max(columns(FIXED));
    let wide = |trial: usize| {
        let cells = audit
            .subjects
            .iter()
            .flat_map(|s| [s.outcomes.get(trial), s.fixed.get(trial)]);
        let cells = cells.flatten().map(|o| columns(&cell(o)));
        cells
            .max()
            .unwrap_or(0)
            .max(columns(&audit.trials[trial].title))
    };
    let widths: Vec<usize> = (0..audit.trials.len()).map(wide).collect();
    let mut heading = format!("  {:<lead$}", "");
    for (trial, width) in audit.trials.iter().zip(&widths) {
        heading += &format!("  {:<width$}", trial.title);
    }
    page.line(heading.trim_end());
    for (number, (subject, name)) in audit.subjects.iter().zip(&names).enumerate() {
        let own = |f: &&Finding| f.subject == number && !f.inherent;
        let row = |name: &str, outcomes: &[Outcome], page: &Page| {
            let mut line = format!("  {name:<lead$}");
            for (trial, (outcome, width)) in outcomes.iter().zip(&widths).enumerate() {
                let text = format!("{:<width$}", cell(outcome));
                let counts = audit
                    .findings
                    .iter()
                    .filter(own)
                    .any(|f| f.trials.contains(&trial));
                line += "  ";
                line += &match outcome.grade {
                    Grade::None => page.paint(Paint::Dim, &text),
                    Grade::Ok => page.paint(Paint::Green, &text),
                    _ if counts => page.paint(Paint::Red, &text),
                    _ => text,
                };
            }
            line.trim_end().to_owned()
        };
        let line = row(name, &subject.outcomes, page);
        page.line(&line);
        if audit.findings.iter().filter(own).any(|f| f.fix.is_some()) && !subject.fixed.is_empty() {
            let line = row(FIXED, &subject.fixed, page);
            page.line(&line);
        }
    }
}

/// Findings that are the same but for whose they are, in the order of the worst of each.
fn groups<'a>(findings: &[&'a Finding]) -> Vec<Vec<&'a Finding>> {
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    let key = |f: &Finding| (f.rule.clone(), f.why.clone(), f.advice.clone());
    for finding in findings {
        match groups
            .iter_mut()
            .find(|group| key(group[0]) == key(finding))
        {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups
}

fn tell(audit: &Audit, number: usize, findings: &[&Finding], page: &mut Page) {
    let first = findings[0];
    let mark = page.paint(Paint::Red, "✖");
    let rule = first.rule.replace('-', " ");
    let title = match findings.len() {
        1 => rule,
        n => format!("{rule}, {n} workloads"),
    };
    let why = match first.why.as_str() {
        "" => title,
        why => format!("{title}: {why}"),
    };
    page.hanging(&format!("{number:>2} {mark} "), &why, 5);
    let fixable = findings.iter().any(|f| f.fix.is_some());
    let lead = if fixable { "     fix: " } else { "     do:  " };
    page.hanging(lead, &first.advice, 10);
    for finding in findings {
        let who = name(audit, finding.subject);
        page.hanging("     ", &format!("{who}: {}", what(audit, finding)), 9);
        let Some(left) = left(audit, finding) else {
            continue;
        };
        let (paint, word) = match finding.gone {
            true => (Paint::Green, "gone"),
            false => (Paint::Red, "not gone"),
        };
        let word = page.paint(paint, word);
        let file = finding.fix.map_or("", |fix| audit.fixes[fix].file.as_str());
        page.hanging("       tried: ", &format!("{word}: {left}   {file}"), 14);
    }
}

/// What happens to many and is nobody's fault.
fn everybody(audit: &Audit, findings: &[&Finding], page: &mut Page) {
    let first = findings[0];
    let all = count(findings.len() as u64, "workload");
    let worst = format!("{}: {}", name(audit, first.subject), what(audit, first));
    let rule = first.rule.replace('-', " ");
    page.hanging("   · ", &format!("{rule}, {all}: {}", first.why), 5);
    page.hanging(
        "     do:  ",
        &format!("{}; no manifest prevents it: not counted", first.advice),
        10,
    );
    page.hanging("     the worst: ", &worst, 16);
}

/// The last line.
pub fn verdict(audit: &Audit) -> String {
    let counted: Vec<&Finding> = audit.findings.iter().filter(|f| !f.inherent).collect();
    if counted.is_empty() {
        return format!(
            "No findings for {}.",
            count(audit.subjects.len() as u64, "workload")
        );
    }
    let mut whose: Vec<usize> = counted.iter().map(|f| f.subject).collect();
    whose.sort_unstable();
    whose.dedup();
    let findings = count(counted.len() as u64, "finding");
    let all = count(audit.subjects.len() as u64, "workload");
    let tried = counted.iter().filter(|f| f.fix.is_some()).count();
    let gone = counted.iter().filter(|f| f.gone).count();
    let fixed = match (tried, audit.subjects.iter().any(|s| !s.fixed.is_empty())) {
        (0, _) => String::new(),
        (tried, false) if !audit.not_tried.is_empty() => {
            format!("; {tried} with a fix, none tried: {}", audit.not_tried)
        }
        (tried, false) => format!("; {tried} with a fix, none tried"),
        (tried, true) => format!("; {tried} with a fix, of which {gone} gone when it was tried"),
    };
    format!("{findings} for {} of {all}{fixed}.", whose.len())
}

/// The audit as Markdown.
pub fn markdown(audit: &Audit) -> String {
    let counted = audit.counted();
    let mark = if counted == 0 { "✅" } else { "❌" };
    let mut out = format!(
        "### {mark} audit of {}: {}\n\n",
        audit.paths.join(" "),
        verdict(audit)
    );
    out += &format!(
        "Kubernetes {}, {}, seed {}\n\n",
        audit.kubernetes_version, audit.cluster, audit.seed
    );
    let titles: Vec<&str> = audit.trials.iter().map(|t| t.title.as_str()).collect();
    out += &format!(
        "| | {} |\n|---|{}\n",
        titles.join(" | "),
        "---|".repeat(titles.len())
    );
    for (number, subject) in audit.subjects.iter().enumerate() {
        let cells: Vec<String> = subject.outcomes.iter().map(cell).collect();
        out += &format!("| `{}` | {} |\n", name(audit, number), cells.join(" | "));
    }
    for finding in audit.findings.iter().filter(|f| !f.inherent) {
        out += &format!(
            "\n- **{}**: {}",
            name(audit, finding.subject),
            what(audit, finding)
        );
        if !finding.why.is_empty() {
            out += &format!("\n  - why: {}", finding.why);
        }
        out += &format!("\n  - {}", finding.advice);
        if let Some(left) = left(audit, finding) {
            out += &format!("\n  - tried: {left}");
        }
    }
    out.push('\n');
    out
}

/// The audit as JUnit XML: a suite for each bad day, a case for each workload.
pub fn junit(audit: &Audit) -> String {
    let suites = audit.trials.iter().enumerate().map(|(trial, shown)| {
        let cases = audit.subjects.iter().enumerate().map(|(subject, whose)| {
            let about = |f: &&Finding| f.subject == subject && f.trials.contains(&trial);
            let found: Vec<String> = (audit.findings.iter().filter(|f| !f.inherent))
                .filter(about)
                .map(|f| format!("{}: {}", words(&whose.outcomes[trial]), f.why))
                .collect();
            (name(audit, subject), found.join("; "))
        });
        junit::cases(&format!("audit {}", shown.title), cases)
    });
    junit::document(&suites.collect::<Vec<_>>())
}

/// The patch or object as the file that it becomes, with what it does above it.
pub fn file(fix: &Fix) -> String {
    let yaml = crate::api::yaml::write(&fix.object).unwrap_or_default();
    format!("# {}\n{yaml}", fix.does.join("; "))
}

/// The kustomization of the manifests with all fixes.
pub fn kustomization(audit: &Audit, resources: &[String]) -> String {
    let mut out =
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n".to_owned();
    for resource in resources {
        out += &format!("- {resource}\n");
    }
    for fix in audit.fixes.iter().filter(|fix| fix.new) {
        out += &format!("- {}\n", fix.file);
    }
    let patches: Vec<&Fix> = audit.fixes.iter().filter(|fix| !fix.new).collect();
    if !patches.is_empty() {
        out += "patches:\n";
    }
    for fix in patches {
        out += &format!("- path: {}\n  target: {}\n", fix.file, fix.target());
    }
    out
}
