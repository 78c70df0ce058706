//! Strict reading of our own kinds: every problem is collected, with its place.
//!
//! [`Fields`] is a mapping that is being read. It remembers which keys were asked for, so that
//! [`Fields::finish`] can report all others with the nearest known name. [`Value`] is one value
//! with its path; its readers report a wrong type and return nothing.

use std::cell::RefCell;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use crate::api::quantity::Quantity;
use crate::api::selector::{LabelSelector, Operator, Requirement};
use crate::api::yaml::{Node, NodeValue, Span};
use crate::api::{Labels, Text, duration};

/// The problems found so far.
pub type Problems = Vec<Diagnostic>;

/// A value that is being read.
#[derive(Clone, Debug)]
pub struct Value<'n> {
    /// The value.
    pub node: &'n Node,
    /// Its path.
    pub path: String,
}

/// A mapping that is being read.
#[derive(Debug)]
pub struct Fields<'n> {
    /// The mapping.
    pub node: &'n Node,
    /// Its path, empty for a document.
    pub path: String,
    asked: RefCell<Vec<&'static str>>,
}

impl<'n> Fields<'n> {
    /// A document.
    pub fn document(node: &'n Node) -> Self {
        #[cfg(test)]
        asked_for::document(node);
        Fields {
            node,
            path: String::new(),
            asked: RefCell::new(Vec::new()),
        }
    }

    /// The value of a key, unless it is absent or null.
    pub fn get(&self, key: &'static str) -> Option<Value<'n>> {
        self.asked.borrow_mut().push(key);
        let node = self.node.get(key).filter(|node| !node.is_null())?;
        let path = self.path_of(key);
        Some(Value { node, path })
    }

    /// The value of a key; its absence is a problem.
    pub fn require(&self, key: &'static str, problems: &mut Problems) -> Option<Value<'n>> {
        let value = self.get(key);
        if value.is_none() {
            let span = self.node.key_span(key).unwrap_or(self.node.span);
            let missing = Diagnostic::error("FieldValueRequired", "Required value", span);
            problems.push(missing.at(self.path_of(key)));
        }
        value
    }

    /// Declares keys that are read elsewhere.
    pub fn allow(&self, keys: &[&'static str]) {
        self.asked.borrow_mut().extend(keys);
    }

    fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(&self, problems: &mut Problems) {
        let asked = self.asked.borrow();
        #[cfg(test)]
        asked_for::note(&self.path, &asked);
        let Some(map) = self.node.as_map() else {
            return;
        };
        for (key, entry) in map {
            if !asked.iter().any(|known| *known == &**key) {
                let unknown = Diagnostic::error("UnknownField", "unknown field", entry.key_span)
                    .at(self.path_of(key))
                    .suggest(key, asked.iter().copied());
                problems.push(unknown);
            }
        }
    }

    /// The text under a key.
    pub fn text(&self, key: &'static str, problems: &mut Problems) -> Option<Text> {
        self.get(key)?.text(problems)
    }

    /// The span of time under a key.
    pub fn duration(&self, key: &'static str, problems: &mut Problems) -> Option<Duration> {
        self.get(key)?.duration(problems)
    }

    /// The count under a key.
    pub fn count(&self, key: &'static str, problems: &mut Problems) -> Option<u32> {
        self.get(key)?.count(problems)
    }

    /// The switch under a key.
    pub fn flag(&self, key: &'static str, problems: &mut Problems) -> Option<bool> {
        self.get(key)?.flag(problems)
    }

    /// The items of the list under a key.
    pub fn list(&self, key: &'static str, problems: &mut Problems) -> Vec<Value<'n>> {
        (self.get(key)).map_or_else(Vec::new, |value| value.list(problems))
    }

    /// The texts of the list under a key.
    pub fn texts(&self, key: &'static str, problems: &mut Problems) -> Vec<Text> {
        let items = self.list(key, problems);
        items
            .iter()
            .filter_map(|item| item.text(problems))
            .collect()
    }

    /// The mapping under a key.
    pub fn fields(&self, key: &'static str, problems: &mut Problems) -> Option<Fields<'n>> {
        self.get(key)?.fields(problems)
    }
}

impl<'n> Value<'n> {
    /// Where it was written.
    pub fn span(&self) -> Span {
        self.node.span
    }

    /// An error about it, in the API server's form.
    pub fn invalid(&self, detail: impl std::fmt::Display) -> Diagnostic {
        let shown = match &self.node.value {
            NodeValue::Map(_) | NodeValue::List(_) => format!("a {}", self.node.kind()),
            _ => self.node.to_json().to_string(),
        };
        let message = format!("Invalid value: {shown}: {detail}");
        Diagnostic::error("FieldValueInvalid", message, self.node.span).at(self.path.as_str())
    }

    fn wrong_type(&self, wanted: &str) -> Diagnostic {
        self.invalid(format!("must be {wanted}, not {}", a(self.node.kind())))
    }

    /// Text; numbers and switches that look like text in a manifest are a problem, as they are for
    /// the API server.
    pub fn text(&self, problems: &mut Problems) -> Option<Text> {
        match self.node.as_str() {
            Some(text) => Some(Text::from(text)),
            None => {
                let hint = format!("put it in quotes: {:?}", self.node.to_json().to_string());
                let wrong = self.wrong_type("a string");
                problems.push(match self.node.value {
                    NodeValue::Map(_) | NodeValue::List(_) => wrong,
                    _ => wrong.hint(hint),
                });
                None
            }
        }
    }

    /// Text that must not be empty.
    pub fn name(&self, problems: &mut Problems) -> Option<Text> {
        let text = self.text(problems)?;
        if text.is_empty() {
            problems.push(self.invalid("must not be empty"));
            return None;
        }
        Some(text)
    }

    /// Text or a number, as text (values of flags, percentages).
    pub fn scalar(&self, problems: &mut Problems) -> Option<String> {
        match &self.node.value {
            NodeValue::Str(text) => Some(text.to_string()),
            NodeValue::Map(_) | NodeValue::List(_) | NodeValue::Null => {
                problems.push(self.wrong_type("a string or a number"));
                None
            }
            _ => Some(self.node.to_json().to_string()),
        }
    }

    /// One of some words.
    pub fn word(&self, words: &[&'static str], problems: &mut Problems) -> Option<&'static str> {
        let text = self.text(problems)?;
        let found = words.iter().find(|word| text == **word);
        if found.is_none() {
            let listed: Vec<String> = words.iter().map(|w| format!("{w:?}")).collect();
            let message = format!(
                "Unsupported value: {:?}: supported values: {}",
                text.as_str(),
                listed.join(", ")
            );
            let wrong = Diagnostic::error("FieldValueNotSupported", message, self.node.span);
            problems.push(
                wrong
                    .at(self.path.as_str())
                    .suggest(&text, words.iter().copied()),
            );
        }
        found.copied()
    }

    /// A switch.
    pub fn flag(&self, problems: &mut Problems) -> Option<bool> {
        let flag = self.node.as_bool();
        if flag.is_none() {
            problems.push(self.wrong_type("true or false"));
        }
        flag
    }

    /// A whole number from 0 to 2^32 - 1.
    pub fn count(&self, problems: &mut Problems) -> Option<u32> {
        let count = self.whole(problems)?;
        let small = u32::try_from(count).ok();
        if small.is_none() {
            problems.push(self.invalid("is too large"));
        }
        small
    }

    /// A whole number that is not negative.
    pub fn whole(&self, problems: &mut Problems) -> Option<u64> {
        let number = self.node.as_u64();
        if number.is_none() {
            problems.push(match self.node.as_i64() {
                Some(_) => self.invalid("must not be negative"),
                None => self.wrong_type("a whole number"),
            });
        }
        number
    }

    /// A number, whole or not, within bounds.
    pub fn number(&self, from: f64, to: f64, problems: &mut Problems) -> Option<f64> {
        let number = self.node.as_f64();
        match number {
            None => problems.push(self.wrong_type("a number")),
            Some(n) if !(from..=to).contains(&n) => {
                let bounds = match to.is_finite() {
                    true => format!("must be between {from} and {to}"),
                    false => format!("must be at least {from}"),
                };
                problems.push(self.invalid(bounds));
            }
            Some(n) => return Some(n),
        }
        None
    }

    /// A span of time, as Go prints it.
    pub fn duration(&self, problems: &mut Problems) -> Option<Duration> {
        let text = match &self.node.value {
            NodeValue::Int(0) => "0".to_owned(),
            NodeValue::Str(text) => text.to_string(),
            NodeValue::Int(number) => {
                let hint = format!("a unit is missing: write {number}s or {number}m");
                problems.push(self.invalid("must be a duration").hint(hint));
                return None;
            }
            _ => {
                problems.push(self.wrong_type("a duration such as 90s"));
                return None;
            }
        };
        match duration::parse(&text) {
            Ok(span) => Some(span),
            Err(error) => {
                problems.push(self.invalid("must be a duration").hint(error.hint));
                None
            }
        }
    }

    /// A quantity.
    pub fn quantity(&self, problems: &mut Problems) -> Option<Quantity> {
        let text = self.scalar(problems)?;
        let quantity = Quantity::parse(&text);
        if let Err(error) = &quantity {
            let wrong = self.invalid(error);
            problems.push(wrong.hint("write 500m, 4, 256Mi or 16Gi"));
        }
        quantity.ok()
    }

    /// The items of a list.
    pub fn list(&self, problems: &mut Problems) -> Vec<Value<'n>> {
        let Some(items) = self.node.as_list() else {
            problems.push(self.wrong_type("a list"));
            return Vec::new();
        };
        let path = &self.path;
        (items.iter().enumerate())
            .map(|(at, node)| Value {
                node,
                path: format!("{path}[{at}]"),
            })
            .collect()
    }

    /// A mapping with known keys.
    pub fn fields(&self, problems: &mut Problems) -> Option<Fields<'n>> {
        if self.node.as_map().is_none() {
            problems.push(self.wrong_type("a map"));
            return None;
        }
        Some(Fields {
            node: self.node,
            path: self.path.clone(),
            asked: RefCell::new(Vec::new()),
        })
    }

    /// The entries of a mapping with free keys.
    pub fn entries(&self, problems: &mut Problems) -> Vec<(&'n str, Value<'n>)> {
        let Some(map) = self.node.as_map() else {
            problems.push(self.wrong_type("a map"));
            return Vec::new();
        };
        (map.iter())
            .map(|(key, entry)| {
                let path = match key.contains(['.', '/']) {
                    true => format!("{}[{key}]", self.path),
                    false => format!("{}.{key}", self.path),
                };
                let node = &entry.node;
                (&**key, Value { node, path })
            })
            .collect()
    }

    /// Labels, annotations: a mapping of text to text.
    pub fn labels(&self, problems: &mut Problems) -> Labels {
        let pairs: Vec<(Text, Text)> = (self.entries(problems).into_iter())
            .filter_map(|(key, value)| Some((Text::from(key), value.text(problems)?)))
            .collect();
        pairs.into_iter().collect()
    }

    /// A label selector with `matchLabels` and `matchExpressions`.
    pub fn selector(&self, problems: &mut Problems) -> Option<LabelSelector> {
        let fields = self.fields(problems)?;
        let mut requirements = Vec::new();
        if let Some(labels) = fields.get("matchLabels") {
            requirements.extend(equalities(&labels.labels(problems)));
        }
        for item in fields.list("matchExpressions", problems) {
            requirements.extend(item.requirement(problems));
        }
        fields.finish(problems);
        Some(LabelSelector {
            requirements,
            nothing: false,
        })
    }

    /// `{key, operator, values}`.
    pub fn requirement(&self, problems: &mut Problems) -> Option<Requirement> {
        let fields = self.fields(problems)?;
        let key = fields
            .require("key", problems)
            .and_then(|v| v.name(problems));
        let words = ["In", "NotIn", "Exists", "DoesNotExist"];
        let word = (fields.require("operator", problems)).and_then(|v| v.word(&words, problems));
        let mut values = fields.texts("values", problems);
        values.sort();
        fields.finish(problems);
        let operator = match word? {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            _ => Operator::DoesNotExist,
        };
        let listed = matches!(operator, Operator::In | Operator::NotIn);
        if listed == values.is_empty() {
            problems.push(self.invalid(match listed {
                true => "values must be specified when `operator` is 'In' or 'NotIn'",
                false => {
                    "values may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                }
            }));
            return None;
        }
        Some(Requirement {
            key: key?,
            operator,
            values,
        })
    }
}

/// Labels as requirements of equality.
pub fn equalities(labels: &Labels) -> Vec<Requirement> {
    LabelSelector::equals(labels.iter()).requirements
}

fn a(kind: &str) -> String {
    match kind {
        "integer" => "an integer".to_owned(),
        kind => format!("a {kind}"),
    }
}

/// What readers asked for, noted for the test that holds schemas and readers together.
#[cfg(test)]
pub mod asked_for {
    use std::cell::RefCell;
    use std::collections::{BTreeMap, BTreeSet};

    use crate::api::yaml::Node;

    /// Keys by the kind of the document and the path of the mapping.
    pub type Asked = BTreeMap<(String, String), BTreeSet<&'static str>>;

    thread_local! {
        static NOTES: RefCell<Option<(String, Asked)>> = const { RefCell::new(None) };
    }

    /// Notes what is asked for while `read` runs on this thread.
    pub fn during(read: impl FnOnce()) -> Asked {
        NOTES.set(Some((String::new(), Asked::new())));
        read();
        NOTES.take().map(|(_, asked)| asked).unwrap_or_default()
    }

    /// A document is being read.
    pub fn document(node: &Node) {
        let kind = node.get("kind").and_then(Node::as_str).unwrap_or_default();
        NOTES.with_borrow_mut(|notes| {
            if let Some((current, _)) = notes {
                kind.clone_into(current);
            }
        });
    }

    pub(super) fn note(path: &str, keys: &[&'static str]) {
        NOTES.with_borrow_mut(|notes| {
            if let Some((kind, asked)) = notes {
                let key = (kind.clone(), path.to_owned());
                asked.entry(key).or_default().extend(keys);
            }
        });
    }
}
