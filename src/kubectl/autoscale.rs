//! `kubectl autoscale`: an autoscaler for a workload, from flags.
//!
//! A port of `staging/src/k8s.io/kubectl/pkg/cmd/autoscale/autoscale.go`.

use serde_json::{Map, Value, json};

use super::edit::{Action, Target, printed_name};
use super::refusal::refusal;
use super::verb::ParseError;
use super::words::Words;
use crate::api::decode::{DecodeContext, decode_json};
use crate::api::quantity::Quantity;
use crate::api::{Row, Text};
use crate::store::{ApiError, Write};

/// The long names of its flags.
pub const FLAGS: [&str; 7] = [
    "namespace",
    "min",
    "max",
    "cpu",
    "cpu-percent",
    "memory",
    "name",
];

/// Flags of `autoscale`.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoscaleFlags {
    /// `--min`, when it is above 0.
    pub min: Option<i32>,
    /// `--max`.
    pub max: i32,
    /// Resources with the targets of their metrics.
    pub metrics: Vec<(Text, Value)>,
    /// `--name`; by default that of the workload.
    pub name: Option<Text>,
}

/// Reads the flags.
///
/// # Errors
/// In kubectl's words.
pub fn flags(words: &Words) -> Result<AutoscaleFlags, ParseError> {
    let narrow = |n: i64| i32::try_from(n).unwrap_or(if n < 0 { -1 } else { i32::MAX });
    let number = |name: &str| words.number(name).map(|n| n.map(narrow));
    let at = |name: &str| words.value(name).map_or(words.end(), |(_, at)| at);
    let (min, max) = (number("min")?, number("max")?.unwrap_or(-1));
    if max < 1 {
        let message = format!("--max=MAXPODS is required and must be at least 1, max: {max}");
        return Err(ParseError::new(message, at("max")));
    }
    if let Some(min) = min.filter(|min| max < *min) {
        let message = format!(
            "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {max}, min: {min}"
        );
        return Err(ParseError::new(message, at("max")));
    }
    let percent = number("cpu-percent")?.filter(|percent| *percent > 0);
    if percent.is_some() && words.value("cpu").is_some() {
        let message = "--cpu-percent and --cpu are mutually exclusive";
        return Err(ParseError::new(message, at("cpu-percent")));
    }
    let mut metrics = Vec::new();
    if let Some(percent) = percent {
        metrics.push((Text::from("cpu"), utilization(percent)));
    }
    for (resource, unit) in [("cpu", "m"), ("memory", "Mi")] {
        if let Some((text, at)) = words.value(resource) {
            let target = target(text, unit).map_err(|why| ParseError::new(why, at))?;
            metrics.push((Text::from(resource), target));
        }
    }
    Ok(AutoscaleFlags {
        min: min.filter(|min| *min > 0),
        max,
        metrics,
        name: words.value("name").map(|(name, _)| Text::from(name)),
    })
}

fn utilization(percent: i32) -> Value {
    json!({"type": "Utilization", "averageUtilization": percent})
}

/// `parseResourceInput`: `70%`, an amount, or a bare number in the resource's usual unit.
fn target(text: &str, unit: &str) -> Result<Value, String> {
    let text = text.trim();
    if let Some(percent) = text.strip_suffix('%') {
        let percent: i32 = percent
            .parse()
            .map_err(|_| format!("failed to parse percentage value: \"{text}\""))?;
        return Ok(utilization(percent));
    }
    let amount = match text.parse::<f64>() {
        Ok(_) => format!("{text}{unit}"),
        Err(_) => text.to_owned(),
    };
    match Quantity::parse(&amount) {
        Ok(_) => Ok(json!({"type": "AverageValue", "averageValue": amount})),
        Err(why) => Err(format!("failed to parse quantity \"{text}\": {why}")),
    }
}

/// The autoscaler of a workload.
///
/// # Errors
/// In kubectl's words.
pub(super) fn action(target: &Target, row: &Row, flags: &AutoscaleFlags) -> Result<Action, String> {
    if !matches!(
        row,
        Row::Deployment(_) | Row::ReplicaSet(_) | Row::StatefulSet(_)
    ) {
        let kind = row.kind().name();
        return Err(format!(
            "error: cannot autoscale a {kind}: the server could not find the requested resource"
        ));
    }
    let (kind, meta) = (row.kind(), row.meta());
    let mut spec = Map::new();
    let reference = json!({
        "apiVersion": kind.api_version(), "kind": kind.name(), "name": meta.name.as_str(),
    });
    spec.insert("scaleTargetRef".to_owned(), reference);
    if let Some(min) = flags.min {
        spec.insert("minReplicas".to_owned(), json!(min));
    }
    spec.insert("maxReplicas".to_owned(), json!(flags.max));
    let metrics = flags.metrics.iter().map(|(name, target)| {
        json!({"type": "Resource", "resource": {"name": name.as_str(), "target": target}})
    });
    let metrics: Vec<Value> = metrics.collect();
    if !metrics.is_empty() {
        spec.insert("metrics".to_owned(), metrics.into());
    }
    let name = flags.name.as_ref().unwrap_or(&meta.name);
    let object = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name.as_str(), "namespace": meta.namespace.as_str()},
        "spec": spec,
    });
    let decoded = decode_json(&object, &DecodeContext::default()).map_err(|problems| {
        let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!(
            "error: failed to create HorizontalPodAutoscaler for {}: {}",
            target.name,
            refusal(&ApiError::invalid(row, list))
        )
    })?;
    let line = format!("{} autoscaled", printed_name(&decoded.row));
    Ok(Action::Write(Write::Create(decoded.row), line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::{Verb, parse};

    fn flags_of(line: &str) -> Result<AutoscaleFlags, String> {
        match parse(line, "default") {
            Ok(Verb::Autoscale(_, flags)) => Ok(flags),
            Ok(verb) => panic!("{verb:?}"),
            Err(error) => Err(error.message),
        }
    }

    #[test]
    fn flags_become_metrics() {
        let table = [
            ("--max=10", json!(null)),
            (
                "--max 10 --cpu=70%",
                json!({"cpu": {"averageUtilization": 70}}),
            ),
            (
                "--max=10 --cpu-percent=50",
                json!({"cpu": {"averageUtilization": 50}}),
            ),
            (
                "--max=10 --cpu=500",
                json!({"cpu": {"averageValue": "500m"}}),
            ),
            (
                "--max=10 --cpu=1 --memory 2Gi",
                json!({"cpu": {"averageValue": "1m"}, "memory": {"averageValue": "2Gi"}}),
            ),
        ];
        for (line, expected) in table {
            let line = format!("autoscale deployment web --min=2 {line}");
            let flags = flags_of(&line).expect("good flags");
            assert_eq!((flags.min, flags.max), (Some(2), 10));
            for (resource, mut target) in flags.metrics {
                target.as_object_mut().expect("a target").remove("type");
                assert_eq!(target, expected[resource.as_str()], "{line}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_kubectls_words() {
        let table = [
            (
                "",
                "--max=MAXPODS is required and must be at least 1, max: -1",
            ),
            (
                "--max=2 --min=3",
                "--max=MAXPODS must be larger or equal to --min=MINPODS, max: 2, min: 3",
            ),
            (
                "--max=2 --cpu=1 --cpu-percent=50",
                "--cpu-percent and --cpu are mutually exclusive",
            ),
            (
                "--max=2 --cpu=x%",
                "failed to parse percentage value: \"x%\"",
            ),
        ];
        for (line, expected) in table {
            let line = format!("autoscale deployment/web {line}");
            assert_eq!(flags_of(&line), Err(expected.to_owned()), "{line}");
        }
    }
}
