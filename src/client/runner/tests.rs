//! Tests of the module `runner`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::api::{ConfigMap, Kind, KubeEvent, Labels, Meta, Row};
use crate::client::controller::Outcome;
use crate::client::plan::{Plan, Step};
use crate::engine::Queue;
use crate::store::{ApiError, Id, ObjectId, Store};

/// Returns prepared plans, one for each sync, and writes down what it is told.
#[derive(Debug, Default)]
struct Scripted {
    plans: VecDeque<Plan>,
    last: Plan,
    told: Vec<String>,
}

impl Controller for Scripted {
    type Key = Id<ConfigMap>;
    const NAME: &'static str = "scripted";
    const WORKERS: usize = 2;
    const MAX_RETRIES: Option<u32> = Some(3);

    fn keys(&mut self, change: &Change, _: &View, _: Time, keys: &mut Keys<Self::Key>) {
        if let Some(id) = change.object.and_then(ObjectId::typed::<ConfigMap>)
            && change.cause.origin == Origin::Scenario
        {
            keys.add(id);
        }
    }

    fn sync(&mut self, key: Self::Key, cx: &SyncContext<'_>) -> Plan {
        self.told.push(format!("{} sync {key:?}", cx.now));
        self.plans.pop_front().unwrap_or_default()
    }

    fn on_reply(
        &mut self,
        key: Self::Key,
        write: &Write,
        reply: &Reply,
        cx: &SyncContext<'_>,
        events: &mut Vec<KubeEvent>,
    ) {
        let reply = reply.as_ref().map_or_else(|e| e.code(), |_| 200);
        let name = target(write);
        self.told.push(format!("{} {key:?} {name} {reply}", cx.now));
        if name == "told" {
            events.push(event("Told"));
        }
    }

    fn despite_failure(&self, next: &Write) -> bool {
        target(next).starts_with("brave")
    }

    fn finish(&mut self, key: Self::Key, outcome: &Outcome, cx: &SyncContext<'_>) -> Plan {
        if *outcome != Outcome::default() {
            self.told.push(format!(
                "{} finish {key:?} done {} skipped {} failed {:?} {}",
                cx.now,
                outcome.done,
                outcome.skipped,
                outcome.failed_step,
                outcome.error.as_ref().map_or(200, ApiError::code),
            ));
        }
        std::mem::take(&mut self.last)
    }

    fn restart(&mut self) {}
}

fn target(write: &Write) -> String {
    match write {
        Write::Create(row) => row.meta().name.to_string(),
        Write::Update(id, row) => format!("update {}@{}", id.index, row.meta().revision),
        Write::Emit(event) => format!("event {}", event.reason),
        other => format!("{other:?}"),
    }
}

fn event(reason: &str) -> KubeEvent {
    KubeEvent {
        kind: Kind::ConfigMap,
        namespace: "x".into(),
        name: "a".into(),
        uid: crate::api::Uid(1),
        reason: reason.into(),
        message: "".into(),
        warning: false,
        source: "scripted".into(),
    }
}

fn config(name: &str) -> Row {
    let meta = Meta {
        namespace: "x".into(),
        name: name.into(),
        ..Meta::default()
    };
    ConfigMap {
        meta,
        ..ConfigMap::default()
    }
    .into()
}

fn create(name: &str) -> Write {
    Write::Create(config(name))
}

#[derive(Clone, Copy)]
enum Due {
    Wake(Event),
    Arrive(usize),
    Answer(usize),
    Outside(usize),
}

/// A store, one runner, 10 ms each way between them; deliveries are immediate.
struct World {
    store: Store,
    runner: Runner<Scripted>,
    queue: Queue<Due>,
    sends: Vec<crate::client::Send>,
    replies: Vec<Option<Reply>>,
    log: Vec<String>,
    /// When each write was handed over, and from when on it may go.
    handed_over: Vec<(Time, Time)>,
}

impl World {
    fn new(plans: Vec<Plan>) -> World {
        let controller = Scripted {
            plans: plans.into(),
            ..Scripted::default()
        };
        World {
            store: Store::new(Draws::new(1)),
            runner: Runner::with_budget(controller, Budget::per_second(20, 4)),
            queue: Queue::new(),
            sends: Vec::new(),
            replies: Vec::new(),
            log: Vec::new(),
            handed_over: Vec::new(),
        }
    }

    /// Creates ConfigMaps of these names at these milliseconds, runs until nothing is due.
    fn run(&mut self, outside: &[(u64, &str)]) {
        let draws = Draws::new(1);
        let mut out = Outbox::default();
        self.runner
            .start(self.store.view(), Time::ZERO, &draws, &mut out);
        for (i, (ms, _)) in outside.iter().enumerate() {
            self.queue.at(Time::from_millis(*ms), Due::Outside(i));
        }
        loop {
            self.take(&mut out);
            let Some((now, _, due)) = self.queue.pop_due(Time::from_secs(600)) else {
                break;
            };
            match due {
                Due::Wake(event) => {
                    let view = self.store.view();
                    self.runner.on_event(event, view, now, &draws, &mut out);
                }
                Due::Arrive(at) => {
                    let send = &self.sends[at];
                    let (what, why) = (target(&send.write), send.cause);
                    let Origin::Controller(who) = why.origin else {
                        panic!("{why:?}")
                    };
                    let (trigger, rule) = (why.trigger, why.rule);
                    self.log
                        .push(format!("{now} {what} <- {who} {trigger:?} {rule:?}"));
                    let (write, cause) = (send.write.clone(), send.cause);
                    self.replies[at] = Some(self.store.write(&write, now, cause));
                    self.queue.after(Duration::from_millis(10), Due::Answer(at));
                }
                Due::Answer(at) => {
                    let reply = self.replies[at].take().unwrap();
                    let (token, view) = (self.sends[at].token, self.store.view());
                    self.runner
                        .on_reply(token, &reply, view, now, &draws, &mut out);
                }
                Due::Outside(i) => {
                    let write = create(outside[i].1);
                    let done = self.store.write(&write, now, Cause::default()).unwrap();
                    let change = self.store.log().get(done.revision).unwrap();
                    let view = self.store.view();
                    self.runner.on_change(change, view, now, &draws, &mut out);
                }
            }
        }
        assert!(self.runner.at_rest());
    }

    fn take(&mut self, out: &mut Outbox<Event>) {
        for (at, event) in out.timers.drain(..) {
            self.queue.at(at, Due::Wake(event));
        }
        for send in out.sends.drain(..) {
            let at = send.at + Duration::from_millis(10);
            self.handed_over.push((self.queue.now(), send.at));
            self.queue.at(at, Due::Arrive(self.sends.len()));
            self.sends.push(send);
            self.replies.push(None);
        }
    }
}

fn check(plans: Vec<Plan>, outside: &[(u64, &str)], expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).collect();
    let mut world = World::new(plans);
    world.run(outside);
    assert_eq!(world.runner.controller.told, expected);
}

fn plan(steps: Vec<Step>) -> Plan {
    Plan {
        steps,
        ..Plan::default()
    }
}

#[test]
fn steps_wait_for_each_other_and_the_first_failure_drops_the_rest() {
    let mut p = Plan::none();
    p.write(create("b"), "");
    p.write(create("b"), "");
    p.write(create("c"), "");
    // the retry comes 5 ms after the end, with nothing left to do
    check(
        vec![p],
        &[(0, "a")],
        "00:00.000 sync #0
        00:00.020 #0 b 200
        00:00.040 #0 b 409
        00:00.040 finish #0 done 1 skipped 1 failed Some(1) 409
        00:00.045 sync #0",
    );
}

#[test]
fn an_optional_write_may_fail() {
    let mut p = Plan::none();
    p.attempt(create("a"), "");
    p.write(create("b"), "");
    check(
        vec![p],
        &[(0, "a")],
        "00:00.000 sync #0
        00:00.020 #0 a 409
        00:00.040 #0 b 200
        00:00.040 finish #0 done 1 skipped 0 failed None 200",
    );
}

#[test]
fn slow_start_doubles_its_batches_and_stops_at_a_failure() {
    let names = ["b", "c", "d", "a", "e", "f", "g", "h", "i"];
    let writes = names.map(create).to_vec();
    // batches of 1, 2, 4; the budget's burst is 4, then 50 ms each: e, f and g wait. The fourth
    // name is taken, so its batch is the last one and h and i are skipped.
    check(
        vec![plan(vec![Step::SlowStart { writes, rule: "" }])],
        &[(0, "a")],
        "00:00.000 sync #0
        00:00.020 #0 b 200
        00:00.040 #0 c 200
        00:00.040 #0 d 200
        00:00.060 #0 a 409
        00:00.070 #0 e 200
        00:00.120 #0 f 200
        00:00.170 #0 g 200
        00:00.170 finish #0 done 6 skipped 2 failed Some(0) 409
        00:00.175 sync #0",
    );
}

#[test]
fn parallel_writes_go_at_once_and_all_are_awaited() {
    let writes = ["a", "b", "c"].map(create).to_vec();
    check(
        vec![plan(vec![Step::Parallel { writes, rule: "" }])],
        &[(0, "a")],
        "00:00.000 sync #0
        00:00.020 #0 a 409
        00:00.020 #0 b 200
        00:00.020 #0 c 200
        00:00.020 finish #0 done 2 skipped 0 failed Some(0) 409
        00:00.025 sync #0",
    );
}

#[test]
fn chains_go_side_by_side_and_a_failure_ends_its_own_alone() {
    let chain = |names: &[&str]| names.iter().map(|n| (create(n), "")).collect();
    // "a" is there already
    let chains = Step::Chains(vec![
        chain(&["b", "c", "d"]),
        chain(&[]),
        chain(&["a", "e", "brave", "f"]),
        chain(&["g"]),
    ]);
    let last = Step::SlowStart {
        writes: vec![create("h")],
        rule: "",
    };
    check(
        vec![plan(vec![chains, last])],
        &[(0, "a")],
        "00:00.000 sync #0
        00:00.020 #0 b 200
        00:00.020 #0 a 409
        00:00.020 #0 g 200
        00:00.040 #0 c 200
        00:00.070 #0 brave 200
        00:00.120 #0 d 200
        00:00.120 finish #0 done 5 skipped 3 failed Some(0) 409
        00:00.125 sync #0",
    );
}

#[test]
fn deletions_are_as_the_writes_that_they_stand_for() {
    // "b" is there, "a" has another uid, and nobody has number 7.
    let objects = [(0, 1), (1, 9), (7, 3)].map(|(index, uid)| {
        let kind = Kind::ConfigMap;
        (ObjectId { kind, index }, crate::api::Uid(uid))
    });
    let rule = "too many";
    let write = |(object, uid)| Write::Delete {
        object,
        uid: Some(uid),
        grace_s: Some(0),
        propagation: crate::store::Propagation::Background,
    };
    let writes = objects.map(write).to_vec();
    let objects = objects.to_vec();
    let [spelt, short] = [
        Step::Parallel { writes, rule },
        Step::Deletions { objects, rule },
    ]
    .map(|step| {
        assert_eq!(step.writes(), 3);
        let mut world = World::new(vec![Plan::none(), plan(vec![step])]);
        world.run(&[(0, "b"), (1, "a")]);
        (world.log, world.runner.controller.told)
    });
    let codes = spelt.1.iter().filter(|told| told.contains("Delete"));
    let codes: Vec<&str> = codes.filter_map(|told| told.rsplit(' ').next()).collect();
    assert_eq!(codes, ["200", "409", "404"]);
    assert_eq!(short, spelt);
}

#[test]
fn as_many_keys_as_workers_are_synced_at_a_time() {
    let plans = ["d", "e", "f"].map(|name| {
        let mut p = Plan::none();
        p.write(create(name), "");
        p
    });
    check(
        plans.to_vec(),
        &[(0, "a"), (0, "b"), (0, "c")],
        "00:00.000 sync #0
        00:00.000 sync #1
        00:00.020 #0 d 200
        00:00.020 finish #0 done 1 skipped 0 failed None 200
        00:00.020 sync #2
        00:00.020 #1 e 200
        00:00.020 finish #1 done 1 skipped 0 failed None 200
        00:00.040 #2 f 200
        00:00.040 finish #2 done 1 skipped 0 failed None 200",
    );
}

#[test]
fn a_plan_may_ask_to_be_called_again() {
    let mut p = Plan::none();
    p.requeue(Duration::from_secs(2));
    p.requeue(Duration::from_secs(3));
    check(vec![p], &[(0, "a")], "00:00.000 sync #0\n00:02.000 sync #0");
}

#[test]
fn a_sync_that_fails_is_retried_three_times_with_back_off() {
    let failing = || Plan {
        error: Some("no".into()),
        ..Plan::default()
    };
    check(
        std::iter::repeat_with(failing).take(9).collect(),
        &[(0, "a")],
        "00:00.000 sync #0
        00:00.005 sync #0
        00:00.015 sync #0
        00:00.035 sync #0",
    );
}

#[test]
fn a_plan_builds_on_its_own_writes() {
    let update = |data: &str| {
        let Row::ConfigMap(mut row) = config("a") else {
            unreachable!()
        };
        let new = Arc::make_mut(&mut row);
        new.meta.revision = 1;
        new.data = Labels::from_iter([("k", data)]);
        Write::Update(Id::<ConfigMap>::new(0).into(), Row::ConfigMap(row))
    };
    let mut p = Plan::none();
    p.write(update("one"), "");
    p.write(update("two"), "");
    // both were made from revision 1; the second is sent with revision 2, the first one's answer
    check(
        vec![p],
        &[(0, "a")],
        "00:00.000 sync #0
        00:00.020 #0 update 0@1 200
        00:00.040 #0 update 0@1 200
        00:00.040 finish #0 done 2 skipped 0 failed None 200",
    );
}

#[test]
fn events_are_sent_in_the_background_and_writes_carry_their_cause() {
    let mut p = Plan::none();
    p.event(event("First"));
    p.write(create("told"), "a rule");
    p.event(event("Last"));
    let mut world = World::new(vec![p]);
    world.run(&[(0, "a")]);
    // the second event waits for the answer to the first
    let expected = [
        "00:00.010 told <- scripted Change(1) \"a rule\"",
        "00:00.010 event First <- scripted Change(1) \"\"",
        "00:00.030 event Told <- scripted Change(1) \"\"",
        "00:00.050 event Last <- scripted Change(1) \"\"",
    ];
    assert_eq!(world.log, expected);
}

#[test]
fn a_restart_forgets_plans_and_queue_and_ignores_old_answers() {
    let mut p = Plan::none();
    p.write(create("b"), "");
    p.write(create("c"), "");
    let mut world = World::new(vec![p]);
    let (draws, mut out) = (Draws::new(1), Outbox::default());
    let view = View::default();
    world.runner.start(&view, Time::ZERO, &draws, &mut out);
    let outside = world
        .store
        .write(&create("a"), Time::ZERO, Cause::default())
        .unwrap();
    let change = world.store.log().get(outside.revision).unwrap().clone();
    let runner = &mut world.runner;
    runner.on_change(&change, &view, Time::ZERO, &draws, &mut out);
    runner.on_event(Event::Wake, &view, Time::ZERO, &draws, &mut out);
    assert_eq!((out.sends.len(), runner.at_rest()), (1, false));
    runner.restart();
    assert!(runner.at_rest());
    let token = out.sends[0].token;
    runner.on_reply(token, &Ok(outside), &view, Time::ZERO, &draws, &mut out);
    runner.on_change(&change, &view, Time::ZERO, &draws, &mut out);
    assert_eq!((out.sends.len(), runner.at_rest()), (1, true));
    runner.start(&view, Time::ZERO, &draws, &mut out);
    runner.on_change(&change, &view, Time::ZERO, &draws, &mut out);
    runner.on_event(Event::Wake, &view, Time::ZERO, &draws, &mut out);
    assert_eq!(runner.controller.told.len(), 2);
}

/// 20 a second and 4 at once: the nth write is due 50 ms after the one before, the last after 20 s.
/// What is due in 5 s is on its way at once (4 and 100), the rest when that much is left.
#[test]
fn what_the_budget_lets_go_much_later_is_not_on_its_way_yet() {
    let writes: Vec<Write> = (0..404).map(|n| create(&format!("c{n}"))).collect();
    let mut world = World::new(vec![plan(vec![Step::Parallel { writes, rule: "" }])]);
    world.run(&[(0, "a")]);
    assert_eq!(world.handed_over.len(), 404);
    for (n, (now, due)) in (0u64..).zip(&world.handed_over) {
        assert_eq!(
            *due,
            Time::from_millis(n.saturating_sub(3) * 50),
            "write {n}"
        );
        assert!(due.since(*now) <= Duration::from_secs(10), "write {n}");
    }
    let at_once = world
        .handed_over
        .iter()
        .filter(|(now, _)| *now == Time::ZERO);
    assert_eq!(at_once.count(), 104);
}
