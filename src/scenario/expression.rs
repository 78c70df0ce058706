//! CEL in expectations: the functions that read the cluster, and what is wrong with an expression
//! before anything runs.
//!
//! What an expression means is with whoever evaluates it; here is what can be said of its text.

use cel::Program;

use crate::api::Kind;
use crate::api::yaml::closest;

/// The functions that read the cluster, with the kinds that they read.
pub const FUNCTIONS: &[(&str, &[Kind])] = &[
    ("deployment", &[Kind::Deployment]),
    ("replicaset", &[Kind::ReplicaSet]),
    ("statefulset", &[Kind::StatefulSet]),
    ("daemonset", &[Kind::DaemonSet]),
    ("job", &[Kind::Job]),
    ("cronjob", &[Kind::CronJob]),
    ("jobs", &[Kind::Job]),
    ("persistentvolumeclaim", &[Kind::PersistentVolumeClaim]),
    ("pod", &[Kind::Pod]),
    ("node", &[Kind::Node]),
    ("service", &[Kind::Service]),
    ("configmap", &[Kind::ConfigMap]),
    ("pods", &[Kind::Pod]),
    ("nodes", &[Kind::Node]),
    ("endpoints", &[Kind::EndpointSlice]),
    ("horizontalpodautoscaler", &[Kind::HorizontalPodAutoscaler]),
];

/// CEL's own functions and macros.
const BUILT_IN: &[&str] = &[
    "size",
    "has",
    "all",
    "exists",
    "exists_one",
    "filter",
    "map",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "min",
    "max",
    "type",
    "optMap",
    "optFlatMap",
];

/// Something wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The line in the text, from 1.
    pub line: usize,
    /// The column in that line, in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Flaw {
    fn at(text: &str, offset: usize, message: String, hint: Option<String>) -> Flaw {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let last = before.rsplit('\n').next().unwrap_or(before);
        Flaw {
            line,
            column: last.chars().count() + 1,
            message,
            hint,
        }
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Flaw {
            line,
            column,
            message,
            ..
        } = self;
        let place = match line {
            1 => format!("column {column}"),
            _ => format!("line {line}, column {column}"),
        };
        write!(f, "CEL: {message} ({place})")?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// A call of one of [`FUNCTIONS`] with its constant argument.
pub type Call = (&'static str, String);

/// An expression that can be evaluated: its program, and which of the cluster's functions it calls.
///
/// # Errors
/// The first thing that is wrong with it, with its place.
pub fn compile(text: &str) -> Result<(Program, Vec<Call>), Flaw> {
    let program = Program::compile(text).map_err(|errors| not_cel(text, &errors))?;
    for name in program.references().functions() {
        let known = FUNCTIONS.iter().any(|(f, _)| *f == name)
            || BUILT_IN.contains(&name)
            || !name.chars().next().is_some_and(char::is_alphabetic);
        if !known {
            return Err(unknown(text, name));
        }
    }
    let calls = calls(text)?;
    Ok((program, calls))
}

fn not_cel(text: &str, errors: &cel::ParseErrors) -> Flaw {
    let first = errors.errors.first();
    let (line, column) = first.map_or((1, 1), |error| error.pos);
    let message = first.map_or("no expression".to_owned(), |error| plainly(&error.msg));
    let line = usize::try_from(line).unwrap_or(1).max(1);
    let lines = text.lines().count().max(1);
    let words = [
        (" and ", "&& and ||"),
        (" or ", "&& and ||"),
        (" = ", "== for equality"),
    ];
    let hint = words.iter().find(|(word, _)| text.contains(word));
    let hint = hint.map(|(_, instead)| format!("CEL writes {instead}"));
    Flaw {
        line: line.min(lines),
        column: usize::try_from(column).unwrap_or(1).max(1),
        message,
        hint,
    }
}

/// A parser's message without the list of everything that could stand there.
fn plainly(message: &str) -> String {
    let message = message.trim_start_matches("Syntax error: ");
    let said = message.split(" expecting ").next().unwrap_or(message);
    match said
        .strip_prefix("mismatched input ")
        .or(said.strip_prefix("extraneous input "))
    {
        Some("'<EOF>'") => "the expression ends too early".to_owned(),
        Some(what) => format!("unexpected {what}"),
        None => said.to_owned(),
    }
}

fn unknown(text: &str, name: &str) -> Flaw {
    let names = FUNCTIONS.iter().map(|(f, _)| *f);
    let near = closest(name, names.clone().chain(BUILT_IN.iter().copied()));
    let hint = match near {
        Some(near) => format!("did you mean {near}?"),
        None => format!(
            "the cluster is read by {}",
            names.collect::<Vec<_>>().join(", ")
        ),
    };
    let offset = text.find(name).unwrap_or(0);
    Flaw::at(
        text,
        offset,
        format!("there is no function {name}"),
        Some(hint),
    )
}

/// The calls of the cluster's functions with their constant arguments.
fn calls(text: &str) -> Result<Vec<Call>, Flaw> {
    let mut found: Vec<Call> = Vec::new();
    for (name, _) in FUNCTIONS {
        for (at, _) in text.match_indices(name) {
            let before = text[..at].chars().next_back();
            let rest = text[at + name.len()..].trim_start();
            let whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
            let Some(rest) = rest.strip_prefix('(').filter(|_| whole) else {
                continue;
            };
            let rest = rest.trim_start();
            let argument = if rest.starts_with(')') {
                String::new()
            } else {
                let quote = rest.chars().next().filter(|c| *c == '\'' || *c == '"');
                let inner = quote.and_then(|q| rest[1..].split_once(q));
                let Some((inner, _)) = inner else {
                    let message = format!("the argument of {name} must be a constant text");
                    let hint = format!("{name}('[namespace/]name')");
                    let offset = text.len() - rest.len();
                    return Err(Flaw::at(text, offset, message, Some(hint)));
                };
                inner.to_owned()
            };
            let call = (*name, argument);
            if !found.contains(&call) {
                found.push(call);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flaws_have_a_place_in_the_text() {
        // text, line and column, a part of what is said
        let table = [
            ("podz('x').size() > 0", (1, 1), "did you mean pod"),
            (
                "1 > 0 &&\n  podz('x').size() > 0",
                (2, 3),
                "no function podz",
            ),
            ("pods(name).size() > 0", (1, 6), "must be a constant text"),
            ("endpoints('web').ready >", (1, 25), "ends too early"),
        ];
        for (text, place, part) in table {
            let flaw = compile(text).expect_err(text);
            assert_eq!((flaw.line, flaw.column), place, "{text}: {flaw}");
            assert!(flaw.to_string().contains(part), "{text}: {flaw}");
        }
    }

    #[test]
    fn calls_are_found_once_with_their_arguments() {
        let text = "pods('a').size() + pods('a').size() > nodes().size() && pod(\"b\").x";
        let (_, calls) = compile(text).expect("it compiles");
        let expected = [("pod", "b"), ("pods", "a"), ("nodes", "")];
        let calls: Vec<(&str, &str)> = calls.iter().map(|(f, a)| (*f, a.as_str())).collect();
        assert_eq!(calls, expected);
    }
}
