//! Loads recorded cases and runs a comparison over them, by family.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// One recorded case.
pub struct Case {
    /// Its line in the file, from 1.
    pub line: usize,
    /// Its fields.
    pub fields: Map<String, Value>,
}

impl Case {
    /// A text field.
    ///
    /// # Errors
    /// When the field is missing or not text.
    pub fn text(&self, field: &str) -> Result<&str, String> {
        self.fields
            .get(field)
            .and_then(Value::as_str)
            .ok_or_else(|| format!("the case has no text {field:?}"))
    }
}

/// A recorded file and how to check it.
pub struct Vectors {
    /// The file's name without extension.
    pub name: &'static str,
    /// The field that names a case in messages, where cases have one.
    pub id: Option<&'static str>,
    /// Every field a case may have. Another one means that the recording holds something that the
    /// comparison does not look at.
    pub fields: &'static [&'static str],
    /// Every family; each must have a case.
    pub families: &'static [&'static str],
    /// The family of a case.
    pub family: fn(&Case) -> String,
    /// The first difference between the recording and this project, if there is one.
    pub compare: fn(&Case) -> Result<(), String>,
}

/// Differing cases that are printed in full; the counts cover all.
const SHOWN: usize = 50;

/// Checks every case of a file.
///
/// # Panics
/// When a case differs or the file is not what it should be.
pub fn check(vectors: &Vectors) {
    check_cases(vectors, &load(vectors.name));
}

fn check_cases(vectors: &Vectors, cases: &[Case]) {
    let mut tally: BTreeMap<String, (usize, usize)> = vectors
        .families
        .iter()
        .map(|family| ((*family).to_owned(), (0, 0)))
        .collect();
    let mut report = String::new();
    let mut differing = 0_usize;
    for case in cases {
        let family = (vectors.family)(case);
        let (passed, total) = tally.entry(family.clone()).or_default();
        *total += 1;
        match known_fields(vectors, case).and_then(|()| (vectors.compare)(case)) {
            Ok(()) => *passed += 1,
            Err(difference) => {
                differing += 1;
                if differing <= SHOWN {
                    let id = id(vectors, case);
                    report += &format!("{}/{family} {id}: {difference}\n", vectors.name);
                }
            }
        }
    }
    if differing > SHOWN {
        report += &format!("… and {} more cases differ\n", differing - SHOWN);
    }
    let mut empty = Vec::new();
    for (family, (passed, total)) in &tally {
        report += &format!("{}/{family} {passed}/{total}\n", vectors.name);
        if *total == 0 {
            empty.push(family.as_str());
        }
    }
    // Past the test harness's capture, so that a passing run shows its counts, too.
    std::io::stdout()
        .lock()
        .write_all(report.as_bytes())
        .expect("stdout is writable");
    assert!(
        empty.is_empty(),
        "{}: families without a case: {empty:?}",
        vectors.name
    );
    let unknown: Vec<_> = tally
        .keys()
        .filter(|family| !vectors.families.contains(&family.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "{}: families nobody expects: {unknown:?}",
        vectors.name
    );
    assert_eq!(
        differing,
        0,
        "{}: {differing} of {} cases differ",
        vectors.name,
        cases.len()
    );
}

fn known_fields(vectors: &Vectors, case: &Case) -> Result<(), String> {
    match case
        .fields
        .keys()
        .find(|field| !vectors.fields.contains(&field.as_str()))
    {
        Some(field) => Err(format!("the comparison does not know the field {field:?}")),
        None => Ok(()),
    }
}

fn id(vectors: &Vectors, case: &Case) -> String {
    vectors
        .id
        .and_then(|field| case.fields.get(field))
        .map_or_else(
            || format!("line {}", case.line),
            |id| id.to_string().replace('"', ""),
        )
}

/// Reads all cases of a file.
///
/// # Panics
/// When the file is missing, empty or has a line that is no JSON object.
pub fn load(name: &str) -> Vec<Case> {
    let text = read(name);
    let cases: Vec<Case> = text
        .lines()
        .enumerate()
        .map(|(index, line)| {
            let line_number = index + 1;
            let fields = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{name}.jsonl:{line_number}: {error}"));
            Case {
                line: line_number,
                fields,
            }
        })
        .collect();
    assert!(!cases.is_empty(), "{name}.jsonl is empty");
    cases
}

/// Recordings of this project alone: they are here, wherever the others are.
const OURS: [&str; 7] = [
    "updates",
    "scheduler-more",
    "hints",
    "validation-more",
    "yaml-more",
    "cron-more",
    "branches",
];

fn read(name: &str) -> String {
    let mut folder = folder();
    let there = ["jsonl", "jsonl.gz"].map(|end| folder.join(format!("{name}.{end}")).exists());
    if OURS.contains(&name) && there == [false; 2] {
        folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    }
    let plain = folder.join(format!("{name}.jsonl"));
    if plain.exists() {
        return std::fs::read_to_string(&plain)
            .unwrap_or_else(|error| panic!("{}: {error}", plain.display()));
    }
    let packed = folder.join(format!("{name}.jsonl.gz"));
    let file = std::fs::File::open(&packed).unwrap_or_else(|error| {
        panic!(
            "neither {} nor {}: {error}",
            plain.display(),
            packed.display()
        )
    });
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap_or_else(|error| panic!("{}: {error}", packed.display()));
    text
}

fn folder() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test may be pointed at newer recordings"
    )]
    let chosen = std::env::var("REHEARSAL_VECTORS");
    match chosen {
        Ok(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
    }
}

/// The path of the first place where two JSON values differ, with both values; numbers are equal
/// when they are the same number, however written.
pub fn first_difference(expected: &Value, got: &Value) -> Option<String> {
    differ(expected, got, "$")
}

fn differ(expected: &Value, got: &Value, path: &str) -> Option<String> {
    let here = || Some(format!("{path}: expected {expected}, got {got}"));
    match (expected, got) {
        (Value::Object(want), Value::Object(have)) => {
            if let Some(key) = have.keys().find(|key| !want.contains_key(*key)) {
                return Some(format!("{path}: unexpected key {key:?}"));
            }
            want.iter().find_map(|(key, value)| match have.get(key) {
                Some(other) => differ(value, other, &format!("{path}.{key}")),
                None => Some(format!("{path}: missing key {key:?}")),
            })
        }
        (Value::Array(want), Value::Array(have)) if want.len() == have.len() => want
            .iter()
            .zip(have)
            .enumerate()
            .find_map(|(at, (value, other))| differ(value, other, &format!("{path}[{at}]"))),
        (Value::Number(want), Value::Number(have)) => {
            let whole =
                |n: &serde_json::Number| n.as_i64().map(i128::from).or(n.as_u64().map(i128::from));
            let same = match (whole(want), whole(have)) {
                (Some(a), Some(b)) => a == b,
                _ => want.as_f64() == have.as_f64(),
            };
            if same { None } else { here() }
        }
        (a, b) if a == b => None,
        _ => here(),
    }
}
