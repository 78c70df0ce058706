//! One table per kind: rows by id, by name, by namespace, by owner and by node.
//!
//! Ids are given out by the store, grow, and are never used twice, so that a stale id reads as
//! nothing. Every index iterates in the order of ids (= order of creation).
//!
//! A cluster has several views of the same tables, and each reader asks in its own way: the
//! scheduler never looks for pods by name, the API server never for those of an owner. An index is
//! therefore made when somebody first asks for it, from the rows, and kept up to date from then on.

use std::hash::{BuildHasher, Hash, Hasher};
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rustc_hash::{FxBuildHasher, FxHashMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id_set::IdSet;
use crate::api::{Object, Text, Uid};

/// The number of an object within its kind.
pub struct Id<T>(pub u32, PhantomData<fn() -> T>);

impl<T> Id<T> {
    /// The id with this number.
    pub fn new(index: u32) -> Self {
        Id(index, PhantomData)
    }

    /// Its number, for indexing side tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<T> std::fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl<T> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
impl<'de, T> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Id::new)
    }
}

/// Whom an object belongs to: the key of the owner index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Controller(Uid),
    /// Nobody; listed by namespace so that controllers find what they could adopt.
    Orphan(Text),
}

/// The numbers of rows by something that they have, once somebody has asked.
#[derive(Clone, Debug)]
struct Index<K> {
    made: OnceLock<FxHashMap<K, IdSet>>,
    /// How often a row came to a key that had none.
    openings: u64,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Index {
            made: OnceLock::new(),
            openings: 0,
        }
    }
}

impl<K: Hash + Eq> Index<K> {
    /// The index; `keys` are those of all rows in order, for when it has to be made.
    fn made(&self, keys: impl Iterator<Item = (u32, K)>) -> &FxHashMap<K, IdSet> {
        self.made.get_or_init(|| {
            let mut made = FxHashMap::<K, IdSet>::default();
            for (id, key) in keys {
                made.entry(key).or_default().insert(id);
            }
            made
        })
    }

    fn insert(&mut self, id: u32, key: impl FnOnce() -> Option<K>) {
        if let Some(made) = self.made.get_mut()
            && let Some(key) = key()
        {
            let ids = made.entry(key).or_default();
            self.openings += u64::from(ids.is_empty());
            ids.insert(id);
        }
    }

    fn remove(&mut self, id: u32, key: impl FnOnce() -> Option<K>) {
        if let Some(made) = self.made.get_mut()
            && let Some(key) = key()
            && let Some(set) = made.get_mut(&key)
        {
            set.remove(id);
            if set.is_empty() {
                made.remove(&key);
            }
        }
    }

    /// A row has another key than before.
    fn change(
        &mut self,
        id: u32,
        old: impl FnOnce() -> Option<K>,
        new: impl FnOnce() -> Option<K>,
    ) {
        self.remove(id, old);
        self.insert(id, new);
    }

    fn is_made(&self) -> bool {
        self.made.get().is_some()
    }
}

/// A row among the names. That its hash is kept means that no row is read for a name that is not its
/// own, nor when the table grows.
#[derive(Clone, Copy, Debug)]
struct Named {
    hash: u32,
    id: u32,
}

/// All objects of one kind.
#[derive(Clone, Debug)]
pub struct Table<T> {
    rows: Vec<Option<Arc<T>>>,
    /// By namespace and name, which are looked up in the rows themselves.
    names: OnceLock<HashTable<Named>>,
    namespaces: Index<Text>,
    owners: Index<Owner>,
    nodes: Index<Text>,
    len: usize,
    /// How often a row came or went.
    moves: u64,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            rows: Vec::new(),
            names: OnceLock::new(),
            namespaces: Index::default(),
            owners: Index::default(),
            nodes: Index::default(),
            len: 0,
            moves: 0,
        }
    }
}

impl<T: Object> Table<T> {
    /// The row of `id`, if it exists (still, or already, in this view).
    pub fn get(&self, id: Id<T>) -> Option<&Arc<T>> {
        self.rows.get(id.index())?.as_ref()
    }

    /// The row with this name; `namespace` is empty for cluster-scoped kinds.
    pub fn named(&self, namespace: &Text, name: &Text) -> Option<(Id<T>, &Arc<T>)> {
        self.find(namespace, name)
    }

    /// As [`Table::named`], from plain strings.
    pub fn find(&self, namespace: &str, name: &str) -> Option<(Id<T>, &Arc<T>)> {
        let hash = hashed(namespace, name);
        let named =
            |other: &Named| other.hash == hash && is_named(&self.rows, other.id, namespace, name);
        self.pair(self.names().find(spread(hash), named)?.id)
    }

    fn names(&self) -> &HashTable<Named> {
        self.names.get_or_init(|| {
            let mut names = HashTable::with_capacity(self.len);
            for (id, row) in self.iter() {
                link_name(&mut names, &self.rows, id.0, row);
            }
            names
        })
    }

    fn namespaces(&self) -> &FxHashMap<Text, IdSet> {
        let rows = self.iter();
        self.namespaces
            .made(rows.map(|(id, row)| (id.0, row.meta().namespace.clone())))
    }

    fn nodes(&self) -> &FxHashMap<Text, IdSet> {
        let on_node = |(id, row): (Id<T>, &Arc<T>)| Some((id.0, row.node_name()?.clone()));
        self.nodes.made(self.iter().filter_map(on_node))
    }

    fn owners(&self) -> &FxHashMap<Owner, IdSet> {
        let rows = self.iter();
        self.owners
            .made(rows.map(|(id, row)| (id.0, owner_of(&**row))))
    }

    /// All rows in order of creation.
    pub fn iter(&self) -> impl Iterator<Item = (Id<T>, &Arc<T>)> {
        self.rows
            .iter()
            .enumerate()
            .filter_map(|(i, row)| Some((Id::new(u32::try_from(i).ok()?), row.as_ref()?)))
    }

    /// The rows of a namespace in order of creation.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = (Id<T>, &Arc<T>)> {
        self.among(|table| table.namespaces().get(namespace))
    }

    /// The rows whose managing controller has this uid.
    pub fn owned_by(&self, owner: Uid) -> impl Iterator<Item = (Id<T>, &Arc<T>)> {
        self.among(move |table| table.owners().get(&Owner::Controller(owner)))
    }

    /// The rows of a namespace that no controller manages.
    pub fn orphans(&self, namespace: &Text) -> impl Iterator<Item = (Id<T>, &Arc<T>)> {
        self.among(|table| table.owners().get(&Owner::Orphan(namespace.clone())))
    }

    /// The rows that belong to a node (pods by `spec.nodeName`).
    pub fn on_node(&self, node: &str) -> impl Iterator<Item = (Id<T>, &Arc<T>)> {
        self.among(|table| table.nodes().get(node))
    }

    /// The names of nodes that have rows and that `keep` wants, sorted.
    pub fn node_names(&self, keep: impl Fn(&Text) -> bool) -> Vec<&Text> {
        let mut names: Vec<&Text> = self.nodes().keys().filter(|name| keep(name)).collect();
        names.sort();
        names
    }

    /// A number that grows whenever a row comes or goes.
    pub fn roster(&self) -> u64 {
        self.moves
    }

    /// A number that grows whenever there is a first row on a node, once [`Table::node_names`] was
    /// asked.
    pub fn node_roster(&self) -> u64 {
        self.nodes.openings
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rows of a set of an index, which is not made for the sake of a table without rows.
    fn among<'a>(
        &'a self,
        set: impl FnOnce(&'a Self) -> Option<&'a IdSet>,
    ) -> impl Iterator<Item = (Id<T>, &'a Arc<T>)> {
        let set = (!self.is_empty()).then(|| set(self)).flatten();
        let ids = set.into_iter().flat_map(IdSet::iter);
        ids.filter_map(|id| self.pair(id))
    }

    fn pair(&self, index: u32) -> Option<(Id<T>, &Arc<T>)> {
        Some((Id::new(index), self.rows.get(index as usize)?.as_ref()?))
    }

    /// Puts a row in place, or takes it away. Only `View` and `Store` call this.
    pub(super) fn put(&mut self, id: Id<T>, row: Option<Arc<T>>) {
        let at = id.index();
        if at >= self.rows.len() {
            self.rows.resize(at + 1, None);
        }
        let old = std::mem::replace(&mut self.rows[at], row.clone());
        if let (Some(old), Some(new)) = (&old, &row) {
            self.move_indexes(id.0, old, new);
            return;
        }
        if let Some(old) = old {
            self.unlink(id.0, &old);
            self.len -= 1;
        }
        if let Some(new) = row {
            self.link(id.0, &new);
            self.len += 1;
        }
    }

    /// An update keeps name and namespace; owner and node may move.
    fn move_indexes(&mut self, id: u32, old: &T, new: &T) {
        if self.owners.is_made()
            && old.meta().controller().map(|o| o.uid) != new.meta().controller().map(|o| o.uid)
        {
            let (old, new) = (|| Some(owner_of(old)), || Some(owner_of(new)));
            self.owners.change(id, old, new);
        }
        if self.nodes.is_made() && old.node_name() != new.node_name() {
            let (old, new) = (|| old.node_name().cloned(), || new.node_name().cloned());
            self.nodes.change(id, old, new);
        }
    }

    fn link(&mut self, id: u32, row: &T) {
        self.moves += 1;
        if let Some(names) = self.names.get_mut() {
            link_name(names, &self.rows, id, row);
        }
        self.namespaces
            .insert(id, || Some(row.meta().namespace.clone()));
        self.owners.insert(id, || Some(owner_of(row)));
        self.nodes.insert(id, || row.node_name().cloned());
    }

    fn unlink(&mut self, id: u32, row: &T) {
        self.moves += 1;
        let meta = row.meta();
        if let Some(names) = self.names.get_mut() {
            let hash = spread(hashed(&meta.namespace, &row.key()));
            if let Ok(entry) = names.find_entry(hash, |other| other.id == id) {
                entry.remove();
            }
        }
        self.namespaces.remove(id, || Some(meta.namespace.clone()));
        self.owners.remove(id, || Some(owner_of(row)));
        self.nodes.remove(id, || row.node_name().cloned());
    }
}

/// Puts a row among the names, in place of another of its name.
fn link_name<T: Object>(names: &mut HashTable<Named>, rows: &[Option<Arc<T>>], id: u32, row: &T) {
    let (meta, key) = (row.meta(), row.key());
    let hash = hashed(&meta.namespace, &key);
    let named =
        |other: &Named| other.hash == hash && is_named(rows, other.id, &meta.namespace, &key);
    match names.entry(spread(hash), named, |other| spread(other.hash)) {
        Entry::Occupied(mut other) => other.get_mut().id = id,
        Entry::Vacant(place) => drop(place.insert(Named { hash, id })),
    }
}

/// What is kept of the hash of a name.
fn hashed(namespace: &str, name: &str) -> u32 {
    (FxBuildHasher.hash_one((namespace, name)) >> 32) as u32
}

/// Where the object of this name stands among the names: every bit of it matters there.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn is_named<T: Object>(rows: &[Option<Arc<T>>], id: u32, namespace: &str, name: &str) -> bool {
    let row = rows.get(id as usize).and_then(Option::as_ref);
    row.is_some_and(|row| row.meta().namespace == *namespace && row.has_key(name))
}

fn owner_of<T: Object>(row: &T) -> Owner {
    match row.meta().controller() {
        Some(owner) => Owner::Controller(owner.uid),
        None => Owner::Orphan(row.meta().namespace.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Kind, Meta, OwnerRef, Pod};
    use crate::engine::{Draws, Purpose};

    const TEST: Purpose = Purpose::new("test/table");

    /// A pod of which everything that is indexed is drawn from little.
    fn drawn(draws: &Draws, n: u64, name: u64) -> Pod {
        let draw = |what: u64, bound: u64| draws.below(TEST, what, n, bound);
        let owner = OwnerRef {
            kind: Kind::ReplicaSet,
            api_version: "apps/v1".into(),
            kind_name: "ReplicaSet".into(),
            name: "r".into(),
            uid: Uid(draw(1, 3)),
            controller: true,
            block_owner_deletion: false,
        };
        Pod {
            meta: Meta {
                name: format!("p{name}").into(),
                namespace: format!("n{}", name % 3).into(),
                owners: (draw(2, 3) > 0).then_some(owner).into_iter().collect(),
                ..Meta::default()
            },
            node_name: (draw(3, 4) > 0).then(|| format!("m{}", draw(4, 3)).into()),
            ..Pod::default()
        }
    }

    /// All that a table answers.
    fn told(table: &Table<Pod>) -> Vec<String> {
        let ids = |what: &str, rows: Vec<(Id<Pod>, &Arc<Pod>)>| {
            let ids: Vec<u32> = rows.iter().map(|(id, _)| id.0).collect();
            format!("{what} {ids:?}")
        };
        let mut lines = Vec::new();
        for n in 0..3 {
            let namespace = Text::from(format!("n{n}"));
            let node = format!("m{n}");
            lines.push(ids("in", table.in_namespace(&namespace).collect()));
            lines.push(ids("of", table.owned_by(Uid(n)).collect()));
            lines.push(ids("orphans", table.orphans(&namespace).collect()));
            lines.push(ids("on", table.on_node(&node).collect()));
        }
        for name in 0..40 {
            let found = table.find(&format!("n{}", name % 3), &format!("p{name}"));
            lines.push(ids("named", found.into_iter().collect()));
        }
        lines.push(format!("{:?}", table.node_names(|_| true)));
        lines
    }

    #[test]
    fn an_index_says_the_same_whenever_it_was_first_asked_for() {
        let draws = Draws::new(7);
        let (mut early, mut late) = (Table::<Pod>::default(), Table::<Pod>::default());
        told(&early);
        let (mut next, mut alive) = (0u32, Vec::<(u32, u64)>::new());
        for n in 0..400 {
            let at = draws.below(TEST, 9, n, alive.len().max(1) as u64) as usize;
            let (id, row) = match (draws.below(TEST, 8, n, 4), alive.get(at).copied()) {
                (0, Some((id, _))) => {
                    alive.remove(at);
                    (id, None)
                }
                (1, Some((id, name))) => (id, Some(drawn(&draws, n, name))),
                // Names are used again, by one at a time.
                _ => {
                    let free = (0..40).find(|name| alive.iter().all(|(_, taken)| taken != name));
                    let Some(name) = free else { continue };
                    alive.push((next, name));
                    next += 1;
                    (next - 1, Some(drawn(&draws, n, name)))
                }
            };
            let row = row.map(Arc::new);
            early.put(Id::new(id), row.clone());
            late.put(Id::new(id), row);
            if n % 40 == 0 {
                assert_eq!(told(&early), told(&late.clone()), "after {n}");
            }
        }
        assert!(next > 40 && alive.len() > 10, "{next} {}", alive.len());
        assert_eq!(told(&early), told(&late));
    }
}
