//! The selector of a command line: `-l a=b,c!=d,e,!f,g in (x,y)`.

use super::verb::ParseError;
use super::words::Words;
use crate::api::Text;
use crate::api::selector::{LabelSelector, Operator, Requirement};

/// `-l a=b,c!=d,e,!f,g in (x,y)`.
pub(super) fn selector(words: &Words) -> Result<Option<LabelSelector>, ParseError> {
    let Some((text, at)) = words.value("selector") else {
        return Ok(None);
    };
    let mut requirements = Vec::new();
    for part in split_outside_brackets(text) {
        let part = part.trim();
        let requirement = |key: &str, operator, values: Vec<Text>| Requirement {
            key: Text::from(key.trim()),
            operator,
            values,
        };
        let set = |rest: &str| -> Option<Vec<Text>> {
            let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
            let mut values: Vec<Text> = inner.split(',').map(|v| Text::from(v.trim())).collect();
            values.sort();
            Some(values)
        };
        let found = if let Some((key, rest)) = part.split_once(" notin ") {
            set(rest).map(|values| requirement(key, Operator::NotIn, values))
        } else if let Some((key, rest)) = part.split_once(" in ") {
            set(rest).map(|values| requirement(key, Operator::In, values))
        } else if let Some((key, value)) = part.split_once("!=") {
            Some(requirement(key, Operator::NotIn, vec![value.trim().into()]))
        } else if let Some((key, value)) = part.split_once("==").or(part.split_once('=')) {
            Some(requirement(key, Operator::In, vec![value.trim().into()]))
        } else if let Some(key) = part.strip_prefix('!') {
            Some(requirement(key, Operator::DoesNotExist, Vec::new()))
        } else {
            (!part.is_empty()).then(|| requirement(part, Operator::Exists, Vec::new()))
        };
        let message = || format!("unable to parse requirement: {part}");
        requirements.push(found.ok_or_else(|| ParseError::new(message(), at.clone()))?);
    }
    Ok(Some(LabelSelector {
        requirements,
        nothing: false,
    }))
}

fn split_outside_brackets(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}
