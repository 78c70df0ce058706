//! The list of fields against the readers: what they ask for is what it says, and what the
//! repository's scenarios hold fits its types.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::list::{self, Definition, Type};
use super::{KINDS, KINDS_TXT, json_schema};
use crate::api::yaml::{FileId, Limits, Node, parse_documents};
use crate::scenario::fields::asked_for;
use crate::scenario::traffic::METRICS;
use crate::scenario::{ExperimentOptions, LoadOptions, load_bytes, load_experiment};

/// Documents that have every mapping that the readers know.
const EVERYTHING: &str = include_str!("everything.yaml");
const EXPERIMENTS: &str = include_str!("experiments.yaml");

struct List(BTreeMap<&'static str, Definition<'static>>);

impl List {
    fn new() -> List {
        let list = list::read(KINDS_TXT);
        List(list.into_iter().map(|d| (d.name, d)).collect())
    }

    fn get(&self, name: &str) -> &Definition<'static> {
        (self.0.get(name)).unwrap_or_else(|| panic!("kinds.txt has no definition of {name}"))
    }

    /// The definitions that a type can be, lists and aliases opened.
    fn mappings<'l>(&'l self, of: &'l Type<'static>, found: &mut Vec<&'l str>) {
        match of {
            Type::List(of) => self.mappings(of, found),
            Type::OneOf(types) => types.iter().for_each(|of| self.mappings(of, found)),
            Type::Named(name) => match &self.get(name).alias {
                Some(alias) => self.mappings(alias, found),
                None => found.push(name),
            },
            _ => {}
        }
    }

    /// The definition at a path of a kind: `spec.timeline[3]`; None inside maps of free names.
    fn at(&self, kind: &str, path: &str) -> Option<&str> {
        let mut name = self.get(kind).name;
        for step in path.split('.').filter(|step| !step.is_empty()) {
            let step = step.split('[').next().unwrap_or_default();
            let field = self.get(name).fields.iter().find(|f| f.name == step)?;
            let mut found = Vec::new();
            self.mappings(&field.of, &mut found);
            assert!(found.len() <= 1, "{kind} {path}: {found:?}");
            name = found.first()?;
        }
        Some(name)
    }

    /// Whether a value has a type; says where not.
    fn check(&self, of: &Type<'_>, value: &serde_json::Value, path: &str) -> Result<(), String> {
        let fits = match of {
            Type::Text => value.is_string(),
            Type::Whole => value.is_u64(),
            Type::Number => value.is_number(),
            Type::Flag => value.is_boolean(),
            Type::Duration => value.is_string() || value == &serde_json::json!(0),
            Type::Quantity | Type::Scalar => value.is_string() || value.is_number(),
            Type::Any => true,
            Type::Word(word) => value == word,
            Type::List(of) => {
                let items = value.as_array().ok_or(format!("{path}: no list"))?;
                return items.iter().try_for_each(|item| self.check(of, item, path));
            }
            Type::Map(of) => {
                let items = value.as_object().ok_or(format!("{path}: no map"))?;
                return (items.iter())
                    .try_for_each(|(key, item)| self.check(of, item, &format!("{path}.{key}")));
            }
            Type::OneOf(types) => types.iter().any(|of| self.check(of, value, path).is_ok()),
            Type::Named(name) => return self.check_definition(self.get(name), value, path),
        };
        fits.then_some(())
            .ok_or_else(|| format!("{path}: {value} is not {of:?}"))
    }

    fn check_definition(
        &self,
        definition: &Definition<'_>,
        value: &serde_json::Value,
        path: &str,
    ) -> Result<(), String> {
        if let Some(alias) = &definition.alias {
            return self.check(alias, value, path);
        }
        let map = value.as_object().ok_or(format!("{path}: no map"))?;
        for field in &definition.fields {
            let path = format!("{path}.{}", field.name);
            match map.get(field.name).filter(|value| !value.is_null()) {
                Some(value) => self.check(&field.of, value, &path)?,
                None if field.required => return Err(format!("{path} is missing")),
                None => {}
            }
        }
        let known: BTreeSet<&str> = definition.fields.iter().map(|f| f.name).collect();
        let unknown = map.keys().find(|key| !known.contains(key.as_str()));
        unknown.map_or(Ok(()), |key| Err(format!("{path}.{key} is unknown")))
    }
}

/// What the readers ask for in all documents of this module.
fn asked() -> asked_for::Asked {
    asked_for::during(|| {
        let name = Path::new("everything.yaml");
        let options = LoadOptions::default();
        if let Err(rejected) = load_bytes(name, EVERYTHING.as_bytes(), &options) {
            panic!("{}", rejected.render(false));
        }
        let folder = std::env::temp_dir().join(format!("rehearsal-schema-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let file = |name: &str, text: &str| {
            fs::write(folder.join(name), text).expect("a file");
            folder.join(name)
        };
        file(
            "pods.csv",
            "arrival,duration,cpu,memory\n0s,10s,100m,64Mi\n",
        );
        let path = file("experiments.yaml", EXPERIMENTS);
        let loaded = load_experiment(&path, &ExperimentOptions::default());
        fs::remove_dir_all(&folder).expect("the folder goes");
        if let Err(rejected) = loaded {
            panic!("{}", rejected.render(false));
        }
    })
}

#[test]
fn readers_ask_for_what_the_list_says_and_for_nothing_else() {
    let list = List::new();
    let mut by_definition: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for ((kind, path), keys) in asked() {
        if !KINDS.contains(&kind.as_str()) {
            continue;
        }
        let name = list.at(&kind, &path);
        let name = name.unwrap_or_else(|| panic!("kinds.txt does not have {kind} {path}"));
        by_definition
            .entry(list.get(name).name)
            .or_default()
            .extend(keys);
    }
    for definition in list.0.values().filter(|d| d.alias.is_none()) {
        let listed: BTreeSet<&str> = definition.fields.iter().map(|f| f.name).collect();
        let read = by_definition.get(definition.name).cloned();
        let read = match definition.name {
            // Free names to the reader, so that a wrong one gets a better message.
            "Thresholds" => METRICS.into(),
            // Without a trace a base becomes the spec of a Scenario and is read as that.
            "Base" => {
                &read.unwrap_or_default() | &(&by_definition["ScenarioSpec"] | &["scenario"].into())
            }
            name => read.unwrap_or_else(|| panic!("no document has a {name}")),
        };
        assert_eq!(listed, read, "{}", definition.name);
    }
}

#[test]
fn every_document_of_ours_in_the_repository_fits_the_list() {
    let list = List::new();
    let mut seen = BTreeSet::new();
    let mut texts = vec![EVERYTHING.to_owned(), EXPERIMENTS.to_owned()];
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("yaml") => texts.push(fs::read_to_string(path).expect("text")),
                None if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    for text in texts {
        let documents = parse_documents(FileId(0), text.as_bytes(), &Limits::default());
        let documents = documents.expect("the repository's files are read");
        for document in &documents {
            let kind = document.get("kind").and_then(Node::as_str);
            let Some(kind) = KINDS.iter().find(|known| Some(**known) == kind) else {
                continue;
            };
            seen.insert(*kind);
            let fits = list.check_definition(list.get(kind), &document.to_json(), kind);
            assert_eq!(fits, Ok(()));
        }
    }
    assert_eq!(seen.len(), KINDS.len() - 2, "faults stand in timelines");
}

#[test]
fn the_shipped_schema_is_the_one_that_the_command_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/schema/rehearsal.dev-v1.json");
    let shipped = fs::read_to_string(path).expect("the schema is shipped");
    let printed = serde_json::to_string_pretty(&json_schema(None)).expect("JSON") + "\n";
    // Not `assert_eq!`, which would print both.
    assert!(
        shipped == printed,
        "rehearsal schema > contrib/schema/rehearsal.dev-v1.json"
    );
}
