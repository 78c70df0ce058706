//! Wishes, what was recommended and done before them, and what becomes of them. Cases of
//! `pkg/controller/podautoscaler/horizontal_test.go`.

use super::*;
use crate::api::autoscaling::ScalingPolicy;

const NOW: Time = Time::from_secs(10_000);

fn ago(minutes: u64) -> Time {
    Time::from_secs(10_000 - 60 * minutes)
}

fn wish(current: i32, proposed: i32, least: i32, most: i32) -> Wish {
    Wish {
        current,
        proposed,
        least,
        most,
    }
}

fn remembers(recommendations: &[(i32, u64)]) -> Memory {
    let all = recommendations.iter();
    Memory {
        recommendations: all.map(|(n, minutes)| (*n, ago(*minutes))).collect(),
        ..Memory::default()
    }
}

/// `TestConvertDesiredReplicasWithRules`.
#[test]
fn without_behavior_the_bounds_and_twice_the_replicas_limit() {
    let table = [
        (wish(5, 7, 3, 8), 7, "DesiredWithinRange"),
        (wish(3, 1, 2, 8), 2, "TooFewReplicas"),
        (wish(1, 0, 0, 10), 0, "DesiredWithinRange"),
        (wish(20, 1000, 1, 10), 10, "TooManyReplicas"),
        (wish(3, 1000, 1, 2000), 6, "ScaleUpLimit"),
        (wish(1, 1000, 1, 2000), 4, "ScaleUpLimit"),
    ];
    for (wish, desired, reason) in table {
        let (got, said) = bounded(wish, wish.proposed);
        assert_eq!((got, said.0), (desired, reason), "{wish:?}");
    }
}

/// `TestNormalizeDesiredReplicas`.
#[test]
fn the_most_that_was_recommended_within_five_minutes_stays() {
    type Case<'a> = (&'a [(i32, u64)], i32, i32, usize);
    // (recommendations: replicas, minutes ago), wish, stabilized, entries kept
    let table: [Case<'_>; 5] = [
        (&[], 5, 5, 1),
        (&[(4, 2), (5, 1)], 3, 5, 3),
        (&[(1, 2), (2, 1)], 3, 3, 3),
        (&[(10, 10), (9, 9)], 3, 3, 2),
        (&[(10, 10), (4, 1), (5, 2), (9, 9)], 3, 5, 4),
    ];
    for (before, proposed, stabilized, kept) in table {
        let mut memory = remembers(before);
        let wish = wish(100, proposed, 1, 1000);
        let got = memory.normalize(wish, Duration::from_secs(300), NOW);
        assert_eq!(got.stabilized, stabilized, "{before:?}");
        assert_eq!(memory.recommendations.len(), kept, "{before:?}");
        let able = if stabilized == proposed {
            READY
        } else {
            DOWN_STABILIZED
        };
        assert_eq!(got.able, able);
    }
}

/// `TestNormalizeDesiredReplicasWithBehavior`.
#[test]
fn each_direction_has_its_window() {
    type Case<'a> = (&'a [(i32, u64)], i32, i32, (u64, u64), i32, &'a [i32]);
    // recommendations, current, wish, windows in seconds, stabilized, what is remembered
    let table: [Case<'_>; 11] = [
        (&[], 100, 5, (0, 0), 5, &[5]),
        (&[(4, 2), (5, 1)], 100, 3, (0, 180), 5, &[4, 5, 3]),
        (&[(4, 2), (5, 1)], 1, 7, (300, 0), 4, &[4, 5, 7]),
        (&[(1, 2), (2, 1)], 100, 3, (300, 0), 3, &[1, 2, 3]),
        (&[(4, 2), (5, 1)], 1, 3, (0, 300), 3, &[4, 5, 3]),
        (&[(10, 10), (9, 9)], 100, 3, (0, 0), 3, &[10, 3]),
        (&[(10, 10), (9, 9)], 1, 100, (0, 0), 100, &[10, 100]),
        (
            &[(10, 10), (4, 1), (5, 2), (9, 9)],
            100,
            3,
            (0, 180),
            5,
            &[10, 4, 5, 3],
        ),
        (
            &[(10, 100), (6, 1), (5, 2), (9, 3)],
            1,
            100,
            (300, 0),
            5,
            &[100, 6, 5, 9],
        ),
        (&[(2, 100), (3, 3)], 2, 1, (300, 300), 2, &[1, 3]),
        (&[(2, 100), (1, 3)], 2, 3, (300, 300), 2, &[3, 1]),
    ];
    for (before, current, proposed, (up, down), stabilized, kept) in table {
        let mut memory = remembers(before);
        let wish = wish(current, proposed, 1, 1000);
        let seconds = Duration::from_secs;
        let got = memory.stabilize(wish, seconds(up), seconds(down), NOW);
        assert_eq!(got, stabilized, "{before:?} {current} {proposed}");
        let remembered: Vec<i32> = memory.recommendations.iter().map(|r| r.0).collect();
        assert_eq!(remembered, kept, "{before:?}");
    }
}

/// `pods/s percent/s`, with `min` or `off` for the choice among them.
fn rules(text: &str) -> ScalingRules {
    let mut rules = ScalingRules {
        window_s: Some(0),
        select: SelectPolicy::Max,
        policies: Vec::new(),
        tolerance: None,
    };
    for word in text.split_whitespace() {
        match (word, word.split_once('/')) {
            ("min", _) => rules.select = SelectPolicy::Min,
            ("off", _) => rules.select = SelectPolicy::Disabled,
            (_, Some((value, period))) => rules.policies.push(ScalingPolicy {
                percent: value.ends_with('%'),
                value: value.trim_end_matches('%').parse().expect("a value"),
                period_s: period.parse().expect("seconds"),
            }),
            _ => panic!("{word}"),
        }
    }
    rules
}

/// Scalings of 1, 5 and 9, evenly over the last two minutes (`generateEventsUniformDistribution`).
fn scalings(changes: &[i32]) -> Vec<Scaling> {
    let n = changes.len() as u64;
    let each = changes.iter().zip(0u64..);
    let each = each.map(|(change, i)| Scaling {
        change: *change,
        at: Time::from_secs(10_000 - 120 + 120 * (2 * i + 1) / (2 * n)),
        outdated: false,
    });
    each.collect()
}

const DEFAULT_UP: &str = "4/15 100%/15";
const DEFAULT_DOWN: &str = "100%/15";

/// `TestScalingWithRules`.
#[test]
fn rates_limit_how_much_changes_in_a_period() {
    // wish, scalings up and down before, rules up and down, replicas, reason
    type Case<'a> = (Wish, &'a [i32], &'a [i32], &'a str, &'a str, i32, &'a str);
    let (up, down) = (DEFAULT_UP, DEFAULT_DOWN);
    let table: [Case<'_>; 24] = [
        (
            wish(5, 7, 3, 8),
            &[],
            &[],
            up,
            down,
            7,
            "DesiredWithinRange",
        ),
        (wish(3, 1, 2, 8), &[], &[], up, down, 2, "TooFewReplicas"),
        (
            wish(20, 1000, 1, 10),
            &[],
            &[],
            up,
            down,
            10,
            "TooManyReplicas",
        ),
        (
            wish(100, 1000, 100, 150),
            &[],
            &[],
            up,
            down,
            150,
            "TooManyReplicas",
        ),
        (
            wish(3, 1000, 1, 2000),
            &[],
            &[],
            "1/60",
            down,
            4,
            "ScaleUpLimit",
        ),
        (
            wish(1000, 3, 3, 2000),
            &[],
            &[],
            up,
            "20/60",
            980,
            "ScaleDownLimit",
        ),
        (
            wish(10, 50, 1, 1000),
            &[],
            &[],
            up,
            down,
            20,
            "ScaleUpLimit",
        ),
        (
            wish(10, 500, 1, 1000),
            &[],
            &[],
            "100/60 100%/60",
            down,
            110,
            "ScaleUpLimit",
        ),
        (
            wish(10, 500, 1, 1000),
            &[],
            &[],
            "2/60 100%/60",
            down,
            20,
            "ScaleUpLimit",
        ),
        (
            wish(10, 50, 1, 1000),
            &[],
            &[],
            "100/60",
            down,
            50,
            "DesiredWithinRange",
        ),
        (
            wish(10, 50, 1, 1000),
            &[],
            &[],
            "200%/60",
            down,
            30,
            "ScaleUpLimit",
        ),
        (
            wish(10, 50, 1, 1000),
            &[],
            &[],
            "2/60 100%/60 min",
            down,
            12,
            "ScaleUpLimit",
        ),
        (
            wish(10, 50, 1, 1000),
            &[],
            &[],
            "2/60 off",
            down,
            10,
            "ScaleUpLimit",
        ),
        (
            wish(100, 2, 1, 1000),
            &[],
            &[],
            up,
            "20/60 1%/60",
            80,
            "ScaleDownLimit",
        ),
        (
            wish(100, 2, 1, 1000),
            &[],
            &[],
            up,
            "2/60 1%/60 min",
            99,
            "ScaleDownLimit",
        ),
        (
            wish(10, 0, 1, 1000),
            &[],
            &[],
            up,
            "100/60",
            1,
            "TooFewReplicas",
        ),
        (
            wish(10, 2, 5, 1000),
            &[],
            &[],
            up,
            "100%/60",
            5,
            "TooFewReplicas",
        ),
        (
            wish(10, 5, 1, 1000),
            &[],
            &[],
            up,
            "50%/60",
            5,
            "DesiredWithinRange",
        ),
        (
            wish(10, 5, 1, 1000),
            &[],
            &[],
            up,
            "50%/60 off",
            10,
            "ScaleDownLimit",
        ),
        // 100 - 15 + 300 is more than 200.
        (
            wish(100, 500, 1, 200),
            &[1, 5, 9],
            &[],
            "300/120",
            down,
            200,
            "TooManyReplicas",
        ),
        // 100 - 15 + 5 is less than there is: nothing more.
        (
            wish(100, 500, 1, 1000),
            &[1, 5, 9],
            &[],
            "5/120",
            down,
            100,
            "ScaleUpLimit",
        ),
        // 100 - 15 + 150.
        (
            wish(100, 500, 1, 1000),
            &[1, 5, 9],
            &[],
            "150/120",
            down,
            235,
            "ScaleUpLimit",
        ),
        // (100 - 15) x 3.
        (
            wish(100, 500, 1, 1000),
            &[1, 5, 9],
            &[],
            "200%/120",
            down,
            255,
            "ScaleUpLimit",
        ),
        // (100 + 15) x 0.4.
        (
            wish(100, 0, 1, 1000),
            &[],
            &[1, 5, 9],
            up,
            "60%/120",
            46,
            "ScaleDownLimit",
        ),
    ];
    for (wish, ups, downs, up, down, desired, reason) in table {
        let memory = Memory {
            ups: scalings(ups),
            downs: scalings(downs),
            ..Memory::default()
        };
        let behavior = Behavior {
            up: rules(up),
            down: rules(down),
        };
        let (got, said) = memory.rated(wish, wish.proposed, &behavior, NOW);
        assert_eq!((got, said.0), (desired, reason), "{wish:?} {up} {down}");
    }
}

/// `TestStoreScaleEvents`.
#[test]
fn a_scaling_takes_the_place_of_one_that_no_policy_looks_at() {
    let behavior = Behavior {
        up: rules("1/60"),
        down: rules("1/60"),
    };
    let mut memory = Memory::default();
    // (seconds, from, to) -> changes remembered up and down
    type Case<'a> = (u64, i32, i32, &'a [i32], &'a [i32]);
    let table: [Case<'_>; 5] = [
        (0, 5, 10, &[5], &[]),
        (30, 10, 12, &[5, 2], &[]),
        // The first is 61 s old.
        (61, 12, 15, &[3, 2], &[]),
        (62, 15, 5, &[3, 2], &[10]),
        (200, 5, 4, &[3, 2], &[1]),
    ];
    for (at, from, to, ups, downs) in table {
        let now = NOW + Duration::from_secs(at);
        memory.record_scaling(from, to, &behavior, now);
        let changes = |all: &[Scaling]| all.iter().map(|s| s.change).collect::<Vec<i32>>();
        assert_eq!(changes(&memory.ups), ups, "at {at}");
        assert_eq!(changes(&memory.downs), downs, "at {at}");
    }
}
