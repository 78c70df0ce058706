//! What one reader knows of the cluster: a set of tables as of some revision.
//!
//! Controllers of one process share a view (as shared informers do); the scheduler, the proxies and
//! the expectations have their own. A view only changes by [`View::apply`].

use super::renewals::Renewals;
use super::table::{Id, Table};
use super::write::{Change, ObjectId, Op};
use crate::api::row::for_each_kind;
use crate::api::{Kind, Lease, Object, OwnerRef, Row, Text, Uid};
use crate::engine::Time;

macro_rules! view {
    ($($kind:ident $node:expr, $api:literal, $plural:literal, $namespaced:literal;)*) => {
        /// The tables of every typed kind.
        #[derive(Clone, Debug, Default)]
        #[allow(missing_docs, non_snake_case)]
        pub struct View {
            /// The revision up to which changes were applied.
            pub revision: u64,
            /// What the resource metrics API answers; nothing where there is none. It is no object:
            /// whoever scrapes puts it here.
            pub pod_metrics: Option<std::sync::Arc<crate::api::autoscaling::PodMetricsList>>,
            renewals: Renewals,
            $(pub(super) $kind: Table<crate::api::$kind>,)*
        }

        $(impl Tabled for crate::api::$kind {
            fn table(view: &View) -> &Table<Self> { &view.$kind }
            fn table_mut(view: &mut View) -> &mut Table<Self> { &mut view.$kind }
        })*

        impl View {
            /// The row of any kind.
            pub fn row(&self, object: ObjectId) -> Option<Row> {
                match object.kind {
                    $(Kind::$kind => {
                        let row = Row::$kind(self.$kind.get(Id::new(object.index))?.clone());
                        Some(self.renewals.whole(object.index, row))
                    })*
                    Kind::KubeEvent => None,
                }
            }

            /// The metadata of any row. The revision of a lease may be of before its last renewal.
            pub fn meta(&self, object: ObjectId) -> Option<&crate::api::Meta> {
                match object.kind {
                    $(Kind::$kind => self.$kind.get(Id::new(object.index)).map(|o| &o.meta),)*
                    Kind::KubeEvent => None,
                }
            }

            /// The object of this name, if the view has it.
            pub fn lookup(&self, kind: Kind, namespace: &str, name: &str) -> Option<ObjectId> {
                match kind {
                    $(Kind::$kind => self.$kind.find(namespace, name)
                        .map(|(id, _)| ObjectId { kind, index: id.0 }),)*
                    Kind::KubeEvent => None,
                }
            }

            /// All rows of a kind in order of creation.
            pub fn rows(&self, kind: Kind) -> Vec<(ObjectId, Row)> {
                match kind {
                    $(Kind::$kind => self.$kind.iter()
                        .map(|(id, o)| {
                            let row = self.renewals.whole(id.0, Row::$kind(o.clone()));
                            (ObjectId { kind, index: id.0 }, row)
                        }).collect(),)*
                    Kind::KubeEvent => Vec::new(),
                }
            }

            /// The objects of every kind whose managing controller has this uid, kind by kind in
            /// order of creation.
            pub fn owned_by(&self, owner: Uid) -> Vec<ObjectId> {
                let mut all = Vec::new();
                $(all.extend(self.$kind.owned_by(owner)
                    .map(|(id, _)| ObjectId { kind: Kind::$kind, index: id.0 }));)*
                all
            }

            /// The object that has the name of this owner, seen from an object in `namespace`: in
            /// the same namespace, or cluster-scoped. Its uid may be another one.
            pub fn owner(&self, owner: &OwnerRef, namespace: &Text) -> Option<(ObjectId, Row)> {
                let none = Text::default();
                let key = match owner.kind {
                    Kind::Inert => Text::from(format!("{}/{}", owner.kind_name, owner.name)),
                    _ => owner.name.clone(),
                };
                match owner.kind {
                    $(Kind::$kind => {
                        let table = &self.$kind;
                        let found = match $namespaced {
                            true => table.named(namespace, &key),
                            false => None,
                        };
                        let (id, row) = found.or_else(|| table.named(&none, &key))?;
                        let object = ObjectId { kind: Kind::$kind, index: id.0 };
                        Some((object, self.renewals.whole(id.0, Row::$kind(row.clone()))))
                    })*
                    Kind::KubeEvent => None,
                }
            }

            pub(super) fn put(&mut self, object: ObjectId, row: Option<&Row>) {
                if object.kind == Kind::Lease {
                    let lease = row.and_then(Lease::from_row);
                    self.renewals.put(Id::new(object.index), lease.map(|lease| &**lease));
                }
                match object.kind {
                    $(Kind::$kind => self.$kind.put(
                        Id::new(object.index),
                        row.and_then(crate::api::$kind::from_row).cloned()),)*
                    Kind::KubeEvent => {}
                }
            }
        }
    };
}

/// Kinds that have a table.
pub trait Tabled: Object {
    /// Its table in a view.
    fn table(view: &View) -> &Table<Self>;
    /// Its table in a view, to change.
    #[doc(hidden)]
    fn table_mut(view: &mut View) -> &mut Table<Self>;
}

for_each_kind!(view);

impl View {
    /// The table of a kind: `view.of::<Pod>()`.
    pub fn of<T: Tabled>(&self) -> &Table<T> {
        T::table(self)
    }

    /// Pods.
    pub fn pods(&self) -> &Table<crate::api::Pod> {
        &self.Pod
    }

    /// Nodes.
    pub fn nodes(&self) -> &Table<crate::api::Node> {
        &self.Node
    }

    /// What a lease was renewed at. Its row in the table may be of before its last renewals.
    pub fn renewed(&self, lease: Id<Lease>) -> Option<Time> {
        Some(self.renewals.at(lease)?.0)
    }

    /// As [`View::renewed`], with the revision of the change that says so.
    pub fn renewed_by(&self, lease: Id<Lease>) -> Option<(Time, u64)> {
        self.renewals.at(lease)
    }

    /// How often a lease was not just renewed, but written as a whole, or went.
    pub fn leases_rewritten(&self) -> u64 {
        self.renewals.rewritten()
    }

    /// Notes a renewal of a lease that exists and says something else; returns whether it does.
    pub(super) fn renew(&mut self, lease: Id<Lease>, revision: u64, at: Time) -> bool {
        self.renewals.renew(lease, revision, at)
    }

    /// Advances by one change.
    #[inline]
    pub fn apply(&mut self, change: &Change) {
        self.revision = change.revision;
        let Some(object) = change.object else {
            return;
        };
        match change.renewed {
            Some(at) => {
                self.renew(Id::new(object.index), change.revision, at);
            }
            None if change.op == Op::Delete => self.put(object, None),
            None => self.put(object, change.new.as_ref()),
        }
    }
}
