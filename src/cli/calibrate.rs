//! `rehearsal calibrate`: what this host takes, as a section of a scenario.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::exit;

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rehearsal calibrate
  rehearsal calibrate --pods 100 --out host.yaml")]
pub struct CalibrateArguments {
    /// So many pods come and go
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(4..=1000))]
    pods: u32,
    /// Writes the sections into a file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Pods come up, are probed and asked, are replaced, and go.
#[cfg(target_os = "linux")]
fn scenario(pods: u32) -> String {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let probe = "periodSeconds: 1, timeoutSeconds: 5";
    format!(
        "apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {{name: calibration}}
spec:
  kubernetesVersion: \"1.36\"
  seed: 1
  duration: 14s
  cluster:
    nodePools:
    - {{name: node, count: 2, capacity: {{cpu: \"{cores}\", memory: 16Gi, pods: \"1000\"}}}}
    flags:
      kube-proxy: {{nftables-min-sync-period: 100ms}}
  timeline:
  - {{at: 2s, kubectl: scale deployment/web --replicas={pods}}}
  - {{at: 8s, kubectl: scale deployment/web --replicas=2}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: web}},
  spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}}}
---
{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{replicas: 2,
  selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{
  terminationGracePeriodSeconds: 5, containers: [{{name: main, image: \"registry.example/web:1\",
  ports: [{{containerPort: 8080}}], resources: {{requests: {{cpu: 1m, memory: 1Mi}}}},
  readinessProbe: {{httpGet: {{path: /, port: 8080}}, {probe}}},
  livenessProbe: {{exec: {{command: [probe]}}, {probe}}}}}]}}}}}}}}
---
{{apiVersion: rehearsal.dev/v1, kind: AppModel, metadata: {{name: web}}, spec: {{
  selector: {{matchLabels: {{app: web}}}}, imagePull: 50ms, startup: 50ms, onSIGTERM: exit,
  probes: {{share: dedicated, dedicated: 1us}}, memory: {{base: 1Mi, perRequest: 0}},
  request: {{cpu: 100us}}}}}}
---
{{apiVersion: rehearsal.dev/v1, kind: Traffic, metadata: {{name: users}}, spec: {{
  to: service/web:80, executor: constant-arrival-rate, rate: 50, duration: 13s,
  client: {{keepAlive: true, timeout: 5s}}}}}}
"
    )
}

/// Measures, fits, compares, prints.
#[cfg(target_os = "linux")]
pub fn main(arguments: &CalibrateArguments) -> ExitCode {
    match measure(arguments) {
        Ok(text) => {
            print!("{text}");
            let Some(path) = &arguments.out else {
                return ExitCode::SUCCESS;
            };
            match std::fs::write(path, &text) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("error: {}: {error}", path.display());
                    ExitCode::from(exit::INPUT)
                }
            }
        }
        Err(why) => {
            eprintln!("error: {why}");
            eprintln!("hint: rehearsal run --backend linux --check-host says what works here");
            ExitCode::from(exit::HOST)
        }
    }
}

#[cfg(target_os = "linux")]
fn measure(arguments: &CalibrateArguments) -> Result<String, String> {
    use crate::backend::linux::timings::Doing;
    use crate::backend::linux::{Linux, LinuxOptions};
    use crate::check::calibrate::{Calibration, Measured};
    use crate::check::{On, RunOptions, run_on};
    use crate::scenario::{LoadOptions, load_bytes};
    let text = scenario(arguments.pods);
    let loaded = load_bytes(
        "calibration.yaml".as_ref(),
        text.as_bytes(),
        &LoadOptions::default(),
    );
    let mut loaded = loaded.map_err(|rejected| rejected.render(false))?;
    let mut scenario = loaded.scenarios.remove(0);
    let mut stop = |_, _| false;
    let mut options = RunOptions {
        stop: &mut stop,
        arguments: Vec::new(),
    };
    eprintln!(
        "{} pods come and go on this host: 14 s, after the first have come up",
        arguments.pods
    );
    let mut linux = Linux::start(&scenario, LinuxOptions::default())?;
    let real = run_on(&scenario, &mut options, On::Linux(&mut linux), &mut ());
    let real = real.map_err(|error| format!("{error:?}"))?.record;
    let measured = |doing| Measured::of(&linux.timings().spans(doing));
    let mut found = Calibration {
        sandbox: measured(Doing::Sandbox),
        start: measured(Doing::Start),
        remove: measured(Doing::Remove),
        exec: measured(Doing::Exec),
        sync: measured(Doing::Sync),
        way: None,
    };
    let mut lines: Vec<String> = Doing::ALL
        .iter()
        .filter_map(|doing| {
            let of = measured(*doing)?;
            Some(format!(
                "# {:<22} {:>6} times  p50 {:>9.1?}  p99 {:>9.1?}",
                doing.name(),
                of.count,
                of.p50,
                of.p99
            ))
        })
        .collect();
    drop(linux);
    let latency = &mut scenario.cluster.latency;
    latency.sandbox = found.sandbox.map(|m| m.dist());
    latency.start = found.start.map(|m| m.dist());
    latency.remove = found.remove.map(|m| m.dist());
    latency.endpoint_sync = found.sync.map(|m| m.p50);
    let simulated = run_on(&scenario, &mut options, On::Simulation, &mut ());
    let simulated = simulated.map_err(|error| format!("{error:?}"))?.record;
    found.way = way(&simulated, &real);
    lines.push("#".to_owned());
    lines.extend(comparison(&simulated, &real));
    let degraded = real
        .header
        .degraded
        .iter()
        .map(|text| format!("# note: {text}"));
    lines.extend(degraded);
    Ok(format!("{}\n{}", lines.join("\n"), found.yaml()))
}

/// What a real request takes longer than a simulated one.
#[cfg(target_os = "linux")]
fn way(
    simulated: &crate::record::RunRecord,
    real: &crate::record::RunRecord,
) -> Option<std::time::Duration> {
    let p50 = |run: &crate::record::RunRecord| run.traffic.first().map(|t| t.ok_p50_us);
    let more = p50(real)?.checked_sub(p50(simulated)?)?;
    (more > 0).then(|| std::time::Duration::from_micros(more))
}

/// The same run with these spans, beside the real one.
#[cfg(target_os = "linux")]
fn comparison(
    simulated: &crate::record::RunRecord,
    real: &crate::record::RunRecord,
) -> Vec<String> {
    use crate::check::calibrate::{Measured, Milestone, milestones};
    let ms = |of: Option<Measured>| of.map_or(0.0, |of| of.p50.as_secs_f64() * 1e3);
    let mut lines = vec![format!(
        "# {:<32} {:>12} {:>12}",
        "medians", "simulated", "real"
    )];
    for (what, from, to) in [
        (
            "scheduled to started",
            Milestone::Scheduled,
            Milestone::Started,
        ),
        ("deleted to gone", Milestone::Terminating, Milestone::Gone),
    ] {
        let of = |run| ms(Measured::of(&milestones(run, from, to)));
        let (a, b) = (of(simulated), of(real));
        lines.push(format!("# {what:<32} {a:>10.1}ms {b:>10.1}ms"));
    }
    let of = |run: &crate::record::RunRecord| {
        run.traffic
            .first()
            .map_or(0.0, |t| t.ok_p50_us as f64 / 1e3)
    };
    let (a, b) = (of(simulated), of(real));
    lines.push(format!(
        "# {:<32} {a:>10.1}ms {b:>10.1}ms",
        "answers to users"
    ));
    lines
}

/// Needs Linux.
#[cfg(not(target_os = "linux"))]
pub fn main(_: &CalibrateArguments) -> ExitCode {
    eprintln!("error: calibrate measures the linux backend, which needs Linux");
    ExitCode::from(exit::HOST)
}
