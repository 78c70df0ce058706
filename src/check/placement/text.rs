//! A placement as people read it on a terminal.

use std::collections::BTreeMap;

use super::Placement;
use super::remedy::shown;
use crate::api::Text;
use crate::engine::Time;
use crate::sched::explain::Refusal;
use crate::sched::template::pod_requests;

/// So many nodes have a column of scores.
const COLUMNS_MAX: usize = 3;

/// Columns of text.
const WIDTH: usize = 116;

/// The whole answer.
pub fn text(placement: &Placement) -> String {
    let mut out = heading(placement);
    let explanation = &placement.explanation;
    if let Some(refusal) = &explanation.pre_filter {
        let why = refusal.reasons.join(", ");
        out.push_str(&format!(
            "  refused as a whole by {}: {why}\n",
            refusal.plugin
        ));
    }
    if !explanation.feasible.is_empty() {
        out.push_str(&scores(placement));
        out.push_str(&why_not(placement));
    }
    out.push_str(&rejected(placement));
    if let Some(message) = &explanation.message {
        out.push_str(&wrapped("  message  ", message));
    }
    if let Some((node, victims)) = &explanation.preemption
        && !node.is_empty()
    {
        let victims = victims.join(", ");
        out.push_str(&wrapped(
            "  preemption  ",
            &format!("{victims} would leave {node}"),
        ));
    }
    out.push_str(&remedies(placement));
    out
}

fn heading(placement: &Placement) -> String {
    let explanation = &placement.explanation;
    let (fit, all) = (
        explanation.feasible.len(),
        explanation.feasible.len() + explanation.rejected.len(),
    );
    let mut line = match placement.question.cycle {
        Some((at_s, cycle)) => {
            let at = match at_s < 0.0 {
                true => format!("{at_s:.1}s"),
                false => Time::from_secs(at_s as u64).clock(),
            };
            let nth = if cycle > 1 {
                format!(", try {cycle}")
            } else {
                String::new()
            };
            format!("scheduling of {} at {at}{nth}", explanation.pod)
        }
        None => format!("scheduling of {}", explanation.pod),
    };
    let spec = &placement.question.pod.spec;
    let requests = pod_requests(spec);
    let mut asks = vec![
        format!("cpu {}", shown("cpu", requests.cpu_milli)),
        format!("memory {}", shown("memory", requests.memory)),
    ];
    let extended = requests.extended.iter();
    asks.extend(extended.map(|(name, n)| format!("{name} {n}")));
    line.push_str(&format!(
        ": {fit} of {all} nodes fit  (asks {}",
        asks.join(", ")
    ));
    if spec.priority != 0 {
        line.push_str(&format!(", priority {}", spec.priority));
    }
    line.push_str(")\n");
    let is = match placement.question.cycle {
        Some(_) => "it went to",
        None => "it is on",
    };
    match (&placement.question.node, explanation.selected.as_slice()) {
        (Some(node), [one]) if node == one => line.push_str(&format!("  {is} {node}\n")),
        (Some(node), best) if best.contains(node) => {
            line.push_str(&format!(
                "  {is} {node}, one of {} with the same total\n",
                best.len()
            ));
        }
        (Some(node), []) => line.push_str(&format!("  {is} {node}, where it does not fit now\n")),
        (Some(node), best) => {
            let best = joined(best.iter());
            line.push_str(&format!("  {is} {node}; now it would go to {best}\n"));
        }
        (None, []) => {}
        (None, [one]) => line.push_str(&format!("  it goes to {one}\n")),
        (None, best) => {
            let names = joined(best.iter());
            line.push_str(&format!(
                "  it goes to one of {names}: equal totals, drawn\n"
            ));
        }
    }
    line
}

fn joined<'a>(names: impl Iterator<Item = &'a Text>) -> String {
    let names: Vec<&str> = names.map(Text::as_str).collect();
    match names.len() {
        0..=8 => names.join(", "),
        n => format!("{} … and {} more", names[..8].join(", "), n - 8),
    }
}

/// Feasible nodes by total, the highest first.
fn ranking(placement: &Placement) -> Vec<usize> {
    let explanation = &placement.explanation;
    let mut order: Vec<usize> = (0..explanation.feasible.len()).collect();
    let total = |at: &usize| explanation.totals.get(*at).copied().unwrap_or(0);
    let went = |at: &usize| Some(&explanation.feasible[*at]) == placement.question.node.as_ref();
    order.sort_by_key(|at| (std::cmp::Reverse(total(at)), !went(at), *at));
    order
}

/// Raw, normalised and weighted scores, one row a plugin, one group of columns a node.
fn scores(placement: &Placement) -> String {
    let explanation = &placement.explanation;
    let order = ranking(placement);
    if explanation.scores.is_empty() {
        return "  the only node that fits; nothing is scored\n".to_owned();
    }
    let shown = &order[..order.len().min(COLUMNS_MAX)];
    let mut out = format!("  {:<32} {:>6}", "score  (raw, 0–100, × weight)", "weight");
    for at in shown {
        out.push_str(&format!("   {:>20}", cut(&explanation.feasible[*at], 20)));
    }
    out.push('\n');
    for plugin in &explanation.scores {
        out.push_str(&format!(
            "  {:<32} {:>6}",
            plugin.plugin.name(),
            plugin.weight
        ));
        for at in shown {
            let (raw, normal) = (plugin.raw[*at], plugin.normalized[*at]);
            out.push_str(&format!(
                "   {raw:>8} {normal:>4} {:>6}",
                normal * plugin.weight
            ));
        }
        out.push('\n');
    }
    out.push_str(&format!("  {:<32} {:>6}", "total", ""));
    for at in shown {
        out.push_str(&format!("   {:>20}", explanation.totals[*at]));
    }
    out.push('\n');
    let rest = &order[shown.len()..];
    if let (Some(first), Some(last)) = (rest.first(), rest.last()) {
        let (most, least) = (explanation.totals[*first], explanation.totals[*last]);
        let s = if rest.len() == 1 { "" } else { "s" };
        out.push_str(&format!(
            "  and {} more node{s} with totals {most} to {least}\n",
            rest.len()
        ));
    }
    out
}

fn cut(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(count - most + 1).collect();
    format!("…{kept}")
}

/// What told the winner from the best of the others.
fn why_not(placement: &Placement) -> String {
    let explanation = &placement.explanation;
    let order = ranking(placement);
    let Some(first) = order.first() else {
        return String::new();
    };
    let total = |at: usize| explanation.totals.get(at).copied().unwrap_or(0);
    let Some(other) = order.iter().find(|at| total(**at) < total(*first)) else {
        return String::new();
    };
    let mut gaps: Vec<(i64, &str)> = (explanation.scores.iter())
        .map(|p| {
            (
                (p.normalized[*first] - p.normalized[*other]) * p.weight,
                p.plugin.name(),
            )
        })
        .filter(|(gap, _)| *gap != 0)
        .collect();
    gaps.sort_by_key(|(gap, _)| -gap.abs());
    let gaps: Vec<String> = gaps
        .iter()
        .map(|(gap, name)| format!("{name} {gap:+}"))
        .collect();
    let (winner, loser) = (&explanation.feasible[*first], &explanation.feasible[*other]);
    let text = format!(
        "why not {loser}: {winner} leads by {} ({})",
        total(*first) - total(*other),
        gaps.join(", ")
    );
    wrapped("  ", &text)
}

/// Nodes that do not fit, by plugin and reason.
fn rejected(placement: &Placement) -> String {
    let explanation = &placement.explanation;
    let mut groups: BTreeMap<(&str, String), Vec<&Text>> = BTreeMap::new();
    for (node, refusal) in &explanation.rejected {
        groups
            .entry((refusal.plugin, reasons(refusal)))
            .or_default()
            .push(node);
    }
    let mut rows: Vec<_> = groups.into_iter().collect();
    rows.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    let mut out = String::new();
    for ((plugin, why), nodes) in rows {
        let names: Vec<&str> = nodes.iter().take(40).map(|n| n.as_str()).collect();
        let more = match nodes.len() - names.len() {
            0 => String::new(),
            n => format!(" … and {n} more"),
        };
        let text = format!("{plugin}: {why}   {}{more}", names.join(", "));
        out.push_str(&wrapped("  no  ", &text));
    }
    out
}

fn reasons(refusal: &Refusal) -> String {
    match (refusal.reasons.as_slice(), refusal.plugin) {
        ([], crate::sched::explain::NODE_SET) => "left out before filtering".to_owned(),
        ([], _) => refusal.code.to_owned(),
        (reasons, _) => reasons.join(", "),
    }
}

fn remedies(placement: &Placement) -> String {
    let mut out = String::new();
    for (i, remedy) in placement.remedies.iter().enumerate() {
        let lead = if i == 0 {
            "  it would fit  "
        } else {
            "            or  "
        };
        let changes = remedy.changes.join(" and ");
        let text = match remedy.node.is_empty() {
            true => format!("with {changes}"),
            false => format!("on {}: {changes}", remedy.node),
        };
        out.push_str(&wrapped(lead, &text));
    }
    if placement.explanation.feasible.is_empty() && placement.remedies.is_empty() {
        out.push_str("  no change of its requests, tolerations or constraints makes it fit\n");
    }
    out
}

/// A lead and words, further lines below the first word.
fn wrapped(lead: &str, text: &str) -> String {
    let hang = lead.chars().count();
    let mut out = lead.to_owned();
    let mut at = hang;
    for (i, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if i > 0 && at + 1 + length > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(hang));
            at = hang;
        } else if i > 0 {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += length;
    }
    out.push('\n');
    out
}
