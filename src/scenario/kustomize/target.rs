//! Which objects an edit applies to.

use super::names::previous;
use crate::api::Text;
use crate::api::selector::{LabelSelector, Operator, Requirement};
use crate::api::yaml::Node;
use crate::scenario::diagnostic::Diagnostic;
use crate::scenario::fields::{Fields, Problems, Value};

/// `target` of a patch: what is given must match. Names, namespaces, kinds, groups and versions are
/// patterns with `.*`, `.` and `|`, as far as kustomize's regular expressions are used.
#[derive(Debug, Default)]
pub struct Target {
    group: Option<Text>,
    version: Option<Text>,
    kind: Option<Text>,
    name: Option<Text>,
    namespace: Option<Text>,
    labels: Option<LabelSelector>,
    annotations: Option<LabelSelector>,
}

impl Target {
    /// Reads `target`.
    pub fn read(value: &Value<'_>, problems: &mut Problems) -> Option<Target> {
        let fields = value.fields(problems)?;
        let selector = |key, problems: &mut Problems| {
            let value: Value<'_> = fields.get(key)?;
            label_selector(&value, problems)
        };
        let target = Target {
            labels: selector("labelSelector", problems),
            annotations: selector("annotationSelector", problems),
            ..Target::of(&fields, problems)
        };
        fields.finish(problems);
        Some(target)
    }

    fn of(fields: &Fields<'_>, problems: &mut Problems) -> Target {
        let mut name = fields.text("name", problems);
        let mut namespace = fields.text("namespace", problems);
        // Our own form of references, `namespace/name`, is allowed too.
        if let Some((ns, rest)) = name.as_ref().and_then(|name| name.split_once('/')) {
            let (ns, rest) = (Text::from(ns), Text::from(rest));
            namespace = Some(ns);
            name = Some(rest);
        }
        Target {
            group: fields.text("group", problems),
            version: fields.text("version", problems),
            kind: fields.text("kind", problems),
            name,
            namespace,
            ..Target::default()
        }
    }

    /// The target of a patch that holds its own identity.
    pub fn of_object(patch: &Node) -> Target {
        let text = |node: Option<&Node>, key| {
            let text = node?.get(key)?.as_str()?;
            Some(Text::from(literal(text)))
        };
        let metadata = patch.get("metadata");
        let (group, version) = group_version(patch);
        Target {
            group: Some(Text::from(literal(group))),
            version: Some(Text::from(literal(version))),
            kind: text(Some(patch), "kind"),
            name: text(metadata, "name"),
            namespace: text(metadata, "namespace"),
            ..Target::default()
        }
    }

    /// The target by kind and name alone.
    pub fn named(kind: &str, namespace: Option<&str>, name: &str) -> Target {
        Target {
            kind: Some(Text::from(kind)),
            namespace: namespace.map(|namespace| Text::from(literal(namespace))),
            name: Some(Text::from(literal(name))),
            ..Target::default()
        }
    }

    /// Whether an object, in namespace `default` unless it says otherwise, is meant.
    pub fn takes(&self, object: &Node, default: &str) -> bool {
        let (group, version) = group_version(object);
        let metadata = object.get("metadata");
        let text = |key| metadata.and_then(|m| m.get(key)).and_then(Node::as_str);
        let kind = object
            .get("kind")
            .and_then(Node::as_str)
            .unwrap_or_default();
        let fits = |pattern: &Option<Text>, text: &str| {
            pattern
                .as_ref()
                .is_none_or(|pattern| matches(pattern, text))
        };
        let labelled = |selector: &Option<LabelSelector>, key| {
            selector.as_ref().is_none_or(|selector| {
                let labels = metadata.and_then(|m| m.get(key)).map(labels_of);
                selector.matches(&labels.unwrap_or_default())
            })
        };
        // What an object was called before counts as well.
        let before = previous(object);
        let or_default = |namespace: &str| match namespace {
            "" => default.to_owned(),
            namespace => namespace.to_owned(),
        };
        let namespace = or_default(text("namespace").unwrap_or_default());
        fits(&self.group, group)
            && fits(&self.version, version)
            && fits(&self.kind, kind)
            && (fits(&self.name, text("name").unwrap_or_default())
                || before.iter().any(|(name, _)| fits(&self.name, name)))
            && (fits(&self.namespace, &namespace)
                || before
                    .iter()
                    .any(|(_, ns)| fits(&self.namespace, &or_default(ns))))
            && labelled(&self.labels, "labels")
            && labelled(&self.annotations, "annotations")
    }

    /// An error that nothing matches, with the nearest name among `objects`.
    pub fn unmatched(&self, objects: &[Node], value: &Value<'_>) -> Diagnostic {
        let shown = |part: &Option<Text>, other: &str| {
            part.as_ref()
                .map_or_else(|| other.to_owned(), |part| part.replace('\\', ""))
        };
        let kind = shown(&self.kind, "object");
        let name = shown(&self.name, "");
        let namespace = self
            .namespace
            .as_ref()
            .map(|ns| format!(" in namespace {ns}"));
        let message = format!("matches no {kind} {name}{}", namespace.unwrap_or_default());
        let mut missing = Diagnostic::error("NotFound", message.trim_end(), value.span());
        missing.path = value.path.clone();
        let same_kind = |object: &&Node| {
            let other = object
                .get("kind")
                .and_then(Node::as_str)
                .unwrap_or_default();
            self.kind.as_ref().is_none_or(|kind| matches(kind, other))
        };
        let names: Vec<&str> = (objects.iter().filter(same_kind))
            .filter_map(|object| object.get("metadata")?.get("name")?.as_str())
            .collect();
        if names.is_empty() {
            return missing.cause(format!("there is no {kind} at all"));
        }
        missing.suggest(&name, names)
    }
}

/// Text as a pattern that matches it alone.
fn literal(text: &str) -> String {
    text.replace('.', r"\.")
}

pub(super) fn group_version(object: &Node) -> (&str, &str) {
    let version = object
        .get("apiVersion")
        .and_then(Node::as_str)
        .unwrap_or_default();
    version.split_once('/').unwrap_or(("", version))
}

fn labels_of(node: &Node) -> crate::api::Labels {
    let map = node.as_map();
    let pairs = map.into_iter().flatten();
    pairs
        .filter_map(|(key, entry)| Some((Text::from(&**key), Text::from(entry.node.as_str()?))))
        .collect()
}

/// Whether the whole text matches one of the alternatives of a pattern.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern = pattern.trim_start_matches('^').trim_end_matches('$');
    pattern.split('|').any(|part| {
        let part = part.trim_start_matches('(').trim_end_matches(')');
        let part: Vec<char> = part.chars().collect();
        let text: Vec<char> = text.chars().collect();
        fits(&part, &text)
    })
}

fn fits(pattern: &[char], text: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['.', '*', rest @ ..] => (0..=text.len()).any(|at| fits(rest, &text[at..])),
        ['.', rest @ ..] => !text.is_empty() && fits(rest, &text[1..]),
        ['\\', c, rest @ ..] | [c, rest @ ..] => text.first() == Some(c) && fits(rest, &text[1..]),
    }
}

/// A selector as kubectl's `-l` has it: `app=web,tier!=cache,env in (a, b),!old`.
fn label_selector(value: &Value<'_>, problems: &mut Problems) -> Option<LabelSelector> {
    let text = value.text(problems)?;
    let mut requirements = Vec::new();
    for part in parts(&text) {
        let Some(requirement) = requirement(part.trim()) else {
            problems.push(value.invalid("must be a label selector such as app=web,tier!=cache"));
            return None;
        };
        requirements.push(requirement);
    }
    Some(LabelSelector {
        requirements,
        nothing: false,
    })
}

/// Cuts at the commas outside of parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let cut = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(cut)
        .filter(|part| !part.trim().is_empty())
        .collect()
}

fn requirement(part: &str) -> Option<Requirement> {
    let of = |key: &str, operator, values: Vec<&str>| {
        let key = key.trim();
        let mut values: Vec<Text> = values.into_iter().map(|v| Text::from(v.trim())).collect();
        values.sort();
        (!key.is_empty() && !key.contains(' ')).then(|| Requirement {
            key: Text::from(key),
            operator,
            values,
        })
    };
    for (word, operator) in [(" notin ", Operator::NotIn), (" in ", Operator::In)] {
        if let Some((key, values)) = part.split_once(word) {
            let values = values.trim().strip_prefix('(')?.strip_suffix(')')?;
            return of(key, operator, values.split(',').collect());
        }
    }
    for (word, operator) in [
        ("!=", Operator::NotIn),
        ("==", Operator::In),
        ("=", Operator::In),
    ] {
        if let Some((key, value)) = part.split_once(word) {
            return of(key, operator, vec![value]);
        }
    }
    match part.strip_prefix('!') {
        Some(key) => of(key, Operator::DoesNotExist, Vec::new()),
        None => of(part, Operator::Exists, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, text, expected) in [
            ("web", "web", true),
            ("web", "web-1", false),
            ("web.*", "web-1", true),
            (".*", "", true),
            ("web|db", "db", true),
            ("^(web|db)$", "web", true),
            (r"a\.b", "a.b", true),
            (r"a\.b", "axb", false),
            ("a.b", "axb", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn selectors_are_read_as_kubectl_does() {
        let labels = [("app", "web"), ("env", "a")].into_iter().collect();
        for (text, expected) in [
            ("app=web", Some(true)),
            ("app==web,env!=a", Some(false)),
            ("env in (a, b), app", Some(true)),
            ("env notin (a,b)", Some(false)),
            ("!old", Some(true)),
            ("", Some(true)),
            ("env in a", None),
            ("=x", None),
        ] {
            let node = Node::text(text, Default::default());
            let value = Value {
                node: &node,
                path: String::new(),
            };
            let selector = label_selector(&value, &mut Problems::new());
            assert_eq!(selector.map(|s| s.matches(&labels)), expected, "{text}");
        }
    }
}
