//! Arguments of the plugins that the reference version does not have.

use serde::Deserialize;
use serde_json::Value;

use super::PolicyArgs;
use crate::sched::plugin::PluginName;
use crate::sched::plugins::gpu::GpuRequest;
use crate::sched::plugins::gpu::fgd::TypicalPod;
use crate::sched::plugins::gpu::score::{Dimensions, Norm};
use crate::sched::plugins::gpu::share::Selection;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ShareWritten {
    gpu_sel_method: Option<String>,
    dim_ext_method: Option<String>,
    norm_method: Option<String>,
    typical_pods: Option<Vec<TypicalWritten>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TypicalWritten {
    cpu_milli: i64,
    #[serde(default)]
    num_gpu: u32,
    #[serde(default)]
    gpu_milli: i64,
    weight: u64,
}

/// Where, and what is wrong there.
type Mistaken = (String, String);

/// Reads the arguments of a policy into `args`.
pub(super) fn read(
    plugin: PluginName,
    value: &Value,
    path: &str,
    args: &mut PolicyArgs,
) -> Result<(), Mistaken> {
    let written: ShareWritten = serde_json::from_value(value.clone())
        .map_err(|error| (path.to_owned(), error.to_string()))?;
    let takes: &[&str] = match plugin {
        PluginName::GpuShare => &["gpuSelMethod", "dimExtMethod", "normMethod", "typicalPods"],
        PluginName::DotProductScore => &["dimExtMethod", "normMethod"],
        PluginName::FGDScore => &["typicalPods"],
        _ => &[],
    };
    for key in value
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys())
    {
        if !takes.contains(&key.as_str()) {
            let name = plugin.name();
            return Err((path.to_owned(), format!("{name} has no argument `{key}`")));
        }
    }
    if let Some(word) = &written.gpu_sel_method {
        args.selection = match word.as_str() {
            "best" => Selection::Best,
            "worst" => Selection::Worst,
            "random" => Selection::Random,
            "DotProductScore" => Selection::DotProduct,
            "FGDScore" => Selection::Fgd,
            other => return Err(unsupported(path, "gpuSelMethod", other)),
        };
    }
    if let Some(word) = &written.dim_ext_method {
        args.vectors.dimensions = match word.as_str() {
            "merge" => Dimensions::Merge,
            "share" => Dimensions::Share,
            "divide" => Dimensions::Divide,
            other => return Err(unsupported(path, "dimExtMethod", other)),
        };
    }
    if let Some(word) = &written.norm_method {
        args.vectors.norm = match word.as_str() {
            "max" => Norm::Max,
            "node" => Norm::Node,
            "pod" => Norm::Pod,
            other => return Err(unsupported(path, "normMethod", other)),
        };
    }
    for (i, pod) in written.typical_pods.iter().flatten().enumerate() {
        let sound = pod.cpu_milli >= 0
            && (0..=1000).contains(&pod.gpu_milli)
            && (1..=1_000_000_000).contains(&pod.weight);
        if !sound {
            let what =
                "cpuMilli must not be negative, gpuMilli is 0 to 1000, weight 1 to 1000000000";
            return Err((format!("{path}.typicalPods[{i}]"), what.to_owned()));
        }
        args.typical_pods.push(TypicalPod {
            cpu: pod.cpu_milli,
            gpu: GpuRequest {
                count: pod.num_gpu,
                milli: pod.gpu_milli,
                models: 0,
            },
            weight: pod.weight,
        });
    }
    Ok(())
}

fn unsupported(path: &str, key: &str, word: &str) -> Mistaken {
    (
        format!("{path}.{key}"),
        format!("Unsupported value: \"{word}\""),
    )
}
