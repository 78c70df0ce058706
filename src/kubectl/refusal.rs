//! How kubectl prints what the API server refuses.
//!
//! `staging/src/k8s.io/kubectl/pkg/cmd/util/helpers.go :: checkErr`: an invalid object is named
//! with its causes line by line, anything else has its reason in front.

use crate::store::ApiError;

/// The error as kubectl prints it.
pub fn refusal(error: &ApiError) -> String {
    match error {
        ApiError::Invalid { kind, name, causes } => {
            let kind = kind.split_once('.').map_or(kind.as_str(), |(kind, _)| kind);
            let mut unique: Vec<&str> = Vec::new();
            for cause in causes {
                if !unique.contains(&cause.as_str()) {
                    unique.push(cause);
                }
            }
            if kind.is_empty() {
                return format!("The request is invalid: {}", unique.join(", "));
            }
            match unique.as_slice() {
                [one] => format!("The {kind} \"{name}\" is invalid: {one}"),
                many => format!("The {kind} \"{name}\" is invalid:\n* {}", many.join("\n* ")),
            }
        }
        ApiError::Unprocessable(why) => format!("The request is invalid: {why}"),
        ApiError::Unreachable => format!("Unable to connect to the server: {error}"),
        ApiError::Refused => {
            "The connection to the server was refused - did you specify the right host or port?"
                .to_owned()
        }
        error if error.reason().is_empty() => format!("Error from server: {error}"),
        error => format!("Error from server ({}): {error}", error.reason()),
    }
}
