//! `yaml.jsonl`: small documents and the JSON that kubectl's strict conversion makes of them.
//!
//! Tolerated: numbers are compared by value (`1e+21` is 1e21), and of an error only that there is
//! one, because the recording holds no more.

use rehearsal::api::yaml::{FileId, Limits, parse_document};

use super::support::{Case, Vectors, first_difference};

/// The file. Families: what stands at the place under test.
pub const VECTORS: Vectors = Vectors {
    name: "yaml",
    id: None,
    fields: &["yaml", "json", "error"],
    families: &["keys", "quoted", "scalars", "structures"],
    family,
    compare,
};

/// More documents, converted by the same function.
pub const MORE: Vectors = Vectors {
    name: "yaml-more",
    families: &["scalars", "structures"],
    ..VECTORS
};

fn family(case: &Case) -> String {
    let text = case.text("yaml").unwrap_or_default();
    let family = match text.strip_prefix("k: ") {
        _ if text.contains('\n') => "structures",
        Some(value) if value.starts_with(['"', '\'']) => "quoted",
        Some(_) => "scalars",
        None if text.ends_with(": v") => "keys",
        None => "structures",
    };
    family.to_owned()
}

fn compare(case: &Case) -> Result<(), String> {
    let text = case.text("yaml")?;
    let got = parse_document(FileId(0), text.as_bytes(), &Limits::default());
    match (case.fields.contains_key("error"), got) {
        (true, Err(_)) => Ok(()),
        (true, Ok(node)) => Err(format!(
            "{text:?}: expected an error, got {}",
            node.to_json()
        )),
        (false, Err(error)) => Err(format!(
            "{text:?}: expected {}, got {error}",
            case.text("json")?
        )),
        (false, Ok(node)) => {
            let expected = serde_json::from_str(case.text("json")?)
                .map_err(|error| format!("the recorded JSON: {error}"))?;
            match first_difference(&expected, &node.to_json()) {
                Some(difference) => Err(format!("{text:?}: {difference}")),
                None => Ok(()),
            }
        }
    }
}
