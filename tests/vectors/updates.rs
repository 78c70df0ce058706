//! `updates.jsonl`: objects of all kinds, requests that change them (replacing, JSON patch, JSON
//! merge patch, strategic merge patch), and the API server's answers.
//!
//! What is accepted must become the recorded object and move `metadata.generation` as recorded;
//! what is refused must be refused with the same status and the same causes (in any order), or,
//! where there are none, with the same message.
//!
//! Tolerated: values that upstream prints as Go structs, dumps of differences, Go's words about
//! JSON that does not fit a type (the status must be the same), uids and revisions, statuses.

use rehearsal::api::decode::{DecodeContext, decode_json};
use rehearsal::api::patch::PatchKind;
use rehearsal::api::print::to_json;
use rehearsal::api::{ConfigMap, Meta};
use rehearsal::engine::{Draws, Time};
use rehearsal::store::{ApiError, Cause, Patch, Receipt, Store, Write};
use serde_json::Value;

use super::support::{Case, Vectors, first_difference};

/// The file. Families: the ways to change an object.
pub const VECTORS: Vectors = Vectors {
    name: "updates",
    id: None,
    fields: &[
        "kind", "before", "how", "strict", "body", "status", "warnings", "after", "message",
        "reason", "causes",
    ],
    families: &["json", "merge", "strategic", "update"],
    family: |case| case.text("how").unwrap_or_default().to_owned(),
    compare,
};

/// The uid of the second object of a store.
const UID: &str = "00000000-0000-4000-8000-000000000002";

fn compare(case: &Case) -> Result<(), String> {
    let place = |why: String| {
        let body = case.fields["body"].to_string();
        let body: String = body.chars().take(400).collect();
        format!(
            "{} {}\n  {body}\n  {why}",
            case.fields["kind"], case.fields["how"]
        )
    };
    compared(case).map_err(place)
}

fn compared(case: &Case) -> Result<(), String> {
    let (before, body) = localized(case)?;
    let mut store = Store::new(Draws::new(1));
    let mut write = |write: &Write| store.write(write, Time::ZERO, Cause::default());
    // Revision 1 is somebody else's, so that it can be an old one.
    let other = ConfigMap {
        meta: Meta {
            name: "other".into(),
            ..Meta::default()
        },
        ..ConfigMap::default()
    };
    write(&Write::Create(other.into())).map_err(|e| e.to_string())?;
    let decoded = decode_json(&created(&before), &DecodeContext::default());
    let decoded = decoded.map_err(|p| format!("the object itself is refused: {p:?}"))?;
    let stored = write(&Write::Create(decoded.row)).map_err(|e| format!("not created: {e}"))?;
    let object = stored.object.ok_or("nothing was created")?;
    let patch = match case.text("how")? {
        "json" => Patch::Document(PatchKind::Json, body.into()),
        "merge" => Patch::Document(PatchKind::Merge, body.into()),
        "strategic" => Patch::Document(PatchKind::Strategic, body.into()),
        _ => Patch::Replacement(body.into()),
    };
    let reply = write(&Write::Patch {
        object,
        uid: None,
        patch,
    });
    match (case.fields["status"].as_i64(), reply) {
        (Some(200), Ok(receipt)) => accepted(case, &before, &receipt),
        (Some(200), Err(error)) => Err(format!("expected acceptance, got {error}")),
        // Unknown fields are told of when files are read, not here.
        (_, Ok(_)) if case.text("message")?.contains("strict decoding error") => Ok(()),
        (_, Ok(_)) => Err(format!("accepted, expected {}", case.fields["message"])),
        (Some(code), Err(error)) if code == i64::from(error.code()) => refused(case, &error),
        (code, Err(error)) => Err(format!(
            "expected {code:?} {}, got {} {error}",
            case.fields["message"],
            error.code()
        )),
    }
}

/// The object before and the request, with our uid and revision in place of the server's.
fn localized(case: &Case) -> Result<(Value, Value), String> {
    let meta = &case.fields["before"]["metadata"];
    let text = |field: &str| meta[field].as_str().ok_or(format!("no {field}"));
    let (uid, revision) = (text("uid")?, text("resourceVersion")?);
    let created = meta["creationTimestamp"].as_str().unwrap_or_default();
    let localize = |value: &Value| -> Result<Value, String> {
        let text = value.to_string().replace(uid, UID);
        let text = text.replace(
            &format!("\"resourceVersion\":\"{revision}\""),
            "\"resourceVersion\":\"2\"",
        );
        let text = text.replace(created, "1970-01-01T00:00:00Z");
        serde_json::from_str(&text).map_err(|error| error.to_string())
    };
    Ok((
        localize(&case.fields["before"])?,
        localize(&case.fields["body"])?,
    ))
}

/// What a client would have posted to get this object.
fn created(stored: &Value) -> Value {
    let mut object = stored.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    for field in ["uid", "resourceVersion", "creationTimestamp", "generation"] {
        object["metadata"]
            .as_object_mut()
            .map(|map| map.remove(field));
    }
    if object["kind"] == "Job" && object["spec"]["manualSelector"] != true {
        object["spec"]
            .as_object_mut()
            .map(|map| map.remove("selector"));
        let labels = &mut object["spec"]["template"]["metadata"]["labels"];
        if let Some(labels) = labels.as_object_mut() {
            labels.retain(|key, _| !key.ends_with("controller-uid") && !key.ends_with("job-name"));
        }
    }
    object
}

fn accepted(case: &Case, before: &Value, receipt: &Receipt) -> Result<(), String> {
    let got = to_json(receipt.row.as_ref().ok_or("no object")?);
    let expected = &case.fields["after"];
    let generation = |object: &Value| object["metadata"]["generation"].as_i64();
    if let (Some(was), Some(is), Some(ours)) =
        (generation(before), generation(expected), generation(&got))
        && is - was != ours - 1
    {
        return Err(format!("generation {ours}, expected {}", is - was + 1));
    }
    let uid = case.fields["before"]["metadata"]["uid"].as_str();
    let expected = expected.to_string().replace(uid.unwrap_or_default(), UID);
    let expected: Value = serde_json::from_str(&expected).map_err(|error| error.to_string())?;
    match first_difference(&kept(expected), &kept(got)) {
        Some(difference) => Err(difference),
        None => Ok(()),
    }
}

/// Without what a server and its clock decide.
fn kept(mut object: Value) -> Value {
    forget(&mut object, "", &["status"]);
    let drawn = ["uid", "resourceVersion", "creationTimestamp", "generation"];
    forget(&mut object, "/metadata", &drawn);
    // Uids of others become numbers when they are read.
    for owner in each(&mut object, "/metadata/ownerReferences") {
        forget(owner, "", &["uid"]);
    }
    // Of these kinds only what the simulation acts on is held.
    match object["kind"].as_str() {
        Some("Lease") => forget(&mut object, "", &["spec"]),
        Some("CSINode") => forget(&mut object, "", &["spec"]),
        Some("EndpointSlice") => {
            for endpoint in each(&mut object, "/endpoints") {
                forget(endpoint, "", &["targetRef"]);
            }
        }
        _ => {}
    }
    object
}

fn forget(object: &mut Value, place: &str, fields: &[&str]) {
    let map = object.pointer_mut(place).and_then(Value::as_object_mut);
    if let Some(map) = map {
        map.retain(|key, _| !fields.contains(&key.as_str()));
    }
}

fn each<'a>(object: &'a mut Value, place: &str) -> impl Iterator<Item = &'a mut Value> {
    let list = object.pointer_mut(place).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

fn refused(case: &Case, error: &ApiError) -> Result<(), String> {
    if let ApiError::Invalid { causes, .. } = error {
        let listed = case.fields["causes"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut expected: Vec<String> = listed
            .map(|cause| plain(&format!("{}: {}", text(&cause[0]), text(&cause[1]))))
            .collect();
        let mut got: Vec<String> = causes.iter().map(|cause| plain(cause)).collect();
        for list in [&mut expected, &mut got] {
            list.sort();
            list.dedup();
        }
        return match expected == got {
            true => Ok(()),
            false => Err(format!("expected {expected:#?}\n  got {got:#?}")),
        };
    }
    let expected = case.text("message")?;
    let uid = case.fields["before"]["metadata"]["uid"].as_str();
    let expected = expected.replace(uid.unwrap_or_default(), UID);
    let gos = [
        "strict decoding error",
        "json: ",
        "Go struct",
        "strconv",
        "cannot be handled as",
        "map[",
    ];
    if gos.iter().any(|words| expected.contains(words)) || expected == error.to_string() {
        return Ok(());
    }
    Err(format!(
        "expected {expected:?}, got {:?}",
        error.to_string()
    ))
}

/// A cause without the values that Go prints in its own way, and without dumps of differences.
fn plain(cause: &str) -> String {
    let cause = cause.lines().next().unwrap_or_default();
    let Some((field, rest)) = cause.split_once(": Invalid value: ") else {
        return cause.to_owned();
    };
    if field == "patch" {
        return field.to_owned();
    }
    if rest.starts_with('"') || rest.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return cause.to_owned();
    }
    let why = rest.rsplit_once(": ").map_or(rest, |(_, why)| why);
    format!("{field}: Invalid value: …: {why}")
}
