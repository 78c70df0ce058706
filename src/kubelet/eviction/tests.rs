//! Thresholds as they are written, and looks in a row.

use super::*;

fn own(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    all.iter().map(own).collect()
}

type Given<'a> = &'a [(&'a str, &'a str)];

fn parse(hard: Given<'_>, soft: Given<'_>, graces: Given<'_>, reclaims: Given<'_>) -> String {
    let given = [hard, soft, graces, reclaims].map(own);
    let all = match Eviction::parse(&given[0], &given[1], &given[2], &given[3]) {
        Ok(all) => all,
        Err(why) => return why,
    };
    let show = |t: &Threshold| {
        let name = SIGNALS.iter().find(|(_, s)| *s == t.signal).unwrap().0;
        let grace = t.grace.as_secs();
        // of a capacity of 1,000
        let more = t.reclaim.as_ref().map_or(0, |r| r.of(1_000));
        format!("{name}<{} {grace}s +{more}", t.amount.of(1_000))
    };
    all.iter().map(show).collect::<Vec<_>>().join(", ")
}

/// After `helpers_test.go :: TestParseThresholdConfig`.
#[test]
fn thresholds_are_read_as_the_kubelet_reads_its_flags() {
    let none: Given<'_> = &[];
    let memory: Given<'_> = &[("memory.available", "150")];
    let soft: Given<'_> = &[("memory.available", "300")];
    let minute: Given<'_> = &[("memory.available", "1m")];
    let hard = "memory.available<150 0s +0";
    let pods = "allocatableMemory.available<150 0s +0";
    let table: [(Given<'_>, Given<'_>, Given<'_>, Given<'_>, String); 13] = [
        (none, none, none, none, String::new()),
        (memory, none, none, none, format!("{hard}, {pods}")),
        (
            memory,
            soft,
            minute,
            none,
            format!("{hard}, memory.available<300 60s +0, {pods}"),
        ),
        (
            memory,
            none,
            none,
            &[("memory.available", "5%")],
            "memory.available<150 0s +50, allocatableMemory.available<150 0s +50".to_owned(),
        ),
        (
            &[("nodefs.available", "10%"), ("pid.available", "5")],
            none,
            none,
            none,
            "nodefs.available<100 0s +0, pid.available<5 0s +0".to_owned(),
        ),
        // 0% and 100% switch a threshold off; containerfs follows nodefs
        (
            &[("memory.available", "0%")],
            none,
            none,
            none,
            String::new(),
        ),
        (
            &[("imagefs.available", "100%")],
            none,
            none,
            none,
            String::new(),
        ),
        (
            &[("containerfs.available", "5%")],
            none,
            none,
            none,
            String::new(),
        ),
        (
            none,
            soft,
            none,
            none,
            "grace period must be specified for the soft eviction threshold memory.available"
                .to_owned(),
        ),
        (
            none,
            soft,
            &[("memory.available", "0s")],
            none,
            "memory.available: the grace period must be longer than 0".to_owned(),
        ),
        (
            &[("mem.available", "1")],
            none,
            none,
            none,
            "unsupported eviction signal mem.available".to_owned(),
        ),
        (
            &[("memory.available", "-1Mi")],
            none,
            none,
            none,
            "memory.available: must be positive".to_owned(),
        ),
        (
            &[("memory.available", "101%")],
            none,
            none,
            none,
            "memory.available: must be between 0% and 100%".to_owned(),
        ),
    ];
    for (hard, soft, graces, reclaims, expected) in table {
        assert_eq!(parse(hard, soft, graces, reclaims), expected);
    }
}

/// Second, and how much memory is available.
type Looks<'a> = &'a [(u64, i64)];

/// Looks at these seconds with so much memory available of 10,000: what is due, and `!` while the
/// node reports pressure.
fn looks(rules: &Eviction, seen: Looks<'_>) -> String {
    let mut memory = Memory::default();
    let one = |(second, available): &(u64, i64)| {
        let observation = Observation {
            capacity: 10_000,
            available: *available,
        };
        let seen = Observations::from([(Signal::Memory, observation)]);
        let due = memory.look(rules, &seen, Time::from_secs(*second));
        let pressure = if memory.pressures.is_empty() { "" } else { "!" };
        let due: Vec<&str> = due
            .iter()
            .map(|at| {
                if rules.thresholds[*at].hard() {
                    "hard"
                } else {
                    "soft"
                }
            })
            .collect();
        format!("{second}{pressure} {}", due.join("+"))
            .trim_end()
            .to_owned()
    };
    seen.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn rules(reclaim: Given<'_>) -> Eviction {
    let [hard, soft, graces, reclaim] = [
        &[("memory.available", "1000")][..],
        &[("memory.available", "2000")],
        &[("memory.available", "2m")],
        reclaim,
    ]
    .map(own);
    Eviction {
        thresholds: Eviction::parse(&hard, &soft, &graces, &reclaim).unwrap(),
        ..Eviction::default()
    }
}

/// After `eviction_manager_test.go :: TestMemoryPressure` and `TestMinReclaim`.
#[test]
fn a_threshold_is_due_when_its_grace_is_over_and_pressure_lasts_five_minutes() {
    let table: [(Given<'_>, Looks<'_>, &str); 5] = [
        // nothing, soft for two minutes, hard at once, over; pressure until 300 s after the last
        (
            &[],
            &[
                (0, 2_500),
                (60, 1_500),
                (120, 1_500),
                (180, 1_500),
                (181, 500),
                (182, 2_000),
            ],
            "0, 60!, 120!, 180! soft, 181! hard+soft, 182!",
        ),
        (
            &[],
            &[(0, 1_999), (299, 3_000), (300, 3_000)],
            "0!, 299!, 300",
        ),
        // a look without it and the grace begins anew
        (
            &[],
            &[(0, 1_500), (119, 2_000), (121, 1_500), (240, 1_500)],
            "0!, 119!, 121!, 240!",
        ),
        // with 500 more to reclaim it is met until there are 1,500
        (
            &[("memory.available", "500")],
            &[(0, 900), (10, 1_499), (20, 1_500), (30, 1_499)],
            "0! hard, 10! hard, 20!, 30!",
        ),
        // a share of the capacity: 10 % of 10,000
        (
            &[("memory.available", "10%")],
            &[(0, 999), (10, 1_999), (20, 2_000)],
            "0! hard, 10! hard, 20!",
        ),
    ];
    for (reclaim, seen, expected) in table {
        assert_eq!(looks(&rules(reclaim), seen), expected, "{reclaim:?}");
    }
}

#[test]
fn quantities_print_as_they_are_written_and_shares_in_bytes() {
    let mut rules = rules(&[]);
    rules.thresholds[0].amount = Amount::parse("1.5Gi").unwrap();
    rules.thresholds[1].amount = Amount::parse("15%").unwrap();
    let observation = Observation {
        capacity: 10 << 30,
        available: 700 << 10,
    };
    let seen = Observations::from([(Signal::Memory, observation)]);
    let table = [
        (0, "Threshold quantity: 1536Mi, available: 700Ki. "),
        // 0.15 of 10 GiB; the share is of single precision
        (1, "Threshold quantity: 1610612800, available: 700Ki. "),
    ];
    for (at, expected) in table {
        let [printed] = [rules.quantities(&[at], "memory", &seen)];
        assert_eq!(printed, expected);
    }
}
