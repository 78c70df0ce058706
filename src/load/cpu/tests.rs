//! Tests of the module `cpu`.

use super::*;

/// Lets a schedule run out: (arrival ms, group, threads, work ms each) → when each owner ended, in
/// ms; an owner with several threads ends with its last.
fn ends(cpu: &mut Cpu, schedule: &[(u64, Key, u32, u64)]) -> Vec<f64> {
    let mut ends = vec![0.0; schedule.len()];
    let mut pending: Vec<Wake> = Vec::new();
    let mut schedule: Vec<_> = schedule.iter().copied().enumerate().collect();
    schedule.sort_by_key(|(_, (at, ..))| *at);
    let mut schedule = schedule.into_iter().peekable();
    loop {
        pending.sort_by_key(|wake| std::cmp::Reverse(wake.at));
        let arrival = schedule.peek().map(|(_, (at, ..))| Time::from_millis(*at));
        let wake = pending.last().map(|wake| wake.at);
        let mut done = Vec::new();
        match (arrival, wake) {
            (Some(at), wake) if wake.is_none_or(|w| at <= w) => {
                let (owner, (_, group, threads, ms)) = schedule.next().unwrap();
                for _ in 0..threads {
                    let work = Duration::from_millis(ms);
                    cpu.run(group, work, owner as u32, at, &mut pending);
                }
            }
            (_, Some(at)) => {
                let wake = pending.pop().unwrap();
                cpu.wake(wake, at, &mut done, &mut pending);
                for owner in done {
                    ends[owner as usize] = at.as_nanos() as f64 / 1e6;
                }
            }
            _ => return ends,
        }
    }
}

fn one(cores_milli: u64, limit: Option<u64>) -> (Cpu, Key) {
    let mut cpu = Cpu::default();
    cpu.set_cores(0, cores_milli);
    let group = cpu.add(0, 100, limit);
    (cpu, group)
}

#[test]
fn a_quota_stretches_work_over_periods() {
    // limit, threads, work of each in ms, end in ms
    let table = [
        // 20 ms in each of two periods, then 10: 100 + 100 + 10
        (Some(200), 1, 50, 210.0),
        // 8 cores use 200 ms of quota in 25 ms; the other 25 ms come with the next period
        (Some(2_000), 8, 50, 125.0),
        (None, 8, 50, 50.0),
        // never spent: 1 thread at limit 1
        (Some(1_000), 1, 250, 250.0),
        // just spent at the end: 100 ms of quota by 2 threads of 50 ms
        (Some(1_000), 2, 50, 50.0),
    ];
    for (limit, threads, work, end) in table {
        let (mut cpu, group) = one(8_000, limit);
        assert_eq!(
            ends(&mut cpu, &[(0, group, threads, work)]),
            [end],
            "{limit:?}"
        );
    }
}

#[test]
fn a_period_begins_with_the_first_work_and_goes_on_while_it_lasts() {
    let (mut cpu, group) = one(4_000, Some(200));
    // The first ends after 10 ms. The second begins in the same period with 10 ms of quota left:
    // 50..60, then 100..110. The third begins a new period at 1000, as if it were the first.
    let schedule = [(0, group, 1, 10), (50, group, 1, 20), (1_000, group, 1, 50)];
    assert_eq!(ends(&mut cpu, &schedule), [10.0, 110.0, 1_210.0]);
    let usage = cpu.usage(group, Time::from_secs(2));
    assert_eq!(usage.cpu, Duration::from_millis(80));
    // 0, 100 and 1000, 1100, 1200; throttled in 0, 1000, 1100
    assert_eq!((usage.periods, usage.throttled), (5, 3));
}

#[test]
fn work_in_one_group_shares_its_cores_equally() {
    let mut cpu = Cpu::default();
    cpu.set_cores(0, 1_000);
    let group = cpu.add(0, 100, None);
    // Alone 10 ms, then two at half speed: the second has 20 ms of work, the first 30 - 10 = 20;
    // both end at 10 + 40.
    let schedule = [(0, group, 1, 30), (10, group, 1, 20)];
    assert_eq!(ends(&mut cpu, &schedule), [50.0, 50.0]);
    // Alone 10 ms, 5 ms of work at half speed until 20, then 35 - 15 alone.
    let later = [(1_000, group, 1, 35), (1_010, group, 1, 5)];
    assert_eq!(ends(&mut cpu, &later), [1_040.0, 1_020.0]);
}

#[test]
fn groups_share_a_full_node_by_their_requests() {
    let mut cpu = Cpu::default();
    cpu.set_cores(0, 4_000);
    let (small, large) = (cpu.add(0, 100, None), cpu.add(0, 300, None));
    // 4 threads each want 8 of 4 cores: 1 and 3. The large one's 4 x 30 ms take 40 ms; the small
    // one has done 40 of 4 x 30 by then, and does the other 80 on 4 cores in 20 ms.
    let got = ends(&mut cpu, &[(0, small, 4, 30), (0, large, 4, 30)]);
    assert!((got[0] - 60.0).abs() < 0.01, "{got:?}");
    assert!((got[1] - 40.0).abs() < 0.01, "{got:?}");
}

#[test]
fn what_a_group_cannot_use_goes_to_the_others() {
    let mut cpu = Cpu::default();
    cpu.set_cores(0, 4_000);
    let (one, many) = (cpu.add(0, 900, None), cpu.add(0, 100, None));
    // One thread takes one core whatever its weight; the other group's 6 threads get 3 cores.
    let got = ends(&mut cpu, &[(0, one, 1, 30), (0, many, 6, 15)]);
    assert!((got[0] - 30.0).abs() < 0.01, "{got:?}");
    assert!((got[1] - 30.0).abs() < 0.01, "{got:?}");
}

#[test]
fn frozen_work_stands_still_and_removed_work_is_gone() {
    let (mut cpu, group) = one(1_000, None);
    let mut wakes = Vec::new();
    let at = Time::from_millis;
    cpu.run(group, Duration::from_millis(10), 7, at(0), &mut wakes);
    cpu.freeze(group, true, at(4), &mut wakes);
    let mut done = Vec::new();
    cpu.wake(wakes[0], at(10), &mut done, &mut wakes);
    assert!(done.is_empty());
    cpu.freeze(group, false, at(100), &mut wakes);
    let wake = *wakes.last().unwrap();
    assert_eq!(wake.at, at(106));
    cpu.wake(wake, at(106), &mut done, &mut wakes);
    assert_eq!(done, [7]);

    cpu.run(group, Duration::from_millis(10), 8, at(200), &mut wakes);
    let wake = *wakes.last().unwrap();
    cpu.remove(group, at(205), &mut wakes);
    let next = cpu.add(0, 100, None);
    assert_eq!(next.slot, group.slot);
    done.clear();
    cpu.run(next, Duration::from_millis(10), 9, at(206), &mut wakes);
    cpu.wake(wake, wake.at, &mut done, &mut wakes);
    assert!(done.is_empty(), "the old group's wake is stale");
}

#[test]
fn hogs_take_their_part_and_are_never_done() {
    // (cores, limit, hogs, work ms) → end ms
    let table = [
        // Alone on a core with one hog: half of it. With three: a quarter.
        (1_000, None, 1, 50, 100.0),
        (1_000, None, 3, 50, 200.0),
        // Two cores are enough for both.
        (2_000, None, 1, 50, 50.0),
        // A limit of 400m is 40 ms in 100, shared by two: after 20 ms both stand still. 50 ms are
        // 20 + 20 + 10 in the third period.
        (2_000, Some(400), 1, 50, 210.0),
    ];
    for (cores, limit, hogs, work, expected) in table {
        let (mut cpu, group) = one(cores, limit);
        let mut wakes = Vec::new();
        cpu.hog(group, hogs, Time::ZERO, &mut wakes);
        let mut done = Vec::new();
        cpu.run(
            group,
            Duration::from_millis(work),
            7,
            Time::ZERO,
            &mut wakes,
        );
        let mut end = Time::ZERO;
        while done.is_empty() {
            wakes.sort_by_key(|wake| std::cmp::Reverse(wake.at));
            let wake = wakes.pop().expect("a wake");
            end = wake.at;
            cpu.wake(wake, end, &mut done, &mut wakes);
        }
        assert!(
            (end.as_secs_f64() * 1e3 - expected).abs() < 0.1,
            "{cores}m, {limit:?}, {hogs} hogs: {end:?}"
        );
        cpu.hog(group, 0, end, &mut wakes);
        let used = cpu.usage(group, end).cpu;
        assert_eq!(cpu.usage(group, end + Duration::from_secs(9)).cpu, used);
    }
}

#[test]
fn what_stands_beside_the_pods_shares_with_all_of_them_together() {
    // Two cores weigh 2,000, the hogs beside 1,000: pods get 2/3 of two cores, whatever they
    // request, and the two of them half of that each: 100 ms of one thread on 2/3 of a core.
    let mut cpu = Cpu::default();
    cpu.set_cores(0, 2_000);
    let groups = [cpu.add(0, 50, None), cpu.add(0, 50, None)];
    let beside = cpu.add_beside(0, 1_000);
    let mut wakes = Vec::new();
    cpu.hog(beside, 4, Time::ZERO, &mut wakes);
    let schedule = [(0, groups[0], 1, 100), (0, groups[1], 1, 100)];
    for end in ends(&mut cpu, &schedule) {
        assert!((end - 150.0).abs() < 0.1, "{end}");
    }
}
