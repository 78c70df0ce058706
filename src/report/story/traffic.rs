//! What users felt: requests, latency, when they failed and why.

use std::collections::BTreeMap;

use super::line::{Line, Page, Paint, columns};
use crate::engine::Time;
use crate::record::{FailureGroup, TrafficRecord};
use crate::report::names::{Names, bare, listed, service_name};
use crate::report::number::{latency, percent, thousands};

/// One line for each Traffic: how much, to whom.
pub fn begins(names: &Names<'_>) -> Vec<Line> {
    let users = names.run.traffic.iter().filter(|t| !t.internal);
    users.filter_map(|t| begin(names, t)).collect()
}

fn begin(names: &Names<'_>, traffic: &TrafficRecord) -> Option<Line> {
    let first = traffic.seconds.iter().find(|s| s.sent > 0)?;
    let at = first.at().max(names.run.header.begun);
    let mut sent: Vec<u32> = (traffic.seconds.iter().map(|s| s.sent))
        .filter(|n| *n > 0)
        .collect();
    sent.sort_unstable();
    let (median, most) = (sent[sent.len() / 2], sent[sent.len() - 1]);
    let up_to = if most > median + median / 4 {
        "up to "
    } else {
        ""
    };
    let rate = if up_to.is_empty() { median } else { most };
    let to = bare(service_name(&traffic.to));
    let ready = names.endpoints_of(&traffic.to).and_then(|(_, points)| {
        let point = points.iter().rfind(|p| p.at <= at)?;
        Some(format!(" ({}/{} ready)", point.ready, point.total))
    });
    let text = format!(
        "traffic {up_to}{} rps → {to}{}",
        thousands(rate.into()),
        ready.unwrap_or_default()
    );
    Some(Line::new(at, 1, text))
}

/// Requests, failures over time, and why.
pub fn outcome(names: &Names<'_>, page: &mut Page) {
    let users: Vec<&TrafficRecord> = names.run.traffic.iter().filter(|t| !t.internal).collect();
    for traffic in &users {
        let name = if users.len() > 1 {
            &*traffic.name
        } else {
            "requests"
        };
        counts(name, traffic, page);
        if traffic.failed > 0 {
            sparkline(names, traffic, page);
            for (i, why) in whys(names, traffic).into_iter().enumerate() {
                let lead = if i == 0 { "      why: " } else { "           " };
                page.hanging(lead, &why, 11);
            }
        }
    }
}

fn counts(name: &str, traffic: &TrafficRecord, page: &mut Page) {
    let failed = match traffic.failed {
        0 => "failed 0".to_owned(),
        n => format!("failed {} ({})", thousands(n), percent(n, traffic.sent)),
    };
    let failed = if traffic.failed > 0 {
        page.paint(Paint::Red, &failed)
    } else {
        failed
    };
    let timeouts = traffic.failed_by.get("timeout").copied().unwrap_or(0);
    // More than one in a hundred timed out: then that is what p99 measures.
    let timed_out = timeouts * 100 > traffic.sent;
    let mut text = format!(
        "{name}  {}   {failed}   p50 {}  p99 {}{}",
        thousands(traffic.sent),
        latency(traffic.p50_us),
        latency(traffic.p99_us),
        if timed_out { " (timeout)" } else { "" }
    );
    if traffic.failed > 0 && traffic.ok > 0 && traffic.ok_p99_us != traffic.p99_us {
        text.push_str(&format!("  p99 of answers {}", latency(traffic.ok_p99_us)));
    }
    if traffic.in_flight > 0 {
        text.push_str(&format!("   in flight {}", thousands(traffic.in_flight)));
    }
    page.wrapped(2, &text);
}

/// Bucket widths that people like, in seconds.
const WIDTHS: [u32; 12] = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];

fn sparkline(names: &Names<'_>, traffic: &TrafficRecord, page: &mut Page) {
    let begun = u32::try_from(names.run.header.begun.as_nanos() / 1_000_000_000).unwrap_or(0);
    let own = |second: u32| second.saturating_sub(begun);
    let last = traffic.seconds.last().map_or(0, |s| own(s.second));
    let end = u32::try_from(names.run.header.simulated.as_secs()).unwrap_or(u32::MAX);
    let end = end.max(last.saturating_add(1));
    let room = u32::try_from(page.width().clamp(60, 100) - 34).unwrap_or(26);
    let fits = |w: &&u32| end.div_ceil(**w) <= room;
    let width = WIDTHS
        .iter()
        .find(fits)
        .copied()
        .unwrap_or(end.div_ceil(room));
    let mut buckets = vec![0_u64; end.div_ceil(width) as usize];
    for second in &traffic.seconds {
        if let Some(bucket) = buckets.get_mut((own(second.second) / width) as usize) {
            *bucket += second.failures();
        }
    }
    let most = buckets.iter().copied().max().unwrap_or(0).max(1);
    let bars = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |n: &u64| match n {
        0 => '▁',
        // One failure is visible: every bucket with failures is above the ground line.
        n => {
            bars[usize::try_from((n * 7).div_ceil(most))
                .unwrap_or(7)
                .clamp(1, 7)]
        }
    };
    let line: String = buckets.iter().map(bar).collect();
    let each = if width >= 60 && width % 60 == 0 {
        format!("{}m", width / 60)
    } else {
        format!("{width}s")
    };
    let most = thousands(most);
    page.wrapped(6, &format!("{line}  failures per {each} (most {most})"));
}

/// Where failures of a class went.
#[derive(Default)]
struct Why<'r> {
    count: u64,
    first: Option<Time>,
    last: Time,
    dead: (u32, u32),
    places: BTreeMap<&'r str, u64>,
    causes: BTreeMap<&'r str, u64>,
}

/// The reasons that most failures have, with their shares.
fn whys(names: &Names<'_>, traffic: &TrafficRecord) -> Vec<String> {
    let mut classes: BTreeMap<&str, Why<'_>> = BTreeMap::new();
    for group in &traffic.groups {
        let why = classes.entry(&group.class).or_default();
        why.count += group.count;
        why.first = Some(why.first.map_or(group.first, |t| t.min(group.first)));
        why.last = why.last.max(group.last);
        why.dead = why.dead.max(group.dead);
        *why.places.entry(place(group)).or_default() += group.count;
        *why.causes.entry(&group.cause).or_default() += group.count;
    }
    let mut rows: Vec<(&str, Why<'_>)> = classes.into_iter().collect();
    rows.sort_by_key(|(class, why)| (std::cmp::Reverse(why.count), *class));
    let mut texts: Vec<String> = (rows.iter().take(3))
        .map(|(class, why)| sentence(names, class, why, traffic.failed))
        .collect();
    let rest: u64 = rows.iter().skip(3).map(|(_, why)| why.count).sum();
    if rest > 0 {
        let others: Vec<&str> = rows.iter().skip(3).map(|(class, _)| *class).collect();
        texts.push(format!(
            "{} others: {}",
            percent(rest, traffic.failed),
            listed(&others)
        ));
    }
    let raced = rows.iter().any(|(class, _)| class.contains("SIGTERM"));
    let rolled = names.run.specs.iter().any(|s| s.rollout);
    if rolled
        && !raced
        && let Some(last) = texts.last_mut()
    {
        last.push_str("; 0 from the SIGTERM race");
    }
    texts
}

/// The node, else the pod, else nothing.
fn place(group: &FailureGroup) -> &str {
    if group.node.is_empty() {
        bare(&group.pod)
    } else {
        &group.node
    }
}

fn sentence(names: &Names<'_>, class: &str, why: &Why<'_>, all: u64) -> String {
    let mut places: Vec<(&str, u64)> = why.places.iter().map(|(p, n)| (*p, *n)).collect();
    places.sort_by_key(|(place, n)| (std::cmp::Reverse(*n), *place));
    let (first, last) = (why.first.unwrap_or_default(), why.last);
    let when = match (names.clock(first), names.clock(last)) {
        (from, to) if from == to => format!("at {from}"),
        (from, to) => format!("between {from} and {to}"),
    };
    let reason = match why.dead {
        (dead, of) if dead > 0 && class.starts_with("dead endpoint") => {
            format!("{dead} of {of} endpoints dead but still programmed")
        }
        _ => class.to_owned(),
    };
    let seen: Vec<&str> = why.causes.keys().copied().collect();
    let known: Vec<&str> = places
        .iter()
        .map(|(p, _)| *p)
        .filter(|p| !p.is_empty())
        .collect();
    let whereto = match known.as_slice() {
        [] => String::new(),
        [one] => format!("went to {one} "),
        many if many.len() <= 3 => format!("went to {} ", many.join(", ")),
        many => format!("went to {} nodes ", many.len()),
    };
    let share = percent(why.count, all);
    let seen = if columns(class) > 0 && seen == [class] {
        String::new()
    } else {
        format!("; seen as {}", listed(&seen))
    };
    format!("{share} {whereto}{when} ({reason}{seen})")
}
