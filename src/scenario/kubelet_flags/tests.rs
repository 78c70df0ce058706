//! Flags of kubelets, and what is wrong with them.

use super::*;
use crate::api::yaml::{FileId, Limits, parse_documents};
use crate::scenario::fields::Fields;

fn read_text(text: &str) -> (KubeletFlags, Vec<String>, Vec<String>) {
    let documents = parse_documents(FileId(0), text.as_bytes(), &Limits::default());
    let documents = documents.expect("good YAML");
    let mut problems = Problems::new();
    let fields = Fields::document(&documents[0]);
    let value = fields.get("kubelet").expect("flags");
    let entries = value.entries(&mut problems);
    let (flags, unused) = read(&entries, &KubeletFlags::default(), &mut problems);
    let problems = problems.iter().map(|p| p.message.clone()).collect();
    (flags, unused, problems)
}

#[test]
fn flags_of_kubelets_are_read_and_what_is_wrong_is_said() {
    let table = [
        // (flags, thresholds, spans of a shutdown, what is wrong)
        (
            "shutdownGracePeriod: 30s",
            6,
            "[(0, 30), (2000000000, 0)]",
            "",
        ),
        (
            "shutdownGracePeriod: 1m, shutdownGracePeriodCriticalPods: 20s",
            6,
            "[(0, 40), (2000000000, 20)]",
            "",
        ),
        (
            "shutdownGracePeriodByPodPriority: \"1000=10s, 0=1m\"",
            6,
            "[(0, 60), (1000, 10)]",
            "",
        ),
        (
            "shutdownGracePeriodCriticalPods: 20s",
            6,
            "[]",
            "needs shutdownGracePeriod",
        ),
        (
            "shutdownGracePeriod: 10s, shutdownGracePeriodCriticalPods: 20s",
            6,
            "[]",
            "must not be longer than shutdownGracePeriod",
        ),
        ("eviction-hard: \"memory.available<500Mi\"", 2, "[]", ""),
        (
            "eviction-soft: \"memory.available<1Gi\", eviction-soft-grace-period: \"memory.available=90s\"",
            7,
            "[]",
            "",
        ),
        (
            "eviction-soft: \"memory.available<1Gi\"",
            6,
            "[]",
            "grace period must be specified for the soft eviction threshold memory.available",
        ),
        (
            "eviction-hard: \"memory.available=500Mi\"",
            6,
            "[]",
            "must be written as signal<value, separated by commas",
        ),
        (
            "eviction-hard: \"memory.free<500Mi\"",
            6,
            "[]",
            "unsupported eviction signal memory.free",
        ),
    ];
    for (text, thresholds, shutdown, wrong) in table {
        let (flags, unused, problems) = read_text(&format!("kubelet: {{{text}}}"));
        let spans: Vec<_> = flags
            .shutdown
            .iter()
            .map(|s| (s.priority, s.grace_s))
            .collect();
        assert_eq!(flags.eviction.thresholds.len(), thresholds, "{text}");
        assert_eq!(format!("{spans:?}"), shutdown, "{text}");
        let said = problems.join("; ");
        assert!(
            said.contains(wrong) && said.is_empty() == wrong.is_empty(),
            "{text}: {said}"
        );
        assert!(unused.is_empty(), "{unused:?}");
    }
}

#[test]
fn signals_that_are_not_counted_are_said_to_change_nothing() {
    let (_, unused, problems) =
        read_text("kubelet: {eviction-hard: \"pid.available<5%,containerfs.available<5%\"}");
    assert!(problems.is_empty());
    assert_eq!(unused, ["kubelet eviction signal containerfs.available"]);
}
