//! Tests of the module `proxy`.

use super::*;

fn at(ms: u64) -> Time {
    Time::from_millis(ms)
}

/// One proxy with a lag of 100 ms, 1 s between syncs and 20 ms for one.
fn proxies() -> (Proxies, Place) {
    let config = ProxyConfig {
        min_sync: Duration::from_secs(1),
        watch_lag: Dist::Fixed(Duration::from_millis(100)),
        sync_time: Duration::from_millis(20),
        reconnect: Duration::from_millis(500),
    };
    let mut proxies = Proxies::new(config, Draws::new(1));
    let place = Place(5);
    proxies.add(place, "n");
    (proxies, place)
}

/// The milliseconds at which the programmed revision changed, asking every millisecond, with what
/// is to be done meanwhile.
fn steps(
    proxies: &mut Proxies,
    place: Place,
    until: u64,
    mut act: impl FnMut(&mut Proxies, u64),
) -> String {
    let mut shown = Vec::new();
    let mut last = 0;
    for ms in 0..until {
        act(proxies, ms);
        let revision = proxies.revision(place, at(ms));
        if revision != last {
            shown.push(format!("{ms}: {revision}"));
            last = revision;
        }
    }
    shown.join(", ")
}

#[test]
fn a_proxy_syncs_at_once_and_then_not_more_often_than_the_minimum() {
    let (mut proxies, place) = proxies();
    let changes = [
        (1_000, 10),
        (1_050, 11),
        (1_200, 12),
        (1_900, 13),
        (5_000, 14),
    ];
    let shown = steps(&mut proxies, place, 8_000, |proxies, ms| {
        if let Some((_, revision)) = changes.iter().find(|c| c.0 == ms) {
            proxies.changed(*revision, at(ms));
        }
    });
    // 10 is heard at 1,100 and programmed by 1,120; 11 … 13, heard at 1,150 … 2,000, go together at
    // 2,120 + 20; 14 at once again
    assert_eq!(shown, "1120: 10, 2140: 13, 5120: 14");
}

#[test]
fn asking_rarely_gives_the_same_answers() {
    let run = |every: u64| {
        let (mut proxies, place) = proxies();
        let mut answers = Vec::new();
        for step in 0..400u64 {
            let ms = step * 37;
            proxies.changed(step + 1, at(ms));
            if step % every == 0 {
                answers.push((ms, proxies.revision(place, at(ms))));
            }
        }
        answers.retain(|(ms, _)| ms % (37 * 24) == 0);
        answers
    };
    assert_eq!(run(1), run(24));
    assert_eq!(run(2), run(8));
}

#[test]
fn a_proxy_that_is_cut_off_programs_what_it_heard_and_no_more() {
    let (mut proxies, place) = proxies();
    let shown = steps(&mut proxies, place, 9_000, |proxies, ms| match ms {
        1_000 => proxies.changed(10, at(ms)),
        // heard before the cut, programmed after it, because of the minimum
        1_300 => proxies.changed(11, at(ms)),
        1_450 => proxies.changed(12, at(ms)),
        1_500 => proxies.cut(place, at(ms)),
        6_000 => proxies.heal(place, at(ms), false),
        _ => {}
    });
    // 12 is heard 500 ms after the watch can be opened again
    assert_eq!(shown, "1120: 10, 2140: 11, 6520: 12");
}

#[test]
fn a_reboot_forgets_the_rules() {
    let (mut proxies, place) = proxies();
    let shown = steps(&mut proxies, place, 9_000, |proxies, ms| match ms {
        1_000 => proxies.changed(10, at(ms)),
        2_000 => proxies.cut(place, at(ms)),
        3_000 => proxies.heal(place, at(ms), true),
        _ => {}
    });
    assert_eq!(shown, "1120: 10, 3000: 0, 3520: 10");
}

#[test]
fn a_shortened_log_changes_no_answer() {
    let run = |shorten: bool| {
        let (mut proxies, place) = proxies();
        let mut answers = Vec::new();
        for step in 0..300u64 {
            proxies.changed(step + 1, at(step * 100));
            if shorten && step % 50 == 49 {
                proxies.shorten(at(step * 100));
                assert!(proxies.log.len() < 30, "{}", proxies.log.len());
            }
            if step % 7 == 0 {
                answers.push(proxies.revision(place, at(step * 100)));
            }
        }
        answers
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn versions_read_by_nobody_are_behind_the_horizon_or_between_the_stuck() {
    let (mut proxies, place) = proxies();
    proxies.changed(10, at(1_000));
    proxies.cut(place, at(2_000));
    assert_eq!(proxies.stuck(at(60_000)), [10]);
    proxies.heal(place, at(70_000), false);
    assert_eq!(proxies.stuck(at(70_000)), [10]);
    assert!(proxies.stuck(at(80_000)).is_empty());
    // lag, minimum, two syncs and a margin
    assert_eq!(proxies.horizon(at(10_000)), at(10_000 - 1_240));
}
