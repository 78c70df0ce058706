//! ConfigMaps, Secrets, and objects that the model does not act on.

use std::sync::Arc;

use serde_json::Value;

use super::{Labels, Meta, Text};

/// A ConfigMap.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigMap {
    /// Metadata.
    pub meta: Meta,
    /// `data`.
    pub data: Labels,
    /// `binaryData`: keys with their base64 text.
    pub binary: Labels,
    /// `immutable`.
    pub immutable: bool,
}

/// A Secret.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secret {
    /// Metadata.
    pub meta: Meta,
    /// `type`.
    pub kind: Text,
    /// Keys with their base64 text.
    pub data: Labels,
    /// `immutable`.
    pub immutable: bool,
}

/// An object of a kind that the model does not act on, kept so that verbs and owner references
/// reach it and so that the report can list it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inert {
    /// Metadata.
    pub meta: Meta,
    /// `apiVersion` as written.
    pub api_version: Text,
    /// `kind` as written.
    pub kind: Text,
    /// The whole object.
    pub body: Arc<Value>,
}
