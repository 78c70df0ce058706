//! Small families of objects, one deletion, and what is left. Inspired by
//! `pkg/controller/garbagecollector/garbagecollector_test.go` (`TestOrphanDependentsFailure`,
//! `TestConflictingData`, `TestUnblockOwnerReference`) and by the cascading deletions of
//! `test/integration/garbagecollector`.

use super::*;
use crate::api::{ConfigMap, Inert};
use crate::client::outbox::Reply;
use crate::client::runner::{Driven, Event, Runner};
use crate::client::{Outbox, Send};
use crate::engine::Draws;
use crate::store::{Cause, Cursor, Store};

/// A store with the collector beside it; writes are carried out at once.
struct World {
    store: Store,
    view: View,
    collector: Runner<GarbageCollector>,
    log: Vec<String>,
    now: Time,
}

/// `name: owner owner! …`; `!` marks references that block, `*` the controller. A capital letter
/// begins the name of a foreign object.
fn family(lines: &str) -> World {
    let mut world = World {
        store: Store::new(Draws::new(1)),
        view: View::default(),
        collector: Runner::new(GarbageCollector::default()),
        log: Vec::new(),
        now: Time::ZERO,
    };
    for line in lines.lines() {
        let (name, owners) = line.trim().split_once(':').expect("name: owners");
        let owners = owners.split_whitespace().map(|word| world.owner(word));
        let owners: Vec<OwnerRef> = owners.collect();
        world.create(name, &owners);
    }
    let mut out = Outbox::default();
    let (view, draws) = (world.store.view().clone(), Draws::new(1));
    world.view = view.clone();
    world.collector.start(&view, Time::ZERO, &draws, &mut out);
    world.settle(out);
    world
}

impl World {
    fn find(&self, name: &str) -> Option<(ObjectId, Row)> {
        let mut rows = self.view_rows();
        let at = rows.iter().position(|(_, row)| row.meta().name == name)?;
        Some(rows.swap_remove(at))
    }

    fn view_rows(&self) -> Vec<(ObjectId, Row)> {
        let kinds = [Kind::ConfigMap, Kind::Inert];
        let view = self.store.view();
        kinds.into_iter().flat_map(|kind| view.rows(kind)).collect()
    }

    fn owner(&self, word: &str) -> OwnerRef {
        let name = word.trim_end_matches(['!', '*']);
        let found = self.find(name);
        let foreign = name.starts_with(char::is_uppercase);
        OwnerRef {
            kind: if foreign {
                Kind::Inert
            } else {
                Kind::ConfigMap
            },
            api_version: if foreign { "example.org/v1" } else { "v1" }.into(),
            kind_name: if foreign { "Widget" } else { "ConfigMap" }.into(),
            name: name.into(),
            uid: found.map_or(Uid(999), |(_, row)| row.meta().uid),
            controller: word.ends_with('*'),
            block_owner_deletion: word.contains('!'),
        }
    }

    fn create(&mut self, name: &str, owners: &[OwnerRef]) {
        let meta = Meta {
            namespace: "x".into(),
            name: name.into(),
            owners: owners.into(),
            ..Meta::default()
        };
        let row: Row = if name.starts_with(char::is_uppercase) {
            let (api_version, kind) = ("example.org/v1".into(), "Widget".into());
            Inert {
                meta,
                api_version,
                kind,
                ..Inert::default()
            }
            .into()
        } else {
            ConfigMap {
                meta,
                ..ConfigMap::default()
            }
            .into()
        };
        self.write(&Write::Create(row)).expect("created");
    }

    fn write(&mut self, write: &Write) -> Reply {
        self.store.write(write, self.now, Cause::default())
    }

    /// Delivers, syncs and writes until nothing happens any more.
    fn settle(&mut self, mut out: Outbox<Event>) {
        let draws = Draws::new(1);
        loop {
            let since = self.store.log().since(Cursor(self.view.revision));
            let changes: Vec<Change> = since.expect("kept").cloned().collect();
            for change in changes {
                self.view.apply(&change);
                let (view, now) = (&self.view, self.now);
                self.collector
                    .on_change(&change, view, now, &draws, &mut out);
            }
            let timers: Vec<_> = out.timers.drain(..).collect();
            let sends: Vec<Send> = out.sends.drain(..).collect();
            if timers.is_empty() && sends.is_empty() {
                return;
            }
            for send in sends {
                let line = self.say(&send.write);
                let reply = self.write(&send.write);
                self.log.push(line);
                let (view, now) = (&self.view, self.now);
                self.collector
                    .on_reply(send.token, &reply, view, now, &draws, &mut out);
            }
            for (at, event) in timers {
                self.now = self.now.max(at);
                let (view, now) = (&self.view, self.now);
                self.collector.on_event(event, view, now, &draws, &mut out);
            }
        }
    }

    fn say(&self, write: &Write) -> String {
        let name = |object: &ObjectId| {
            let row = self.store.view().row(*object);
            row.map_or("?".into(), |row| row.meta().name.to_string())
        };
        match write {
            Write::Delete {
                object,
                propagation,
                ..
            } => format!("delete {} {propagation:?}", name(object)),
            Write::Patch { object, patch, .. } => {
                let patch = format!("{patch:?}");
                let what = patch.split('(').next().unwrap_or_default();
                format!("{what} {}", name(object))
            }
            other => format!("{other:?}"),
        }
    }

    /// Deletes an object; returns what the collector wrote, then what is left.
    fn delete(&mut self, name: &str, propagation: Propagation) -> (String, String) {
        self.log.clear();
        let (object, _) = self.find(name).expect("it is there");
        let write = Write::Delete {
            object,
            uid: None,
            grace_s: None,
            propagation,
        };
        self.write(&write).expect("deleted");
        self.settle(Outbox::default());
        let left = self.view_rows();
        let left: Vec<_> = left.iter().map(|(_, r)| r.meta().name.as_str()).collect();
        (self.log.join(", "), left.join(" "))
    }
}

const CHAIN: &str = "a:\nb: a*!\nc: b*!\nother:";

#[test]
fn in_the_background_dependants_follow_their_owner() {
    let (log, left) = family(CHAIN).delete("a", Propagation::Background);
    assert_eq!(log, "delete b Background, delete c Background");
    assert_eq!(left, "other");
}

#[test]
fn in_the_foreground_the_deepest_goes_first() {
    let (log, left) = family(CHAIN).delete("a", Propagation::Foreground);
    assert_eq!(
        log,
        "delete b Foreground, delete c Background, Finalizers b, Finalizers a"
    );
    assert_eq!(left, "other");
}

#[test]
fn orphans_stay_and_forget_their_owner() {
    let mut world = family(CHAIN);
    let (log, left) = world.delete("a", Propagation::Orphan);
    assert_eq!(log, "RemoveOwner b, Finalizers a");
    assert_eq!(left, "b c other");
    assert!(world.find("b").expect("b").1.meta().owners.is_empty());
}

#[test]
fn a_second_owner_keeps_an_object_and_the_dead_one_is_struck_out() {
    let mut world = family("a:\nb:\nc: a b");
    let (log, left) = world.delete("a", Propagation::Background);
    assert_eq!((log.as_str(), left.as_str()), ("Owners c", "b c"));
    let (log, left) = world.delete("b", Propagation::Background);
    assert_eq!((log.as_str(), left.as_str()), ("delete c Background", ""));
}

#[test]
fn only_blocking_references_hold_back_a_foreground_deletion() {
    // c does not block, so a goes while c, which also belongs to b, loses one reference.
    let mut world = family("a:\nb:\nc: a b!");
    let (log, left) = world.delete("a", Propagation::Foreground);
    assert_eq!(
        (log.as_str(), left.as_str()),
        ("Owners c, Finalizers a", "b c")
    );
}

#[test]
fn foreign_objects_own_and_are_owned() {
    let (log, left) =
        family("Db:\nsecret: Db*\nBackup: secret").delete("Db", Propagation::Background);
    assert_eq!(log, "delete secret Background, delete Backup Background");
    assert_eq!(left, "");
}

#[test]
fn an_object_that_is_born_an_orphan_is_collected_unless_nobody_knows_the_owners_kind() {
    // Nobody is called "gone"; no Widget was ever seen in the second family.
    let rows = |world: World| world.view_rows().len();
    assert_eq!(rows(family("a: gone")), 0);
    assert_eq!(rows(family("a: Gone")), 1);
}

#[test]
fn two_that_own_each_other_both_go() {
    let mut world = family("a:\nb: a*!");
    let (id, row) = world.find("a").expect("a");
    let patch = Patch::AddOwner(world.owner("b!"));
    let write = patch_of(id, row.meta(), patch);
    world.write(&write).expect("patched");
    world.settle(Outbox::default());
    let (log, left) = world.delete("a", Propagation::Foreground);
    assert!(log.starts_with("Owners b, delete b Foreground"), "{log}");
    assert_eq!(left, "");
}

#[test]
fn what_was_left_undone_by_a_crash_is_taken_up_at_the_start() {
    let mut world = family(CHAIN);
    world.collector.restart();
    let (log, left) = world.delete("a", Propagation::Background);
    assert_eq!((log.as_str(), left.as_str()), ("", "b c other"));
    let mut out = Outbox::default();
    let (view, draws) = (world.view.clone(), Draws::new(1));
    world.collector.start(&view, world.now, &draws, &mut out);
    world.settle(out);
    assert_eq!(
        world.log.join(", "),
        "delete b Background, delete c Background"
    );
}

/// `attemptToDeleteItem` returns at the first owner that cannot be asked for.
#[test]
fn an_owner_of_an_unknown_kind_keeps_the_other_references_as_they_are() {
    let mut world = family("a:\nb: a Gone");
    let (log, left) = world.delete("a", Propagation::Background);
    assert_eq!((log.as_str(), left.as_str()), ("", "b"));
    assert_eq!(world.find("b").expect("b").1.meta().owners.len(), 2);
}

/// After `garbagecollector_test.go :: TestConflictingData` ("good parent -> bad child"): an owner of
/// another namespace is none, and somebody is told.
#[test]
fn an_owner_of_another_namespace_is_told_about() {
    use crate::control::desk::{Desk, PLAIN};
    use serde_json::json;
    for late in [false, true] {
        let map = |namespace: &str, name: &str, owners: serde_json::Value| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name,
                "namespace": namespace, "ownerReferences": owners}})
        };
        let parent = map("x", "parent", json!([]));
        let mut desk = Desk::new(GarbageCollector::default(), PLAIN, &[parent]);
        let view = desk.store.view();
        let id = view.lookup(Kind::ConfigMap, "x", "parent").expect("it");
        let uid = view.row(id).expect("it").meta().uid;
        let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "parent",
            "uid": uid.to_string()}]);
        if late {
            desk.crash();
        }
        desk.create(&map("x", "child", owner.clone()));
        desk.create(&map("y", "stranger", owner));
        if late {
            desk.start();
        }
        assert_eq!(desk.log(), "-configmap stranger", "{late}");
        let expected = format!(
            "warning OwnerRefInvalidNamespace: ownerRef [v1/ConfigMap, namespace: y, name: parent, \
             uid: {uid}] does not exist in namespace \"y\""
        );
        assert_eq!(desk.events(), [expected], "{late}");
    }
}
