//! JUnit XML, for the test pages of CI systems: a suite for each scenario, a case for each check.
//!
//! Times are those of the simulated run, in seconds; no figure is of the wall clock.

use crate::record::{CheckRow, RunRecord};
use crate::report::story::{StoryOptions, story};

/// Text as XML wants it in attributes and elements; characters that XML has none for are left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

/// One run as a `testsuite` element.
pub fn suite(run: &RunRecord) -> String {
    let header = &run.header;
    let failed = run.checks.iter().filter(|c| c.failed()).count();
    let open = run.checks.iter().filter(|c| c.open).count();
    let mut out = format!(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" \
         skipped=\"{open}\" time=\"{:.3}\">\n    <properties>\n",
        escaped(&header.scenario),
        run.checks.len(),
        header.simulated.as_secs_f64()
    );
    let properties = [
        ("file", header.file.clone()),
        ("seed", header.seed.to_string()),
        ("backend", header.backend.clone()),
        ("kubernetesVersion", header.kubernetes_version.clone()),
        ("digest", header.digest.clone()),
    ];
    for (name, value) in properties {
        let value = escaped(&value);
        out.push_str(&format!(
            "      <property name=\"{name}\" value=\"{value}\"/>\n"
        ));
    }
    out.push_str("    </properties>\n");
    for check in &run.checks {
        out.push_str(&case(&header.scenario, check));
    }
    let told = escaped(&story(run, &StoryOptions::default()));
    out.push_str(&format!(
        "    <system-out>{told}</system-out>\n  </testsuite>\n"
    ));
    out
}

fn case(scenario: &str, check: &CheckRow) -> String {
    let head = format!(
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
        escaped(scenario),
        escaped(&check.name),
        check.at_s.unwrap_or(0.0).max(0.0)
    );
    if check.passed {
        return format!("{head}/>\n");
    }
    let detail = escaped(&check.detail);
    if check.open {
        return format!("{head}>\n      <skipped message=\"{detail}\"/>\n    </testcase>\n");
    }
    format!(
        "{head}>\n      <failure type=\"{}\" message=\"{detail}\">{detail}</failure>\n    \
         </testcase>\n",
        escaped(&check.kind)
    )
}

/// A suite of plain cases: names, and why they failed, empty for those that did not.
pub fn cases(suite: &str, cases: impl Iterator<Item = (String, String)>) -> String {
    let rows = cases.map(|(name, why)| CheckRow {
        name,
        kind: "finding".into(),
        passed: why.is_empty(),
        detail: why,
        ..CheckRow::default()
    });
    let rows: Vec<CheckRow> = rows.collect();
    let failed = rows.iter().filter(|row| row.failed()).count();
    let texts: String = rows.iter().map(|row| case(suite, row)).collect();
    format!(
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" \
         skipped=\"0\" time=\"0.000\">\n{texts}  </testsuite>\n",
        escaped(suite),
        rows.len()
    )
}

/// A scenario that could not run, as a `testsuite` element with one error.
pub fn refused(scenario: &str, why: &str) -> String {
    let (scenario, why) = (escaped(scenario), escaped(why));
    format!(
        "  <testsuite name=\"{scenario}\" tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\" \
         time=\"0.000\">\n    <testcase classname=\"{scenario}\" name=\"runs\" time=\"0.000\">\n      \
         <error type=\"input\" message=\"{why}\">{why}</error>\n    </testcase>\n  </testsuite>\n"
    )
}

/// The file with these suites.
pub fn document(suites: &[String]) -> String {
    let suites = suites.concat();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"rehearsal\">\n{suites}\
         </testsuites>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_suite_has_its_checks_and_escapes_what_xml_would_trip_over() {
        let check = |name: &str, passed, detail: &str| CheckRow {
            name: name.into(),
            kind: "threshold".into(),
            passed,
            at_s: Some(2.5),
            run_s: None,
            detail: detail.into(),
            open: false,
        };
        let mut run = RunRecord::default();
        run.header.scenario = "loss & rollout".into();
        run.header.simulated = Duration::from_secs(900);
        run.checks = vec![
            check("fine", true, ""),
            check("p99", false, "p(99)<300 \u{1}got \"2000\""),
            CheckRow {
                open: true,
                ..check("later", false, "0:12 of 2:00 when the run was interrupted")
            },
        ];
        let xml = document(&[suite(&run), refused("other", "no such file")]);
        let expected = [
            "<testsuite name=\"loss &amp; rollout\" tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\"",
            "<skipped message=\"0:12 of 2:00 when the run was interrupted\"/>",
            "time=\"900.000\"",
            "<testcase classname=\"loss &amp; rollout\" name=\"fine\" time=\"2.500\"/>",
            "<failure type=\"threshold\" message=\"p(99)&lt;300 got &quot;2000&quot;\">",
            "<error type=\"input\" message=\"no such file\">",
        ];
        for part in expected {
            assert!(xml.contains(part), "{part} is not in {xml}");
        }
        assert_eq!(xml.matches("<testsuite ").count(), 2);
        assert_eq!(xml.matches("</testsuite>").count(), 2);
    }
}
