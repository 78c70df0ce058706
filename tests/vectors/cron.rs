//! `cron.jsonl`: schedules in time zones, when they are due next, and what is refused.
//!
//! Nothing is tolerated: the same seconds, the same words.

use rehearsal::api::cron::{Schedule, zone};
use serde_json::{Value, json};

use super::support::{Case, Vectors, first_difference};

/// The recording.
pub const VECTORS: Vectors = Vectors {
    name: "cron",
    id: None,
    fields: &["expr", "zone", "from", "next", "error"],
    families: &["grammar", "next"],
    family,
    compare,
};

/// More schedules, asked of the same library.
pub const MORE: Vectors = Vectors {
    name: "cron-more",
    ..VECTORS
};

fn family(case: &Case) -> String {
    let family = match case.fields.contains_key("next") {
        true => "next",
        false => "grammar",
    };
    family.to_owned()
}

fn compare(case: &Case) -> Result<(), String> {
    let text = case.text("expr")?;
    let Some(expected) = case.fields.get("next").and_then(Value::as_array) else {
        let error = Schedule::parse(text).err().map(|e| e.to_string());
        let expected = case.fields.get("error").ok_or("neither next nor error")?;
        return first_difference(expected, &json!(error)).map_or(Ok(()), Err);
    };
    let clock = zone(case.text("zone")?).map_err(|e| e.to_string())?;
    let schedule = Schedule::parse(text).map_err(|e| e.to_string())?;
    let schedule = schedule.on_clock_of(clock);
    let mut from = case.fields.get("from").and_then(Value::as_i64);
    let mut got = Vec::new();
    for _ in expected {
        from = schedule.next(from.ok_or("nothing comes after never")?);
        got.push(json!(from));
    }
    first_difference(&json!(expected), &json!(got)).map_or(Ok(()), Err)
}
