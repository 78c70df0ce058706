//! KubeEvents: one at a time, whether or not the kubelet is told of every answer.

use super::*;

/// What became of a node with crashing and ending pods, and of its KubeEvents.
fn story(unheard: bool) -> Vec<String> {
    let mut m = Machine::booted();
    m.unheard = unheard;
    m.script("app").exits = vec![Some((Duration::from_secs(3), 1))];
    for name in ["a", "b", "c"] {
        m.create(pod(name, vec![container("app"), container("web")]));
    }
    m.at(40_000, |m| m.delete("b", None));
    // What is told while the server is away is tried again.
    m.at(60_000, |m| m.unreachable = true);
    m.at(75_000, |m| m.unreachable = false);
    m.run(300);
    m.lines.clone()
}

#[test]
fn events_are_told_at_the_same_instants_when_answers_that_nobody_waits_for_do_not_come() {
    let (heard, unheard) = (story(false), story(true));
    let told = |lines: &[String], word: &str| lines.iter().filter(|l| l.contains(word)).count();
    assert!(told(&heard, "Started:") > 10, "{heard:#?}");
    assert!(told(&heard, "BackOff:") > 3, "{heard:#?}");
    assert_eq!(heard, unheard);
}
