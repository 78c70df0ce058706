//! What is wrong with a configuration, in the words of upstream's validation
//! (`staging/src/k8s.io/apimachinery/pkg/util/validation/field/errors.go`).

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where: `profiles[0].plugins.score`; empty for the configuration as a whole.
    pub path: String,
    /// What.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.what);
        }
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Everything that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(Mistake::to_string).collect();
        f.write_str(&all.join("; "))
    }
}

impl Mistakes {
    /// Something in words of its own.
    pub(super) fn say(&mut self, path: &str, what: impl Into<String>) {
        let what = what.into();
        self.0.push(Mistake {
            path: path.to_owned(),
            what,
        });
    }

    /// `field.Invalid`.
    pub(super) fn invalid(&mut self, path: &str, value: impl Into<Value>, detail: &str) {
        let value = value.into();
        self.say(path, format!("Invalid value: {value}: {detail}"));
    }

    /// `field.Required`.
    pub(super) fn required(&mut self, path: &str, detail: &str) {
        match detail {
            "" => self.say(path, "Required value"),
            detail => self.say(path, format!("Required value: {detail}")),
        }
    }

    /// `field.NotSupported`.
    pub(super) fn unsupported(&mut self, path: &str, value: &str, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|s| format!("\"{s}\"")).collect();
        let quoted = quoted.join(", ");
        let what = format!("Unsupported value: \"{value}\": supported values: {quoted}");
        self.say(path, what);
    }

    /// `field.Duplicate`.
    pub(super) fn duplicate(&mut self, path: &str, value: &str) {
        self.say(path, format!("Duplicate value: \"{value}\""));
    }

    /// `field.Forbidden`.
    pub(super) fn forbidden(&mut self, path: &str, detail: &str) {
        self.say(path, format!("Forbidden: {detail}"));
    }

    /// A value of some shape; its default, and a mistake, when it has another one.
    pub(super) fn read<T: Default + for<'a> Deserialize<'a>>(
        &mut self,
        value: &Value,
        path: &str,
    ) -> T {
        serde_json::from_value(value.clone()).unwrap_or_else(|error| {
            self.say(path, error.to_string());
            T::default()
        })
    }
}
