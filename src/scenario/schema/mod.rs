//! JSON Schemas of this project's own kinds, for editors and other programs.
//!
//! `kinds.txt` lists every field with its type and meaning; this module reads that list and writes
//! it as JSON Schema (draft 7, which YAML editors know). Schemas help while writing; the readers
//! beside this module decide. A test compares what the readers ask for, mapping by mapping, with the
//! list, so neither can gain a field alone.

mod list;

use serde_json::{Map, Value, json};

use self::list::{Definition, Field, Type};

/// The kinds that have a schema.
pub const KINDS: [&str; 6] = [
    "Scenario",
    "AppModel",
    "Traffic",
    "NodeChaos",
    "ControlPlaneChaos",
    "Experiment",
];

const KINDS_TXT: &str = include_str!("kinds.txt");

/// The schema of one kind, or of a document of any kind: one of ours is checked, anything else
/// (Kubernetes objects in the same file) is let through. None for a kind that is not ours.
pub fn json_schema(kind: Option<&str>) -> Option<Value> {
    let list = list::read(KINDS_TXT);
    let definitions: Map<String, Value> = (list.iter())
        .map(|definition| (definition.name.to_owned(), of_definition(definition)))
        .collect();
    let mut schema = json!({"$schema": "http://json-schema.org/draft-07/schema#"});
    match kind {
        Some(kind) => {
            let kind = KINDS.iter().find(|known| **known == kind)?;
            schema["title"] = json!(kind);
            schema["allOf"] = json!([reference(kind)]);
        }
        None => {
            schema["title"] = json!("rehearsal.dev/v1");
            schema["allOf"] = KINDS
                .iter()
                .map(|kind| {
                    json!({
                        "if": {
                            "required": ["apiVersion", "kind"],
                            "properties": {
                                "apiVersion": {"pattern": "^rehearsal\\.dev/"},
                                "kind": {"const": kind},
                            },
                        },
                        "then": reference(kind),
                    })
                })
                .collect();
        }
    }
    schema["definitions"] = Value::Object(definitions);
    Some(schema)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/definitions/{name}")})
}

fn of_definition(definition: &Definition<'_>) -> Value {
    if let Some(alias) = &definition.alias {
        return of_type(alias);
    }
    let properties: Map<String, Value> = (definition.fields.iter())
        .map(|field| (field.name.to_owned(), of_field(field)))
        .collect();
    let required: Vec<&str> = (definition.fields.iter())
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    let mut schema = json!({
        "description": definition.about,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn of_field(field: &Field<'_>) -> Value {
    let mut schema = of_type(&field.of);
    if schema.get("$ref").is_some() {
        // Draft 7 ignores what stands beside a reference.
        schema = json!({"allOf": [schema]});
    }
    schema["description"] = json!(field.about);
    schema
}

fn of_type(of: &Type<'_>) -> Value {
    match of {
        Type::Text => json!({"type": "string"}),
        Type::Whole => json!({"type": "integer", "minimum": 0}),
        Type::Number => json!({"type": "number"}),
        Type::Flag => json!({"type": "boolean"}),
        // Go's durations; a plain 0 needs no unit.
        Type::Duration => json!({
            "anyOf": [
                {"type": "string", "pattern": "^([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|ms|s|m|h|d)"},
                {"const": 0}, {"const": "0"},
            ],
        }),
        Type::Quantity | Type::Scalar => json!({"type": ["string", "number"]}),
        Type::Any => json!({}),
        Type::Word(word) => json!({"const": word}),
        Type::List(of) => json!({"type": "array", "items": of_type(of)}),
        Type::Map(of) => json!({"type": "object", "additionalProperties": of_type(of)}),
        Type::OneOf(types) => match words(types) {
            Some(words) => json!({"enum": words}),
            None => json!({"anyOf": types.iter().map(of_type).collect::<Vec<_>>()}),
        },
        Type::Named(name) => reference(name),
    }
}

fn words<'t>(types: &[Type<'t>]) -> Option<Vec<&'t str>> {
    let word = |of: &Type<'t>| match of {
        Type::Word(word) => Some(*word),
        _ => None,
    };
    types.iter().map(word).collect()
}

#[cfg(test)]
mod tests;
