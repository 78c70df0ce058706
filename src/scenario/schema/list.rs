//! Reading `kinds.txt`.
//!
//! The file is part of the program: a mistake in it is a programmer's error and panics, and the
//! tests read all of it.

/// A definition: fields, or another name for a type.
#[derive(Debug)]
pub struct Definition<'t> {
    /// Its name.
    pub name: &'t str,
    /// What it is.
    pub about: &'t str,
    /// The type that it names, if it has no fields.
    pub alias: Option<Type<'t>>,
    /// Its fields.
    pub fields: Vec<Field<'t>>,
}

/// A field.
#[derive(Clone, Debug)]
pub struct Field<'t> {
    /// Its name.
    pub name: &'t str,
    /// Whether it must be given.
    pub required: bool,
    /// Its type.
    pub of: Type<'t>,
    /// What it means.
    pub about: &'t str,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type<'t> {
    /// A string.
    Text,
    /// A whole number that is not negative.
    Whole,
    /// A number.
    Number,
    /// A switch.
    Flag,
    /// A span of time.
    Duration,
    /// A quantity.
    Quantity,
    /// A string or a number.
    Scalar,
    /// Anything.
    Any,
    /// One word.
    Word(&'t str),
    /// A list.
    List(Box<Type<'t>>),
    /// A mapping of free names.
    Map(Box<Type<'t>>),
    /// One of several; a list of fixed length is written the same way inside `[[…]]`.
    OneOf(Vec<Type<'t>>),
    /// A definition.
    Named(&'t str),
}

/// Reads the list.
pub fn read(text: &str) -> Vec<Definition<'_>> {
    let mut found: Vec<Definition<'_>> = Vec::new();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for line in lines.filter(|line| !line.is_empty()) {
        let Some(line) = line.strip_prefix("  ") else {
            found.push(definition(line));
            continue;
        };
        let more = match line.strip_prefix("+ ") {
            Some(name) => {
                let earlier = found.iter().find(|definition| definition.name == name);
                earlier.expect("an earlier definition").fields.clone()
            }
            None => vec![field(line)],
        };
        let last = found.last_mut().expect("a field belongs to a definition");
        last.fields.extend(more);
    }
    found
}

fn definition(line: &str) -> Definition<'_> {
    if let Some((name, of)) = line.split_once(" = ") {
        let (of, rest) = one(of);
        assert!(rest.is_empty(), "{line}");
        return Definition {
            name,
            about: "",
            alias: Some(of),
            fields: Vec::new(),
        };
    }
    let (name, about) = line.split_once(": ").expect("Name: what it is");
    Definition {
        name,
        about,
        alias: None,
        fields: Vec::new(),
    }
}

fn field(line: &str) -> Field<'_> {
    let (name, rest) = line.split_once(' ').expect("name, type, meaning");
    let (of, about) = one(rest);
    Field {
        name: name.trim_end_matches('!'),
        required: name.ends_with('!'),
        of,
        about: about.trim(),
    }
}

/// Reads one type; returns what stands behind it.
fn one(text: &str) -> (Type<'_>, &str) {
    let inner = |close: char| {
        let (of, rest) = one(&text[1..]);
        let rest = rest.strip_prefix(close).expect("a closing bracket");
        (Box::new(of), rest)
    };
    match text.as_bytes().first() {
        Some(b'[') => {
            let (of, rest) = inner(']');
            (Type::List(of), rest)
        }
        Some(b'{') => {
            let (of, rest) = inner('}');
            (Type::Map(of), rest)
        }
        Some(b'(') => several(&text[1..]),
        Some(b'\'') => {
            let (word, rest) = text[1..].split_once('\'').expect("a closing quote");
            (Type::Word(word), rest)
        }
        _ => {
            let end = text.find([' ', ')', ']', '}']).unwrap_or(text.len());
            (named(&text[..end]), &text[end..])
        }
    }
}

fn several(mut text: &str) -> (Type<'_>, &str) {
    let mut types = Vec::new();
    loop {
        let (of, rest) = one(text);
        types.push(of);
        match rest.strip_prefix(')') {
            Some(rest) => return (Type::OneOf(types), rest),
            None => text = rest.strip_prefix(' ').expect("types with spaces between"),
        }
    }
}

fn named(name: &str) -> Type<'_> {
    match name {
        "text" => Type::Text,
        "whole" => Type::Whole,
        "number" => Type::Number,
        "flag" => Type::Flag,
        "duration" => Type::Duration,
        "quantity" => Type::Quantity,
        "scalar" => Type::Scalar,
        "any" => Type::Any,
        name => Type::Named(name),
    }
}
