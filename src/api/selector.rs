//! Label selectors, node selector terms and the operators they share.

use super::{Labels, Text};

/// `metav1.LabelSelector`, normalised: `matchLabels` became `In` requirements of one value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    /// All must hold.
    pub requirements: Vec<Requirement>,
    /// A nil selector matches nothing; an empty one matches everything.
    pub nothing: bool,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: Text,
    /// How it is compared.
    pub operator: Operator,
    /// Values, sorted.
    pub values: Vec<Text>,
}

/// Comparison of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The value is one of the listed.
    In,
    /// The key is absent or its value is not listed.
    NotIn,
    /// The key is there.
    Exists,
    /// The key is not there.
    DoesNotExist,
    /// Integer comparison (node selectors only).
    Gt,
    /// Integer comparison (node selectors only).
    Lt,
}

impl Requirement {
    /// `labels.Requirement.Matches` of apimachinery: `NotIn` also holds when the key is absent.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt | Operator::Lt => {
                let (Some(v), Some(bound)) = (value, self.values.first()) else {
                    return false;
                };
                let (Ok(v), Ok(bound)) = (v.parse::<i64>(), bound.parse::<i64>()) else {
                    return false;
                };
                if self.operator == Operator::Gt {
                    v > bound
                } else {
                    v < bound
                }
            }
        }
    }
}

/// As `labels.Selector` prints itself: requirements by key.
impl std::fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut sorted: Vec<&Requirement> = self.requirements.iter().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        let each = sorted.iter().map(|requirement| {
            let Requirement {
                key,
                operator,
                values,
            } = requirement;
            let values: Vec<&str> = values.iter().map(Text::as_str).collect();
            match (operator, values.as_slice()) {
                (Operator::In, [value]) => format!("{key}={value}"),
                (Operator::In, values) => format!("{key} in ({})", values.join(",")),
                (Operator::NotIn, values) => format!("{key} notin ({})", values.join(",")),
                (Operator::Exists, _) => key.to_string(),
                (Operator::DoesNotExist, _) => format!("!{key}"),
                (Operator::Gt, values) => format!("{key}>{}", values.join(",")),
                (Operator::Lt, values) => format!("{key}<{}", values.join(",")),
            }
        });
        f.write_str(&each.collect::<Vec<String>>().join(","))
    }
}

impl LabelSelector {
    /// A selector of equal pairs, as Services and ReplicationControllers have.
    pub fn equals<'a>(pairs: impl IntoIterator<Item = (&'a Text, &'a Text)>) -> Self {
        let requirements = pairs
            .into_iter()
            .map(|(k, v)| Requirement {
                key: k.clone(),
                operator: Operator::In,
                values: vec![v.clone()],
            })
            .collect();
        LabelSelector {
            requirements,
            nothing: false,
        }
    }

    /// A selector that matches no object (upstream's nil selector).
    pub fn nothing() -> Self {
        LabelSelector {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Whether `labels` satisfy every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether it was written without requirements.
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }
}
