//! Writing: every request is checked, admitted, committed, and appended to the log.
//!
//! The rules are those of the API server's generic registry (`staging/src/k8s.io/apiserver/pkg/
//! registry/generic/registry/store.go`) and of the pod strategy and storage
//! (`pkg/registry/core/pod`): revisions for optimistic locking, generations that count changes of
//! the desired state, graceful deletion that a kubelet finishes, finalizers.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::admit::Admission;
use super::log::Log;
use super::service::Pools;
use super::table::Id;
use super::view::View;
use super::write::{
    ApiError, Cause, Change, ObjectId, Op, Patch, Propagation, Receipt, Write, resource_name,
};
use crate::api::meta::Deletion;
use crate::api::{Kind, Lease, Meta, Row, Text, Uid};
use crate::engine::Time;
use crate::engine::draws::{Draws, Purpose, entity_key};

const NAME_SUFFIX: Purpose = Purpose::new("store/name-suffix");
/// The alphabet of generated names: `staging/src/k8s.io/apimachinery/pkg/util/rand :: alphanums`.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The storage of one cluster.
#[derive(Debug)]
pub struct Store {
    view: View,
    log: Log,
    next: FxHashMap<Kind, u32>,
    next_uid: u64,
    generated: FxHashMap<(Text, Text), u64>,
    draws: Draws,
    admission: Admission,
    pools: Pools,
}

/// How often a name is generated before the request fails.
const NAME_ATTEMPTS: u32 = 8;
/// `maxGeneratedNameLength`: what is longer loses its end.
const LONGEST_PREFIX: usize = 58;

/// What a commit needs to know about its circumstances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commit {
    pub(super) now: Time,
    pub(super) cause: Cause,
}

impl Store {
    /// An empty store; `draws` names the generated objects.
    pub fn new(draws: Draws) -> Self {
        Store {
            view: View::default(),
            log: Log::default(),
            next: FxHashMap::default(),
            next_uid: 1,
            generated: FxHashMap::default(),
            draws,
            admission: Admission::default(),
            pools: Pools::default(),
        }
    }

    /// Services get their addresses from these pools.
    pub fn serve_from(&mut self, pools: Pools) {
        self.pools = pools;
    }

    /// Pods that say nothing are tolerated so long on a lost node.
    pub fn tolerate(&mut self, seconds: super::admit::Tolerated) {
        self.admission.tolerated_s = seconds;
    }

    /// The current state, without lag.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The change log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The change log, to compact it.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Carries out one request at `now`.
    pub fn write(&mut self, write: &Write, now: Time, cause: Cause) -> Result<Receipt, ApiError> {
        let at = Commit { now, cause };
        match write {
            Write::Create(row) => self.create(row.clone(), at),
            Write::Update(object, row) => self.update(*object, row, at),
            Write::UpdateStatus(object, row) => self.update_status(*object, row, at),
            Write::Patch { object, uid, patch } => self.patch(*object, *uid, patch, at),
            Write::Delete {
                object,
                uid,
                grace_s,
                propagation,
            } => self.delete(*object, *uid, *grace_s, *propagation, at),
            Write::Bind { pod, uid, node } => self.bind((*pod).into(), *uid, node, at),
            Write::Evict { pod, grace_s } => self.evict(*pod, *grace_s, at),
            Write::Emit(event) => self.emit(event, at),
        }
    }

    /// As [`Store::write`], for a request that nobody needs afterwards: what it brings is not copied.
    pub fn carry_out(
        &mut self,
        write: Write,
        now: Time,
        cause: Cause,
    ) -> Result<Receipt, ApiError> {
        match write {
            Write::Patch {
                object,
                uid,
                patch: Patch::PodStatus(status),
            } if object.kind == Kind::Pod => {
                let old = self.checked(object, uid)?;
                let Row::Pod(pod) = &old else {
                    unreachable!("only pods are in the table of pods")
                };
                let new = super::admit::with_kubelet_status(pod, status);
                let differs = new.status != pod.status;
                Ok(self.replace_if(differs, object, old, new.into(), Commit { now, cause }))
            }
            write => self.write(&write, now, cause),
        }
    }

    /// Renews a lease: as `Patch::Renew`, which is the commonest write of a large cluster. The
    /// lease's row stays as it is: the view keeps what was renewed beside it.
    pub fn renew(
        &mut self,
        lease: Id<Lease>,
        renewed: Time,
        now: Time,
        cause: Cause,
    ) -> Result<(), ApiError> {
        let revision = self.log.head() + 1;
        if !self.view.renew(lease, revision, renewed) {
            let write = Write::Patch {
                object: lease.into(),
                uid: None,
                patch: Patch::Renew(renewed),
            };
            return self.write(&write, now, cause).map(|_| ());
        }
        self.view.revision = revision;
        self.log.push(Change {
            revision,
            time: now,
            object: Some(lease.into()),
            op: Op::Update,
            old: None,
            new: None,
            event: None,
            cause,
            renewed: Some(renewed),
        });
        Ok(())
    }

    fn emit(
        &mut self,
        event: &Arc<crate::api::KubeEvent>,
        at: Commit,
    ) -> Result<Receipt, ApiError> {
        super::lifecycle::check_event(event, &self.view)?;
        let revision = self.log.head() + 1;
        self.view.revision = revision;
        self.log.push(Change {
            revision,
            time: at.now,
            object: None,
            op: Op::Emit,
            old: None,
            new: None,
            event: Some(event.clone()),
            cause: at.cause,
            renewed: None,
        });
        self.view.revision = revision;
        Ok(Receipt {
            revision,
            object: None,
            row: None,
        })
    }

    /// Commits the new state of an object (or its removal) and logs it.
    pub(super) fn commit(
        &mut self,
        object: ObjectId,
        op: Op,
        mut new: Row,
        old: Option<Row>,
        at: Commit,
    ) -> Receipt {
        let revision = self.log.head() + 1;
        new.meta_mut().revision = revision;
        if let Row::Service(service) = &new {
            let of = |row: &Option<Row>| match row {
                Some(Row::Service(service)) => Some(service.clone()),
                _ => None,
            };
            let left = (op != Op::Delete).then_some(&**service);
            self.pools.follow(of(&old).as_deref(), left);
        }
        self.view
            .put(object, if op == Op::Delete { None } else { Some(&new) });
        self.view.revision = revision;
        self.log.push(Change {
            revision,
            time: at.now,
            object: Some(object),
            op,
            old,
            new: Some(new.clone()),
            event: None,
            cause: at.cause,
            renewed: None,
        });
        Receipt {
            revision,
            object: Some(object),
            row: Some(new),
        }
    }

    fn create(&mut self, mut row: Row, at: Commit) -> Result<Receipt, ApiError> {
        let kind = row.kind();
        self.name(&mut row)?;
        let meta = row.meta();
        if self
            .view
            .lookup(kind, &meta.namespace, &row.key())
            .is_some()
        {
            return Err(ApiError::AlreadyExists(format!(
                "{} already exists",
                resource_name(kind, meta)
            )));
        }
        self.admission.create(&mut row, &self.view)?;
        self.charge(&row, None, at)?;
        if let Row::Service(service) = &mut row {
            let imported = service.meta.uid != Uid::default();
            let service = Arc::make_mut(service);
            super::service::create(service, &self.pools, &self.draws, imported)?;
        }
        let counter = self.next.entry(kind).or_insert(0);
        let object = ObjectId {
            kind,
            index: *counter,
        };
        *counter += 1;
        let meta = row.meta_mut();
        meta.uid = Uid(self.next_uid);
        meta.created = at.now;
        meta.generation = 1;
        meta.deletion = None;
        self.next_uid += 1;
        if let Row::Job(job) = &mut row {
            Arc::make_mut(job).generate_selector();
        }
        Ok(self.commit(object, Op::Create, row, None, at))
    }

    /// Charges the quotas of the namespace, or refuses.
    fn charge(&mut self, row: &Row, old: Option<&Row>, at: Commit) -> Result<(), ApiError> {
        for (quota, charged) in super::quota::check(row, old, &self.view, at.now)? {
            let before = self.current(quota)?;
            self.replace(quota, before, charged, at);
        }
        Ok(())
    }

    /// `names.SimpleNameGenerator`: five characters after the prefix. The draw depends on the
    /// prefix and on how many names it gave before, so other objects cannot move it.
    fn name(&mut self, row: &mut Row) -> Result<(), ApiError> {
        let meta = row.meta();
        if !meta.name.is_empty() || meta.generate_name.is_empty() {
            return Ok(());
        }
        let (namespace, prefix) = (meta.namespace.clone(), meta.generate_name.clone());
        let prefix = match prefix.get(..LONGEST_PREFIX) {
            Some(start) => Text::from(start),
            None => prefix,
        };
        let kind = row.kind();
        let entity = entity_key(&[kind.name(), &namespace, &prefix]);
        let used = self
            .generated
            .entry((namespace.clone(), prefix.clone()))
            .or_insert(0);
        let mut name = String::new();
        for _ in 0..NAME_ATTEMPTS {
            let mut draw = self.draws.u64(NAME_SUFFIX, entity, *used);
            *used += 1;
            name.clear();
            name.push_str(&prefix);
            for _ in 0..5 {
                name.push(char::from(ALPHABET[(draw % 27) as usize]));
                draw /= 27;
            }
            row.meta_mut().name = Text::from(name.as_str());
            if self.view.lookup(kind, &namespace, &row.key()).is_none() {
                return Ok(());
            }
        }
        Err(ApiError::AlreadyExists(format!(
            "{} already exists, the server was not able to generate a unique name for the object",
            resource_name(kind, row.meta())
        )))
    }

    pub(super) fn current(&self, object: ObjectId) -> Result<Row, ApiError> {
        self.view.row(object).ok_or_else(|| {
            ApiError::NotFound(format!(
                "{} #{} not found",
                object.kind.plural(),
                object.index
            ))
        })
    }

    pub(super) fn checked(&self, object: ObjectId, uid: Option<Uid>) -> Result<Row, ApiError> {
        let row = self.current(object)?;
        match uid {
            Some(uid) if uid != row.meta().uid => Err(ApiError::Conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                row.meta().uid
            ))),
            _ => Ok(row),
        }
    }

    fn conflict(kind: Kind, meta: &Meta) -> ApiError {
        ApiError::Conflict(format!(
            "Operation cannot be fulfilled on {}: the object has been modified; please apply your \
             changes to the latest version and try again",
            resource_name(kind, meta)
        ))
    }

    fn update(&mut self, object: ObjectId, new: &Row, at: Commit) -> Result<Receipt, ApiError> {
        let old = self.current(object)?;
        if new.meta().revision != old.meta().revision {
            return Err(Self::conflict(object.kind, old.meta()));
        }
        let new = super::admit::with_status_of(new, &old);
        self.updated(object, old, new, at)
    }

    /// An update of all but the status, however the client has expressed it.
    fn updated(
        &mut self,
        object: ObjectId,
        old: Row,
        mut new: Row,
        at: Commit,
    ) -> Result<Receipt, ApiError> {
        keep_system_fields(new.meta_mut(), old.meta());
        super::admit::keep_counting(&old, &mut new);
        super::immutable::check(&old, &new)?;
        if let (Row::Service(old), Row::Service(new)) = (&old, &mut new) {
            let new = Arc::make_mut(new);
            super::service::update::allocate(old, new, &self.pools, &self.draws)?;
        }
        if super::admit::desired_differs(&old, &new) {
            new.meta_mut().generation += 1;
        }
        if object.kind == Kind::PersistentVolumeClaim {
            super::limit_range::admit(&mut new, &self.view)?;
        }
        if crate::api::quota::charged_on_update(&old, &new) {
            self.charge(&new, Some(&old), at)?;
        }
        Ok(self.replace(object, old, new, at))
    }

    fn update_status(
        &mut self,
        object: ObjectId,
        new: &Row,
        at: Commit,
    ) -> Result<Receipt, ApiError> {
        let old = self.current(object)?;
        if new.meta().revision != old.meta().revision {
            return Err(Self::conflict(object.kind, old.meta()));
        }
        let merged = super::admit::status_update(&old, new);
        super::immutable::check_status(&old, &merged)?;
        Ok(self.replace(object, old, merged, at))
    }

    fn patch(
        &mut self,
        object: ObjectId,
        uid: Option<Uid>,
        patch: &Patch,
        at: Commit,
    ) -> Result<Receipt, ApiError> {
        let old = self.checked(object, uid)?;
        let mut new = super::admit::patched(&old, patch, at.now, self.admission.tolerated_s)?;
        if matches!(patch, Patch::Document(..) | Patch::Replacement(_)) {
            return self.updated(object, old, new, at);
        }
        if super::admit::desired_differs(&old, &new) {
            new.meta_mut().generation += 1;
        }
        Ok(self.replace(object, old, new, at))
    }

    /// The object that a patch would make of this one, if it is a good patch.
    pub(super) fn preview(&self, old: &Row, patch: &Patch, now: Time) -> Option<Row> {
        super::admit::patched(old, patch, now, self.admission.tolerated_s).ok()
    }

    /// Commits an update; one that changes nothing is not written (as in the real server), and one
    /// that removes the last finalizer of a deleted object removes it.
    pub(super) fn replace(&mut self, object: ObjectId, old: Row, new: Row, at: Commit) -> Receipt {
        self.replace_if(old != new, object, old, new, at)
    }

    /// As [`Store::replace`], where it is known whether the two differ.
    fn replace_if(
        &mut self,
        differs: bool,
        object: ObjectId,
        old: Row,
        new: Row,
        at: Commit,
    ) -> Receipt {
        if !differs {
            return Receipt {
                revision: old.meta().revision,
                object: Some(object),
                row: Some(old),
            };
        }
        if new.meta().deleting() && !super::lifecycle::held(&new) {
            return self.commit(object, Op::Delete, new, Some(old), at);
        }
        self.commit(object, Op::Update, new, Some(old), at)
    }

    fn bind(
        &mut self,
        object: ObjectId,
        uid: Uid,
        node: &Text,
        at: Commit,
    ) -> Result<Receipt, ApiError> {
        let old = self.checked(object, Some(uid))?;
        let Row::Pod(pod) = &old else {
            unreachable!("only pods are bound")
        };
        let new = super::admit::bound(pod, node, at.now)?;
        Ok(self.replace(object, old.clone(), Row::Pod(Arc::new(new)), at))
    }

    /// `rest.BeforeDelete` and `Store.Delete`: graceful for bound pods, finalizers for foreground
    /// and orphan propagation, at once otherwise.
    pub(super) fn delete(
        &mut self,
        object: ObjectId,
        uid: Option<Uid>,
        grace_s: Option<u32>,
        propagation: Propagation,
        at: Commit,
    ) -> Result<Receipt, ApiError> {
        let old = self.checked(object, uid)?;
        super::lifecycle::check_deletion(&old)?;
        let grace_s = match &old {
            Row::Pod(pod) => super::admit::pod_grace(pod, grace_s),
            _ => 0,
        };
        let mut new = old.clone();
        let meta = new.meta_mut();
        // While a pod's grace period runs its finalizers cannot be changed this way.
        if meta.deletion.is_none_or(|d| d.grace_s == 0) {
            super::admit::set_propagation_finalizer(meta, propagation);
        }
        let mut grace_s = grace_s;
        if let Some(earlier) = meta.deletion {
            // A second deletion can only shorten the grace period.
            grace_s = grace_s.min(earlier.grace_s);
            if grace_s == earlier.grace_s {
                return Ok(self.replace(object, old, new, at));
            }
        } else {
            meta.generation += 1;
        }
        let due = at.now + std::time::Duration::from_secs(u64::from(grace_s));
        meta.deletion = Some(Deletion { at: due, grace_s });
        if !super::lifecycle::held(&new) {
            return Ok(self.commit(object, Op::Delete, new, Some(old), at));
        }
        Ok(self.replace(object, old, new, at))
    }
}

/// What an update cannot change.
fn keep_system_fields(new: &mut Meta, old: &Meta) {
    new.uid = old.uid;
    new.created = old.created;
    new.generation = old.generation;
    new.deletion = old.deletion;
    new.name = old.name.clone();
    new.namespace = old.namespace.clone();
}
