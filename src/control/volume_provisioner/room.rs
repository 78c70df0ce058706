//! How much room a driver has left, where CSIStorageCapacity objects tell.
//!
//! A scenario gives the room that there is in the beginning; from then on the objects follow what is
//! made and deleted, as the driver's answers to `GetCapacity` would: the provisioner asks anew after
//! every volume (`kubernetes-csi/external-provisioner/pkg/capacity/provision.go`). Whoever edits an
//! object adds or takes away disks. A driver whose classes have no such objects has room for
//! everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::place::Segment;
use crate::api::quantity::{Format, Quantity};
use crate::api::storage::PROVISIONED_BY;
use crate::api::{CSIStorageCapacity, Labels, PersistentVolume, PersistentVolumeClaim, Text};
use crate::store::{Change, Id, Op, View};

/// The room behind one CSIStorageCapacity, in bytes.
#[derive(Debug)]
struct Room {
    /// Taken or not.
    total: i64,
    /// The largest volume, as its owner wrote it.
    maximum: Option<i64>,
    /// Taken by volumes that are there.
    used: i64,
    /// What its object says, as far as the provisioner has written it.
    published: i64,
}

/// The room behind all CSIStorageCapacity objects that say how much there is.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: BTreeMap<Id<CSIStorageCapacity>, Room>,
    /// By claim: volumes that are being made, and where.
    promised: BTreeMap<Id<PersistentVolumeClaim>, (Id<CSIStorageCapacity>, Promise)>,
}

/// A volume that is not there yet.
#[derive(Debug)]
pub struct Promise {
    /// Its name.
    pub volume: Text,
    /// Its size.
    pub bytes: i64,
}

/// Whether an object is about volumes of this class in this segment.
fn covers(object: &CSIStorageCapacity, class: &Text, labels: &Labels) -> bool {
    object.storage_class == *class && object.topology.as_ref().is_some_and(|t| t.matches(labels))
}

/// What a volume takes of the rooms that it is in.
struct Taken<'v> {
    class: &'v Text,
    labels: Labels,
    bytes: i64,
}

impl<'v> Taken<'v> {
    /// Nothing, if it was made by hand and not by a driver.
    fn by(volume: &'v PersistentVolume) -> Option<Taken<'v>> {
        let made = volume.meta.annotations.contains(PROVISIONED_BY);
        made.then(|| Taken {
            class: &volume.storage_class,
            labels: Segment::of_volume(volume).labels(),
            bytes: volume.capacity,
        })
    }

    /// Bytes of the room that an object is about.
    fn of(&self, object: &CSIStorageCapacity) -> i64 {
        match covers(object, self.class, &self.labels) {
            true => self.bytes,
            false => 0,
        }
    }
}

impl Rooms {
    /// Looks at everything that is there.
    pub fn look(&mut self, view: &View) {
        for (id, object) in view.of::<CSIStorageCapacity>().iter() {
            self.seen(id, object, view);
        }
    }

    /// An object is new, has changed or is gone.
    pub fn object_changed(&mut self, change: &Change, view: &View) {
        let Some(id) = change.object.and_then(|o| o.typed::<CSIStorageCapacity>()) else {
            return;
        };
        match view.of::<CSIStorageCapacity>().get(id) {
            Some(object) if change.op != Op::Delete => self.seen(id, object, view),
            _ => {
                self.rooms.remove(&id);
            }
        }
    }

    fn seen(&mut self, id: Id<CSIStorageCapacity>, object: &CSIStorageCapacity, view: &View) {
        let Some(left) = object.capacity else {
            self.rooms.remove(&id);
            return;
        };
        let known = self.rooms.get(&id);
        if known.is_some_and(|room| room.published == left) {
            return;
        }
        let used = known.map_or_else(
            || {
                let volumes = view.of::<PersistentVolume>().iter();
                let taken = volumes.filter_map(|(_, volume)| Taken::by(volume));
                taken.map(|taken| taken.of(object)).sum()
            },
            |room| room.used,
        );
        let room = Room {
            total: left.saturating_add(used),
            maximum: object.maximum,
            used,
            published: left,
        };
        self.rooms.insert(id, room);
    }

    /// A volume is new, has changed or is gone; returns the objects that say something else now.
    pub fn volume_changed(
        &mut self,
        (old, new): (Option<&PersistentVolume>, Option<&PersistentVolume>),
        view: &View,
    ) -> Vec<Id<CSIStorageCapacity>> {
        if let Some(new) = new {
            self.promised.retain(|_, (_, p)| p.volume != new.meta.name);
        }
        let (old, new) = (old.and_then(Taken::by), new.and_then(Taken::by));
        let mut changed = Vec::new();
        for (id, room) in &mut self.rooms {
            let Some(object) = view.of::<CSIStorageCapacity>().get(*id) else {
                continue;
            };
            let bytes = |taken: &Option<Taken<'_>>| taken.as_ref().map_or(0, |t| t.of(object));
            room.used += bytes(&new) - bytes(&old);
            if room.left() != room.published {
                changed.push(*id);
            }
        }
        changed
    }

    /// Promises room for a claim's volume, wherever that is limited; says why there is none.
    pub fn promise(
        &mut self,
        claim: Id<PersistentVolumeClaim>,
        wanted: Promise,
        (class, segment): (&Text, &Segment),
        view: &View,
    ) -> Result<(), String> {
        self.promised.remove(&claim);
        let labels = segment.labels();
        let mut most = None;
        for (id, room) in &self.rooms {
            let object = view.of::<CSIStorageCapacity>().get(*id);
            if !object.is_some_and(|object| covers(object, class, &labels)) {
                continue;
            }
            let promised = self.promised.values().filter(|(at, _)| at == id);
            let promised: i64 = promised.map(|(_, promise)| promise.bytes).sum();
            let left = (room.left() - promised).max(0);
            let left = room.maximum.map_or(left, |maximum| maximum.min(left));
            if wanted.bytes <= left {
                self.promised.insert(claim, (*id, wanted));
                return Ok(());
            }
            most = most.max(Some(left));
        }
        match most {
            None => Ok(()),
            Some(left) => Err(format!(
                "not enough room: {} wanted, {} left",
                written(wanted.bytes),
                written(left)
            )),
        }
    }

    /// The volume of a claim was not made after all.
    pub fn withdraw(&mut self, claim: Id<PersistentVolumeClaim>) {
        self.promised.remove(&claim);
    }

    /// The object as it should be, if it is not (`syncCapacity`).
    pub fn update(
        &mut self,
        id: Id<CSIStorageCapacity>,
        view: &View,
    ) -> Option<CSIStorageCapacity> {
        let object = view.of::<CSIStorageCapacity>().get(id)?;
        let room = self.rooms.get_mut(&id)?;
        let left = room.left();
        if object.capacity == Some(left) {
            return None;
        }
        room.published = left;
        let maximum = room.maximum.map(|maximum| maximum.min(left));
        let mut source = (*object.source).clone();
        source["capacity"] = json!(written(left));
        if let Some(maximum) = maximum {
            source["maximumVolumeSize"] = json!(written(maximum));
        }
        Some(CSIStorageCapacity {
            capacity: Some(left),
            maximum,
            source: Arc::new(source),
            ..(**object).clone()
        })
    }
}

impl Room {
    fn left(&self) -> i64 {
        (self.total - self.used).max(0)
    }
}

fn written(bytes: i64) -> String {
    Quantity::from_units(bytes).print(Format::BinarySi)
}
