//! Every scenario of the repository loads, and means what it says.

use std::time::Duration;

use super::{json_of, load, render, repository};
use crate::engine::Dist;
use crate::fault::{Action, Mode};
use crate::load::model::{Executor, OnSigterm};
use crate::scenario::{Form, LoadOptions, Scenario, StepAction, StepItem};

#[test]
fn every_scenario_of_the_repository_loads_without_a_warning() {
    let loaded = match load(&[repository()], &LoadOptions::default()) {
        Ok(loaded) => loaded,
        Err(rejected) => panic!("{}", rejected.render(false)),
    };
    let warnings = render(&loaded.warnings, &loaded.sources, false);
    assert!(loaded.warnings.is_empty(), "{warnings}");
    assert!(loaded.scenarios.len() >= 15, "{}", loaded.scenarios.len());
}

fn example() -> Scenario {
    let file = repository().join("node-loss-during-rollout.yaml");
    match load(&[file], &LoadOptions::default()) {
        Ok(mut loaded) => loaded.scenarios.remove(0),
        Err(rejected) => panic!("{}", rejected.render(false)),
    }
}

#[test]
fn the_first_example_is_edited_and_complete() {
    let s = example();
    assert_eq!((s.seed, s.duration), (42, Duration::from_secs(900)));
    assert_eq!(
        (s.cluster.pools[0].count, s.cluster.pools[0].zones.len()),
        (6, 3)
    );
    let frontend = json_of(&s, "Deployment", "frontend");
    assert_eq!(frontend["spec"]["replicas"], 6);
    assert_eq!(frontend["spec"]["strategy"]["rollingUpdate"]["maxSurge"], 1);
    let pod = &frontend["spec"]["template"]["spec"];
    // The patch merged into the container of this name and left the rest of it alone.
    assert_eq!(
        pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"],
        10
    );
    assert!(pod["containers"][0]["image"].is_string());
    // What others need stands in front.
    assert_eq!(s.objects[0].json["kind"], "Namespace");
}

#[test]
fn the_steps_of_the_first_example_are_a_command_and_a_fault() {
    let s = example();
    let [first, second] = s.timeline.as_slice() else {
        panic!("{} steps", s.timeline.len());
    };
    assert_eq!(first.at, Duration::from_secs(180));
    match &first.action {
        StepAction::Kubectl(step) => {
            assert_eq!(
                step.line,
                "set image deployment/frontend server=frontend:v2"
            );
        }
        StepAction::Apply(_) => panic!("a command"),
    }
    assert_eq!(second.at, Duration::from_secs(220));
    match &second.action {
        StepAction::Apply(items) => match items.as_slice() {
            [StepItem::Fault(fault)] => {
                assert_eq!((&fault.action, fault.mode), (&Action::PowerOff, Mode::One));
                assert_eq!(fault.duration, Some(Duration::from_secs(480)));
                let of = fault.selector.pods_of.as_ref().expect("podsOf");
                assert_eq!(
                    (of.kind.as_str(), of.namespace.as_str()),
                    ("Deployment", "shop")
                );
            }
            _ => panic!("one fault"),
        },
        StepAction::Kubectl(_) => panic!("a fault"),
    }
    let forms: Vec<&str> = (s.expect.iter())
        .map(|expectation| match expectation.form {
            Form::Wait { .. } => "wait",
            Form::Always(_) => "always",
            Form::Never(_) => "never",
            Form::Eventually(..) => "eventually",
        })
        .collect();
    for form in ["wait", "always", "eventually"] {
        assert!(forms.contains(&form), "{form}: {forms:?}");
    }
}

#[test]
fn the_application_and_the_traffic_of_the_first_example_are_typed() {
    let s = example();
    let app = &s.apps[0];
    let seconds = Duration::from_secs;
    assert_eq!(app.image_pull, Some(Dist::Fixed(seconds(6))));
    assert_eq!(
        app.startup,
        Dist::LogNormal {
            p50: seconds(4),
            p99: seconds(9)
        }
    );
    assert_eq!(
        (app.on_sigterm, app.request.calls.len()),
        (OnSigterm::Exit, 2)
    );
    assert_eq!(app.warmup.expect("a warm-up").factor_milli, 4000);
    assert_eq!(app.request.calls[0].client.retries, 1);
    let traffic = &s.traffic[0];
    assert_eq!(traffic.client.timeout, seconds(2));
    match &traffic.executor {
        Executor::RampingArrivalRate { stages, .. } => assert_eq!(stages[1].target, 500),
        other => panic!("{other:?}"),
    }
    let thresholds: Vec<String> = s
        .thresholds
        .iter()
        .map(|t| format!("{} {}", t.metric, t.expression))
        .collect();
    assert_eq!(
        thresholds,
        ["http_req_failed rate<0.001", "http_req_duration p(99)<300"]
    );
}

#[test]
fn the_digest_covers_the_input_and_not_the_seed() {
    let file = repository().join("plain-node-loss.yaml");
    let digest = |options: &LoadOptions| {
        let loaded = load(std::slice::from_ref(&file), options).expect("it loads");
        (loaded.scenarios[0].digest, loaded.scenarios[0].seed)
    };
    let plain = digest(&LoadOptions::default());
    let seeded = digest(&LoadOptions {
        seed: Some(9),
        ..LoadOptions::default()
    });
    assert_eq!((seeded.0, seeded.1, plain.1), (plain.0, 9, 1));
    let resources = Some(vec![repository().join("gallery/manifests/G01-web.yaml")]);
    let other = digest(&LoadOptions {
        resources,
        ..LoadOptions::default()
    });
    assert_ne!(other.0, plain.0);
}
