//! A document as a tree of plain values, each with the place where it was written.
//!
//! The tree knows nothing of Kubernetes: it is JSON with spans. Patches edit it in place, the
//! typed decode ([`super::decode`]) reads it, and printing goes through [`Node::to_json`].

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;
use serde_json::{Number, Value};

use super::Span;

/// A mapping in the order in which it was written.
pub type Map = IndexMap<Arc<str>, Entry, FxBuildHasher>;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: NodeValue,
    /// The place of its first character.
    pub span: Span,
}

/// A value of a mapping and where its key was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The place of the key.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

/// What a [`Node`] holds: JSON, with integers kept apart from floats.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum NodeValue {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that fits 64 signed bits.
    Int(i64),
    /// An integer above `i64::MAX` that fits 64 unsigned bits.
    UInt(u64),
    /// A finite float that JSON does not print as an integer.
    Float(f64),
    /// Text.
    Str(Arc<str>),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping.
    Map(Map),
}

impl NodeValue {
    /// The kind in the words of messages: `null`, `boolean`, `integer`, `float`, `string`, `list`
    /// or `map`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Int(_) | Self::UInt(_) => "integer",
            Self::Float(_) => "float",
            Self::Str(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }
}

impl fmt::Display for NodeValue {
    /// The kind with its article, for messages: `an integer`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Int(_) | Self::UInt(_) => f.write_str("an integer"),
            _ => write!(f, "a {}", self.kind()),
        }
    }
}

/// Two nodes of equal content may differ in their spans; [`Node::same`] compares without them.
impl Node {
    /// A value written at `span`.
    #[must_use]
    pub const fn new(value: NodeValue, span: Span) -> Self {
        Self { value, span }
    }

    /// `null` at `span`.
    #[must_use]
    pub const fn null(span: Span) -> Self {
        Self::new(NodeValue::Null, span)
    }

    /// Text at `span`.
    #[must_use]
    pub fn text(text: &str, span: Span) -> Self {
        Self::new(NodeValue::Str(text.into()), span)
    }

    /// An empty mapping at `span`.
    #[must_use]
    pub fn empty_map(span: Span) -> Self {
        Self::new(NodeValue::Map(Map::default()), span)
    }

    /// See [`NodeValue::kind`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.value.kind()
    }

    /// Whether this is `null`.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self.value, NodeValue::Null)
    }

    /// The boolean, if it is one.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self.value {
            NodeValue::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// The integer, if it is one and fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self.value {
            NodeValue::Int(i) => Some(i),
            NodeValue::UInt(u) => i64::try_from(u).ok(),
            _ => None,
        }
    }

    /// The integer, if it is one, not negative, and fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self.value {
            NodeValue::Int(i) => u64::try_from(i).ok(),
            NodeValue::UInt(u) => Some(u),
            _ => None,
        }
    }

    /// The number as a float, whether it was written as an integer or not.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a float is asked for")]
    pub const fn as_f64(&self) -> Option<f64> {
        match self.value {
            NodeValue::Int(i) => Some(i as f64),
            NodeValue::UInt(u) => Some(u as f64),
            NodeValue::Float(f) => Some(f),
            _ => None,
        }
    }

    /// The text, if it is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The items, if it is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        match &self.value {
            NodeValue::List(items) => Some(items),
            _ => None,
        }
    }

    /// The items to edit, if it is a list.
    #[must_use]
    pub const fn as_list_mut(&mut self) -> Option<&mut Vec<Self>> {
        match &mut self.value {
            NodeValue::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries, if it is a mapping.
    #[must_use]
    pub const fn as_map(&self) -> Option<&Map> {
        match &self.value {
            NodeValue::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The entries to edit, if it is a mapping.
    #[must_use]
    pub const fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            NodeValue::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The value under `key`, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.get(key).map(|entry| &entry.node)
    }

    /// The value under `key` to edit, if this is a mapping that has it.
    #[must_use]
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        self.as_map_mut()?.get_mut(key).map(|entry| &mut entry.node)
    }

    /// The place of `key`, if this is a mapping that has it.
    #[must_use]
    pub fn key_span(&self, key: &str) -> Option<Span> {
        self.as_map()?.get(key).map(|entry| entry.key_span)
    }

    /// Puts `node` under `key`, at the old position when the key was there before. A node that is
    /// not a mapping becomes an empty one first.
    pub fn set(&mut self, key: &str, node: Self) {
        if self.as_map().is_none() {
            self.value = NodeValue::Map(Map::default());
        }
        let entry = Entry {
            key_span: node.span,
            node,
        };
        if let Some(map) = self.as_map_mut() {
            if let Some(old) = map.get_mut(key) {
                old.node = entry.node;
            } else {
                map.insert(key.into(), entry);
            }
        }
    }

    /// Takes `key` out, keeping the order of the others.
    pub fn remove(&mut self, key: &str) -> Option<Self> {
        self.as_map_mut()?.shift_remove(key).map(|entry| entry.node)
    }

    /// Whether both hold the same JSON value: spans and the order of keys are ignored, and an
    /// integer equals a float of the same value.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        use NodeValue::{Float, Int, List, Map, UInt};
        match (&self.value, &other.value) {
            (List(a), List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Map(a), Map(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .all(|(key, a)| b.get(key).is_some_and(|b| a.node.same(&b.node)))
            }
            (Float(_), Int(_) | UInt(_)) | (Int(_) | UInt(_), Float(_)) => {
                self.as_f64() == other.as_f64()
            }
            (a, b) => a == b,
        }
    }

    /// The value as JSON, keys in their order.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(b) => Value::Bool(*b),
            NodeValue::Int(i) => Value::from(*i),
            NodeValue::UInt(u) => Value::from(*u),
            NodeValue::Float(f) => Number::from_f64(*f).map_or(Value::Null, Value::Number),
            NodeValue::Str(s) => Value::String(s.to_string()),
            NodeValue::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            NodeValue::Map(map) => Value::Object(
                map.iter()
                    .map(|(key, entry)| (key.to_string(), entry.node.to_json()))
                    .collect(),
            ),
        }
    }

    /// A tree of a JSON value, every node at `span`.
    #[must_use]
    pub fn from_json(json: &Value, span: Span) -> Self {
        let value = match json {
            Value::Null => NodeValue::Null,
            Value::Bool(b) => NodeValue::Bool(*b),
            Value::Number(number) => {
                if let Some(i) = number.as_i64() {
                    NodeValue::Int(i)
                } else if let Some(u) = number.as_u64() {
                    NodeValue::UInt(u)
                } else {
                    number.as_f64().map_or(NodeValue::Null, NodeValue::Float)
                }
            }
            Value::String(s) => NodeValue::Str(s.as_str().into()),
            Value::Array(items) => NodeValue::List(
                items
                    .iter()
                    .map(|item| Self::from_json(item, span))
                    .collect(),
            ),
            Value::Object(object) => NodeValue::Map(
                object
                    .iter()
                    .map(|(key, value)| {
                        let node = Self::from_json(value, span);
                        (
                            Arc::from(key.as_str()),
                            Entry {
                                key_span: span,
                                node,
                            },
                        )
                    })
                    .collect(),
            ),
        };
        Self { value, span }
    }
}
