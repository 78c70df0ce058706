//! Files of an experiment's results folder: the trials themselves, tables, the summary, pictures.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::plots::plots;
use super::stats::{Cell, Difference, Estimate, compare};
use super::table::explain_metrics;
use crate::record::trials::{Better, Trials};

/// Name of the file with the trials, from which everything else follows.
const TRIALS: &str = "trials.jsonl";

/// A number as CSV has it: at most nine decimals, none for whole numbers.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return if value > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let text = format!("{value:.9}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".into()
    } else {
        text.to_owned()
    }
}

fn csv(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    let write = |writer: &mut csv::Writer<Vec<u8>>, row: &[String]| {
        writer.write_record(row).expect("written to memory");
    };
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    write(&mut writer, &header);
    for row in rows {
        write(&mut writer, &row);
    }
    let bytes = writer.into_inner().expect("written to memory");
    String::from_utf8(bytes).expect("from texts")
}

/// The tables: file name and content.
pub fn csv_files(trials: &Trials) -> Vec<(String, String)> {
    let head = &trials.head;
    let compared = compare(trials);
    let comparison = compared.iter().flat_map(|(metric, cells)| {
        cells.iter().filter_map(|cell| {
            let mut row = vec![metric.name.clone(), head.variants[cell.variant].clone()];
            row.extend(estimate_fields(cell.estimate.as_ref()?));
            row.extend(difference_fields(cell.difference.as_ref()));
            Some(row)
        })
    });
    let comparison = csv(
        &[
            "metric",
            "variant",
            "seeds",
            "mean",
            "sd",
            "ci95_low",
            "ci95_high",
            "min",
            "max",
            "diff_mean",
            "diff_ci95_low",
            "diff_ci95_high",
            "t",
            "p",
            "p_holm",
        ],
        comparison,
    );
    let each = trials.rows.iter().flat_map(|row| {
        head.variants
            .iter()
            .zip(&row.trials)
            .flat_map(|(variant, trial)| {
                trial.metrics.iter().map(|(metric, value)| {
                    vec![
                        row.seed.to_string(),
                        variant.clone(),
                        metric.clone(),
                        number(*value),
                    ]
                })
            })
    });
    let each = csv(&["seed", "variant", "metric", "value"], each);
    let series = trials.rows.iter().flat_map(|row| {
        head.variants
            .iter()
            .zip(&row.trials)
            .flat_map(|(variant, trial)| {
                trial.series.iter().map(|point| {
                    vec![
                        row.seed.to_string(),
                        variant.clone(),
                        number(point.at),
                        number(point.allocated),
                        number(point.fragmented),
                    ]
                })
            })
    });
    let columns = ["seed", "variant", "at", "allocated", "fragmented"];
    vec![
        ("comparison.csv".into(), comparison),
        ("series.csv".into(), csv(&columns, series)),
        ("trials.csv".into(), each),
    ]
}

fn estimate_fields(e: &Estimate) -> [String; 7] {
    let numbers = [
        e.mean,
        e.deviation,
        e.mean - e.half,
        e.mean + e.half,
        e.least,
        e.most,
    ];
    let [mean, sd, low, high, least, most] = numbers.map(number);
    [e.n.to_string(), mean, sd, low, high, least, most]
}

fn difference_fields(difference: Option<&Difference>) -> [String; 6] {
    let Some(d) = difference else {
        return Default::default();
    };
    let e = &d.estimate;
    let [mean, low, high, t] = [e.mean, e.mean - e.half, e.mean + e.half, d.t].map(number);
    [
        mean,
        low,
        high,
        t,
        format!("{:.3e}", d.p),
        format!("{:.3e}", d.p_holm),
    ]
}

/// The summary as one JSON object.
pub fn summary_json(trials: &Trials) -> Value {
    let head = &trials.head;
    let cell = |cell: &Cell| {
        let e = cell.estimate?;
        let mut object = json!({
            "variant": head.variants[cell.variant],
            "seeds": e.n,
            "mean": e.mean,
            "sd": e.deviation,
            "ci95": [e.mean - e.half, e.mean + e.half],
            "min": e.least,
            "max": e.most,
        });
        if let Some(d) = &cell.difference {
            let e = &d.estimate;
            object["difference"] = json!({
                "mean": e.mean,
                "ci95": [e.mean - e.half, e.mean + e.half],
                "t": if d.t.is_finite() { json!(d.t) } else { Value::Null },
                "p": d.p,
                "p_holm": d.p_holm,
            });
        }
        Some(object)
    };
    let metrics: Vec<Value> = (compare(trials).iter())
        .map(|(metric, cells)| {
            json!({
                "name": metric.name,
                "meaning": metric.meaning,
                "better": match metric.better {
                    Better::Higher => "higher",
                    Better::Lower => "lower",
                    Better::Neither => "neither",
                },
                "variants": cells.iter().filter_map(cell).collect::<Vec<_>>(),
            })
        })
        .collect();
    let divergences = trials.rows.iter().flat_map(|row| {
        row.divergences.iter().map(|divergence| {
            let mut value = serde_json::to_value(divergence).unwrap_or_default();
            value["seed"] = json!(row.seed);
            value
        })
    });
    json!({
        "experiment": head.experiment,
        "file": head.file,
        "digest": head.digest,
        "workload": head.workload,
        "variants": head.variants,
        "seeds": trials.rows.iter().map(|row| row.seed).collect::<Vec<_>>(),
        "method": "mean and 95% interval by Student's t over seeds; differences from the first \
                   variant by paired t-test over seeds, p_holm after Holm's correction",
        "metrics": metrics,
        "divergences": divergences.collect::<Vec<_>>(),
    })
}

/// Writes the results folder. One that is there already is replaced file by file; a folder that is
/// something else is refused.
///
/// # Errors
/// What the system says.
pub fn write(trials: &Trials, dir: &Path) -> io::Result<()> {
    let foreign = dir.is_dir() && fs::read_dir(dir)?.next().is_some() && !dir.join(TRIALS).exists();
    let shares = || -> io::Result<bool> {
        let mut names = fs::read_dir(dir)?.flatten().map(|entry| entry.file_name());
        Ok(names.any(|name| name.to_string_lossy().starts_with("shard-")))
    };
    if foreign && !shares()? {
        let message = "it is there already and holds no experiment";
        return Err(io::Error::other(message));
    }
    let plots_dir = dir.join("plots");
    fs::create_dir_all(&plots_dir)?;
    for (name, svg) in plots(trials) {
        put(&plots_dir.join(name), svg.as_bytes())?;
    }
    for (name, text) in csv_files(trials) {
        put(&dir.join(name), text.as_bytes())?;
    }
    let mut summary = serde_json::to_vec_pretty(&summary_json(trials))?;
    summary.push(b'\n');
    put(&dir.join("summary.json"), &summary)?;
    put(&dir.join("table.txt"), super::table(trials).as_bytes())?;
    put(
        &dir.join("metrics.txt"),
        explain_metrics(&trials.head.metrics).as_bytes(),
    )?;
    put(&dir.join(TRIALS), trials.to_lines().as_bytes())
}

/// Writes a file beside the wanted place first, so that nobody sees half of it.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    fs::write(&beside, bytes)?;
    fs::rename(&beside, path)
}
