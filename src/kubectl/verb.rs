//! The verbs that a timeline can use, as kubectl 1.36 writes them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::autoscale::AutoscaleFlags;
use crate::api::affinity::{Taint, TaintEffect};
use crate::api::patch::PatchKind;
use crate::api::selector::LabelSelector;
use crate::api::{Kind, Text};

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What.
    pub message: String,
    /// Where, in bytes of the line.
    pub at: Range<usize>,
    /// What to write instead.
    pub hint: Option<String>,
}

impl ParseError {
    /// An error at a place.
    pub fn new(message: impl Into<String>, at: Range<usize>) -> Self {
        ParseError {
            message: message.into(),
            at,
            hint: None,
        }
    }
}

/// Which objects a verb is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// Kinds with names; an empty name stands for all that the selector takes.
    pub named: Vec<(ResourceKind, Text)>,
    /// `-l`.
    pub selector: Option<LabelSelector>,
    /// `-n`, or the default.
    pub namespace: Text,
    /// `-A`.
    pub all_namespaces: bool,
}

/// A kind as kubectl's arguments name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// One of the kinds that are held typed.
    Typed(Kind),
    /// Any other, by its lower-case name.
    Other(Text),
}

/// What `rollout` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// Replace all pods.
    Restart,
    /// Back to a revision (0: the one before).
    Undo(i64),
    /// Stop reacting to template changes.
    Pause,
    /// Go on.
    Resume,
    /// Wait until it is done.
    Status(Option<Duration>),
    /// List the revisions.
    History,
}

/// Flags of `drain`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainFlags {
    /// `--ignore-daemonsets`.
    pub ignore_daemon_sets: bool,
    /// `--delete-emptydir-data`.
    pub delete_emptydir: bool,
    /// `--force`.
    pub force: bool,
    /// `--disable-eviction`.
    pub disable_eviction: bool,
    /// `--grace-period`, in seconds; `None` is each pod's own.
    pub grace_s: Option<u32>,
    /// `--timeout`; `None` is for ever.
    pub timeout: Option<Duration>,
}

/// Flags of `delete`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteFlags {
    /// `--grace-period`, in seconds.
    pub grace_s: Option<u32>,
    /// `--wait` (default true).
    pub wait: bool,
    /// `--ignore-not-found`.
    pub ignore_not_found: bool,
    /// `--cascade`.
    pub propagation: crate::store::Propagation,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `-f`: the objects that come with it instead of named ones.
    pub files: bool,
}

/// A parsed command.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Create or update the objects that come with it.
    Apply,
    /// Create the objects that come with it.
    Create,
    /// Replace the objects that come with it, all but their status.
    Replace,
    /// Delete objects.
    Delete(Targets, DeleteFlags),
    /// Set replicas, if they are as many as given.
    Scale(Targets, i32, Option<i32>),
    /// Create an autoscaler.
    Autoscale(Targets, AutoscaleFlags),
    /// Set images: container (or `*`) and image.
    SetImage(Targets, Vec<(Text, Text)>),
    /// `rollout …`.
    Rollout(Targets, Rollout),
    /// `cordon` (true) and `uncordon`.
    Cordon(Targets, bool),
    /// `drain`.
    Drain(Targets, DrainFlags),
    /// Add and remove taints; `overwrite`.
    Taint(Targets, Vec<Taint>, Vec<(Text, Option<TaintEffect>)>, bool),
    /// Labels (false) or annotations (true): edits; `overwrite`.
    Mark(Targets, bool, Vec<(Text, Option<Text>)>, bool),
    /// A patch.
    Patch(Targets, PatchKind, Arc<Value>),
}

impl Verb {
    /// `apply` of objects that are given beside it.
    pub fn apply() -> Self {
        Verb::Apply
    }

    /// Which objects it names, for checking references before the run.
    pub fn targets(&self) -> Option<&Targets> {
        match self {
            Verb::Apply | Verb::Create | Verb::Replace => None,
            Verb::Delete(t, ..)
            | Verb::Scale(t, ..)
            | Verb::Autoscale(t, _)
            | Verb::SetImage(t, ..)
            | Verb::Rollout(t, ..)
            | Verb::Cordon(t, ..)
            | Verb::Drain(t, ..)
            | Verb::Taint(t, ..)
            | Verb::Mark(t, ..)
            | Verb::Patch(t, ..) => Some(t),
        }
    }
}
