//! A serde `Deserializer` over [`Node`] that follows the API server's JSON decoding and collects
//! unknown fields on the way.
//!
//! An unknown field shows itself as a value that a struct reads as "ignored": generated API types
//! and derived types both do so. The names to suggest come from the struct's own field list.

use std::cell::RefCell;
use std::sync::Arc;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::decode::{DecodeError, UnknownField};
use super::key::KeyDeserializer;
use super::path::Path;
use super::suggest::closest;
use super::{Entry, Node, NodeValue, Span};
use crate::api::quantity::{Quantity, QuantityError};

/// What a whole decode shares.
pub(super) struct Unknown {
    /// The unknown fields found so far.
    pub(super) fields: RefCell<Vec<UnknownField>>,
    /// Whether an optional field's value counts as not written. It must still be of the field's
    /// type: such an entry is read twice, as written and then as `null`.
    pub(super) absent: fn(&Path<'_>, &Node) -> bool,
    /// Where values of the wrong kind are noted; they count as zero then, as in Go. `None` stops
    /// at the first.
    pub(super) wrong: Option<RefCell<Vec<DecodeError>>>,
}

/// What a field that counts as absent is read as.
static NULL: Node = Node {
    value: NodeValue::Null,
    span: Span::NONE,
};

/// One node to read, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'de, 'p> {
    node: &'de Node,
    path: &'p Path<'p>,
    unknown: &'p Unknown,
    /// Set for a field's value: the key's place and the struct's fields.
    field: Option<(Span, &'static [&'static str])>,
}

impl<'de, 'p> NodeDeserializer<'de, 'p> {
    pub(super) const fn new(node: &'de Node, path: &'p Path<'p>, unknown: &'p Unknown) -> Self {
        Self {
            node,
            path,
            unknown,
            field: None,
        }
    }

    fn unexpected(&self) -> Unexpected<'de> {
        match &self.node.value {
            NodeValue::Null => Unexpected::Unit,
            NodeValue::Bool(b) => Unexpected::Bool(*b),
            NodeValue::Int(i) => Unexpected::Signed(*i),
            NodeValue::UInt(u) => Unexpected::Unsigned(*u),
            NodeValue::Float(f) => Unexpected::Float(*f),
            NodeValue::Str(s) => Unexpected::Str(s),
            NodeValue::List(_) => Unexpected::Seq,
            NodeValue::Map(_) => Unexpected::Map,
        }
    }

    fn wrong_kind<V: Visitor<'de>>(&self, visitor: &V) -> DecodeError {
        de::Error::invalid_type(self.unexpected(), visitor)
    }

    /// Adds the place to an error that has none yet.
    fn located<T>(&self, result: Result<T, DecodeError>) -> Result<T, DecodeError> {
        result.map_err(|error| error.locate(self.path, self.node.span))
    }

    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = match &self.node.value {
            NodeValue::Str(s) => visitor.visit_borrowed_str(s),
            NodeValue::Null => visitor.visit_borrowed_str(""),
            _ => {
                let mut error = self.wrong_kind(&visitor);
                if matches!(self.node.value, NodeValue::Bool(_)) {
                    error.hint = Some("yes, no, on, off, y, n are booleans: quote them".to_owned());
                } else if self.node.as_f64().is_some() {
                    error.hint = Some("quote it".to_owned());
                }
                match self.noted(error) {
                    Ok(()) => visitor.visit_borrowed_str(""),
                    Err(error) => Err(error),
                }
            }
        };
        self.located(result)
    }

    /// Notes a value of the wrong kind and goes on with a zero, where the decode wants that.
    fn noted(&self, error: DecodeError) -> Result<(), DecodeError> {
        match &self.unknown.wrong {
            Some(wrong) => {
                wrong
                    .borrow_mut()
                    .push(error.locate(self.path, self.node.span));
                Ok(())
            }
            None => Err(error),
        }
    }

    fn integer<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = match &self.node.value {
            NodeValue::Int(i) => visitor.visit_i64(*i),
            NodeValue::UInt(u) => visitor.visit_u64(*u),
            NodeValue::Null => visitor.visit_i64(0),
            _ => match self.noted(self.wrong_kind(&visitor)) {
                Ok(()) => visitor.visit_i64(0),
                Err(error) => Err(error),
            },
        };
        self.located(result)
    }

    /// The integer type of most API fields; a larger number is a wrong kind, too.
    fn int32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.as_i64() {
            Some(value) if i32::try_from(value).is_err() => {
                let unexpected = Unexpected::Signed(value);
                let error = de::Error::invalid_value(unexpected, &visitor);
                match self.noted(error) {
                    Ok(()) => visitor.visit_i64(0),
                    Err(error) => self.located(Err(error)),
                }
            }
            _ => self.integer(visitor),
        }
    }

    fn float<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = match (self.node.as_f64(), &self.node.value) {
            (Some(f), _) => visitor.visit_f64(f),
            (None, NodeValue::Null) => visitor.visit_f64(0.0),
            _ => match self.noted(self.wrong_kind(&visitor)) {
                Ok(()) => visitor.visit_f64(0.0),
                Err(error) => Err(error),
            },
        };
        self.located(result)
    }

    /// An amount: text or a number in the grammar of [`Quantity`]; `null` is 0.
    fn quantity<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let checked = match &self.node.value {
            NodeValue::Str(text) => Quantity::parse(text).map(|_| ()),
            NodeValue::Int(_) | NodeValue::UInt(_) | NodeValue::Float(_) => Ok(()),
            NodeValue::Null => return self.located(zero_quantity(visitor)),
            _ => Err(QuantityError::Format),
        };
        self.located(match checked {
            Ok(()) => visitor.visit_newtype_struct(self),
            Err(error) => match self.noted(de::Error::custom(error)) {
                Ok(()) => zero_quantity(visitor),
                Err(error) => Err(error),
            },
        })
    }

    fn list<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = match &self.node.value {
            NodeValue::List(items) => visitor.visit_seq(self.items(items)),
            NodeValue::Null => visitor.visit_seq(self.items(&[])),
            _ => match self.noted(self.wrong_kind(&visitor)) {
                Ok(()) => visitor.visit_seq(self.items(&[])),
                Err(error) => Err(error),
            },
        };
        self.located(result)
    }

    fn items(&self, items: &'de [Node]) -> Items<'de, 'p> {
        Items {
            items: items.iter().enumerate(),
            path: self.path,
            unknown: self.unknown,
        }
    }

    fn map<V: Visitor<'de>>(
        self,
        visitor: V,
        fields: Option<&'static [&'static str]>,
    ) -> Result<V::Value, DecodeError> {
        let iter = match &self.node.value {
            NodeValue::Map(map) => Some(map.iter()),
            NodeValue::Null => None,
            _ => match self.noted(self.wrong_kind(&visitor)) {
                Ok(()) => None,
                Err(error) => return self.located(Err(error)),
            },
        };
        let mut last = None;
        let (path, unknown) = (self.path, self.unknown);
        let result = visitor.visit_map(Entries {
            iter,
            last: &mut last,
            again: None,
            fields,
            path,
            unknown,
        });
        result.map_err(|error| match last {
            Some((key, entry)) if !error.of_whole => {
                error.locate(&Path::Key(self.path, key), entry.node.span)
            }
            _ => error.locate(self.path, self.node.span),
        })
    }

    fn report_unknown(&self) {
        let (Some((span, fields)), Path::Key(parent, key)) = (self.field, self.path) else {
            return;
        };
        if fields.contains(key) {
            return;
        }
        self.unknown.fields.borrow_mut().push(UnknownField {
            // Keys with dots stand as they are in upstream's strict errors, too.
            path: match parent {
                Path::Root => (*key).to_string(),
                parent => format!("{parent}.{key}"),
            },
            span,
            suggestion: closest(key, fields.iter().copied()).map(str::to_owned),
        });
    }
}

fn zero_quantity<'de, V: Visitor<'de>>(visitor: V) -> Result<V::Value, DecodeError> {
    visitor.visit_newtype_struct(de::value::StrDeserializer::<DecodeError>::new("0"))
}

/// Deserializer methods that take no more than a visitor and read one kind of value.
macro_rules! as_kind {
    ($($kind:ident: $($method:ident)+;)+) => {$($(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            self.$kind(visitor)
        }
    )+)+};
}

impl<'de> Deserializer<'de> for NodeDeserializer<'de, '_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            NodeValue::Null => self.located(visitor.visit_unit()),
            NodeValue::Bool(b) => self.located(visitor.visit_bool(*b)),
            NodeValue::Int(_) | NodeValue::UInt(_) => self.integer(visitor),
            NodeValue::Float(_) => self.float(visitor),
            NodeValue::Str(_) => self.text(visitor),
            NodeValue::List(_) => self.list(visitor),
            NodeValue::Map(_) => self.map(visitor, None),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = match self.node.value {
            NodeValue::Bool(b) => visitor.visit_bool(b),
            NodeValue::Null => visitor.visit_bool(false),
            _ => match self.noted(self.wrong_kind(&visitor)) {
                Ok(()) => visitor.visit_bool(false),
                Err(error) => Err(error),
            },
        };
        self.located(result)
    }

    as_kind! {
        int32: deserialize_i32;
        integer: deserialize_i8 deserialize_i16 deserialize_i64
            deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64;
        float: deserialize_f32 deserialize_f64;
        text: deserialize_char deserialize_str deserialize_string;
        list: deserialize_seq;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = if self.node.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        };
        self.located(result)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        // The one newtype whose text has a grammar of its own that no visitor checks.
        if name == "Quantity" {
            return self.quantity(visitor);
        }
        self.located(visitor.visit_newtype_struct(self))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.list(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.list(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.map(visitor, None)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.map(visitor, Some(fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let result = match &self.node.value {
            NodeValue::Str(name) => visitor.visit_enum(Variant {
                name,
                content: None,
                of: self,
            }),
            NodeValue::Map(map) if map.len() == 1 => match map.first() {
                Some((name, entry)) => visitor.visit_enum(Variant {
                    name,
                    content: Some(&entry.node),
                    of: self,
                }),
                None => Err(self.wrong_kind(&visitor)),
            },
            NodeValue::Map(_) => Err(de::Error::custom(
                "expected a name, or a map with one name as its only key",
            )),
            _ => return self.text(visitor),
        };
        self.located(result)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.report_unknown();
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 bytes byte_buf unit identifier }
}

/// The items of a list.
struct Items<'de, 'p> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Node>>,
    path: &'p Path<'p>,
    unknown: &'p Unknown,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        let path = Path::Index(self.path, index);
        seed.deserialize(NodeDeserializer::new(node, &path, self.unknown))
            .map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// The entries of a mapping; `None` is the mapping that `null` stands for.
struct Entries<'de, 'p, 'l> {
    iter: Option<indexmap::map::Iter<'de, Arc<str>, Entry>>,
    /// The entry last read, for errors that the visitor raises about it.
    last: &'l mut Option<(&'de str, &'de Entry)>,
    /// Whether the last entry counts as absent: `Some(false)` when it is still to be read as
    /// `null`, `Some(true)` while that happens.
    again: Option<bool>,
    fields: Option<&'static [&'static str]>,
    path: &'p Path<'p>,
    unknown: &'p Unknown,
}

impl<'de> MapAccess<'de> for Entries<'de, '_, '_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let next = match (self.again.take(), *self.last) {
            (Some(false), last @ Some(_)) => {
                self.again = Some(true);
                last
            }
            _ => {
                let next = self.iter.as_mut().and_then(Iterator::next);
                next.map(|(key, entry)| (&**key, entry))
            }
        };
        let Some((key, entry)) = next else {
            return Ok(None);
        };
        *self.last = Some((key, entry));
        seed.deserialize(KeyDeserializer { key })
            .map_err(|error| error.locate(&Path::Key(self.path, key), entry.key_span))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let Some((key, entry)) = *self.last else {
            return Err(de::Error::custom("a value is asked for before its key"));
        };
        let path = Path::Key(self.path, key);
        if self.again == Some(true) {
            return seed.deserialize(NodeDeserializer::new(&NULL, &path, self.unknown));
        }
        if self.fields.is_some() && (self.unknown.absent)(&path, &entry.node) {
            self.again = Some(false);
        }
        let field = self.fields.map(|fields| (entry.key_span, fields));
        seed.deserialize(NodeDeserializer {
            node: &entry.node,
            path: &path,
            unknown: self.unknown,
            field,
        })
    }

    fn size_hint(&self) -> Option<usize> {
        self.iter.as_ref().map(ExactSizeIterator::len)
    }
}

/// A name (`exit`) or a name with content (`drain: 10s`) for an enum.
struct Variant<'de, 'p> {
    name: &'de str,
    content: Option<&'de Node>,
    of: NodeDeserializer<'de, 'p>,
}

impl<'de, 'p> EnumAccess<'de> for Variant<'de, 'p> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), DecodeError> {
        seed.deserialize(name_deserializer(self.name))
            .map(|value| (value, self))
    }
}

impl<'de> Variant<'de, '_> {
    /// Reads the content under the path of the name.
    fn content<T>(
        &self,
        read: impl FnOnce(NodeDeserializer<'de, '_>) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let Some(node) = self.content else {
            return Err(de::Error::custom(format!(
                "{:?} needs content: `{0}: …`",
                self.name
            )));
        };
        let path = Path::Key(self.of.path, self.name);
        read(NodeDeserializer::new(node, &path, self.of.unknown))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de, '_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.content {
            None => Ok(()),
            Some(node) if node.is_null() => Ok(()),
            Some(_) => Err(de::Error::custom(format!(
                "{:?} takes no content",
                self.name
            ))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        self.content(|content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.content(|content| content.list(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.content(|content| content.map(visitor, Some(fields)))
    }
}

pub(super) fn name_deserializer(name: &str) -> de::value::BorrowedStrDeserializer<'_, DecodeError> {
    de::value::BorrowedStrDeserializer::new(name)
}
