//! Field paths and the errors found at them, in the API server's words.
//!
//! `staging/src/k8s.io/apimachinery/pkg/util/validation/field`: a path is a chain of links on the
//! stack that costs nothing until an error prints it.

use std::fmt;

use serde_json::Value;

use crate::api::decode::Problem;
use crate::api::quote::quote;

/// The place that is being validated.
#[derive(Clone, Copy, Debug)]
pub enum At<'a> {
    /// The object.
    Root,
    /// A field, or several with dots between.
    Field(&'a At<'a>, &'a str),
    /// An item of a list.
    Item(&'a At<'a>, usize),
    /// An entry of a map.
    Key(&'a At<'a>, &'a str),
}

impl<'a> At<'a> {
    /// `.name`.
    pub fn field(&'a self, name: &'a str) -> At<'a> {
        At::Field(self, name)
    }

    /// `[index]`.
    pub fn item(&'a self, index: usize) -> At<'a> {
        At::Item(self, index)
    }

    /// `[key]`.
    pub fn key(&'a self, key: &'a str) -> At<'a> {
        At::Key(self, key)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root => Ok(()),
            At::Field(At::Root, name) => f.write_str(name),
            At::Field(parent, name) => write!(f, "{parent}.{name}"),
            At::Item(parent, index) => write!(f, "{parent}[{index}]"),
            At::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}

/// A value as messages print it: text quoted, numbers plain, everything else as JSON.
pub trait Shown {
    /// The printed form.
    fn shown(&self) -> String;
}

impl Shown for str {
    fn shown(&self) -> String {
        quote(self)
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        self.as_str().shown()
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map_or_else(|| "null".to_owned(), T::shown)
    }
}

impl<T: Shown + ?Sized> Shown for &T {
    fn shown(&self) -> String {
        (**self).shown()
    }
}

impl Shown for Value {
    fn shown(&self) -> String {
        self.to_string()
    }
}

macro_rules! shown_plain {
    ($($t:ty)*) => {$(impl Shown for $t {
        fn shown(&self) -> String { self.to_string() }
    })*};
}
shown_plain!(i32 i64 u32 u64 usize f64 bool);

/// The errors found so far.
#[derive(Debug, Default)]
pub struct Errors {
    problems: Vec<Problem>,
}

impl Errors {
    fn push(&mut self, at: &At<'_>, reason: &str, message: String) {
        self.problems.push(Problem {
            path: at.to_string(),
            span: None,
            reason: reason.to_owned(),
            message,
        });
    }

    fn with_value(
        &mut self,
        at: &At<'_>,
        (reason, title): (&str, &str),
        value: &(impl Shown + ?Sized),
        detail: &str,
    ) {
        let colon = if detail.is_empty() { "" } else { ": " };
        let message = format!("{title}: {}{colon}{detail}", value.shown());
        self.push(at, reason, message);
    }

    /// A value that must be there is not.
    pub fn required(&mut self, at: &At<'_>, detail: &str) {
        self.push(
            at,
            "FieldValueRequired",
            with_detail("Required value", detail),
        );
    }

    /// A malformed value.
    pub fn invalid(&mut self, at: &At<'_>, value: &(impl Shown + ?Sized), detail: &str) {
        self.with_value(at, ("FieldValueInvalid", "Invalid value"), value, detail);
    }

    /// A malformed value that is too large to show.
    pub fn invalid_rule(&mut self, at: &At<'_>, detail: &str) {
        self.push(
            at,
            "FieldValueInvalid",
            with_detail("Invalid value", detail),
        );
    }

    /// A malformed value, once for each message.
    pub fn invalid_each(
        &mut self,
        at: &At<'_>,
        value: &(impl Shown + ?Sized),
        details: impl IntoIterator<Item = String>,
    ) {
        for detail in details {
            self.invalid(at, value, &detail);
        }
    }

    /// A value outside its list.
    pub fn not_supported(&mut self, at: &At<'_>, value: &(impl Shown + ?Sized), all: &[&str]) {
        let quoted: Vec<_> = all.iter().map(|v| v.shown()).collect();
        let detail = match quoted.as_slice() {
            [] => String::new(),
            quoted => format!("supported values: {}", quoted.join(", ")),
        };
        self.with_value(
            at,
            ("FieldValueNotSupported", "Unsupported value"),
            value,
            &detail,
        );
    }

    /// A value that may occur once.
    pub fn duplicate(&mut self, at: &At<'_>, value: &(impl Shown + ?Sized)) {
        self.with_value(at, ("FieldValueDuplicate", "Duplicate value"), value, "");
    }

    /// A value that may occur once, with the reason.
    pub fn duplicate_because(&mut self, at: &At<'_>, value: &(impl Shown + ?Sized), detail: &str) {
        self.with_value(
            at,
            ("FieldValueDuplicate", "Duplicate value"),
            value,
            detail,
        );
    }

    /// A reference to something that is not there.
    pub fn not_found(&mut self, at: &At<'_>, value: &(impl Shown + ?Sized)) {
        self.with_value(at, ("FieldValueNotFound", "Not found"), value, "");
    }

    /// A reference to something that is not there, with what there is.
    pub fn not_found_because(&mut self, at: &At<'_>, value: &(impl Shown + ?Sized), detail: &str) {
        self.with_value(at, ("FieldValueNotFound", "Not found"), value, detail);
    }

    /// A value that is not allowed here.
    pub fn forbidden(&mut self, at: &At<'_>, detail: &str) {
        self.push(at, "FieldValueForbidden", with_detail("Forbidden", detail));
    }

    /// A check that could not be made.
    pub fn internal(&mut self, at: &At<'_>, detail: &str) {
        self.push(at, "InternalError", with_detail("Internal error", detail));
    }

    /// Text of more than `most` bytes.
    pub fn too_long(&mut self, at: &At<'_>, most: usize) {
        let unit = if most == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {most} {unit}");
        self.push(at, "FieldValueTooLong", with_detail("Too long", &detail));
    }

    /// More than `most` items.
    pub fn too_many(&mut self, at: &At<'_>, items: usize, most: usize) {
        let unit = if most == 1 { "item" } else { "items" };
        let detail = format!("must have at most {most} {unit}");
        self.with_value(at, ("FieldValueTooMany", "Too many"), &items, &detail);
    }

    /// `ValidateNonnegativeField`.
    pub fn non_negative(&mut self, at: &At<'_>, value: i64) {
        if value < 0 {
            self.invalid(at, &value, "must be greater than or equal to 0");
        }
    }

    /// Adds what was found elsewhere.
    pub fn append(&mut self, others: Errors) {
        self.problems.extend(others.problems);
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many errors there are.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// The errors.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

fn with_detail(title: &str, detail: &str) -> String {
    if detail.is_empty() {
        title.to_owned()
    } else {
        format!("{title}: {detail}")
    }
}
