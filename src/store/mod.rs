//! The API server's storage: typed tables, revisions, admission, one change log.
//!
//! What it is: the only place where objects change. A [`Write`] goes in, a [`Change`] comes out and
//! is appended to the [`Log`]; everybody else sees the cluster through a [`View`] that they advance
//! themselves by reading the log from their own [`Cursor`]. Lag is a later read, a partition is a
//! cursor that stands still, and a cursor that stood still for too long gets [`Gone`] and relists.
//!
//! What it does not know: who is asking, how long a request takes, what controllers want.
//!
//! Read first: [`mod@write`] (what can be asked), [`commit`] (what it does), [`log`], [`view`].

pub mod table;

pub mod view;

pub mod write;

pub mod log;

pub mod admit;

pub mod lifecycle;

mod id_set;

mod renewals;

mod document;

mod evict;

mod quota;

mod immutable;

mod limit_range;

mod service;

pub mod commit;

pub mod webhooks;

pub use commit::Store;
pub use log::{Cursor, Gone, Log};
pub use service::Pools;
pub use table::{Id, Table};
pub use view::View;
pub use write::{
    ApiError, Cause, Change, ObjectId, Op, Origin, Patch, Propagation, Receipt, Write,
};
