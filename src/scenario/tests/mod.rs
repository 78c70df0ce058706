//! Scenarios from text, from files that are wrong, and from the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{LoadOptions, Loaded, Scenario, load, render};

mod faults;
mod hostile;
mod http_chaos;
mod kustomize;
mod repository;
mod validate;
mod wrong;

/// A folder of its own that goes away with it.
struct Folder(PathBuf);

static FOLDERS: AtomicU32 = AtomicU32::new(0);

impl Folder {
    /// A folder with these files.
    fn new(files: &[(&str, &str)]) -> Folder {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("rehearsal-scenario-{}-{number}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).expect("a folder for the test");
        for (name, text) in files {
            folder.write(name, text.as_bytes());
        }
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file for the test");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn load(&self, name: &str, options: &LoadOptions) -> Result<Loaded, String> {
        load(&[self.path(name)], options).map_err(|rejected| {
            let text = rejected.render(false);
            text.replace(&format!("{}/", self.0.display()), "")
        })
    }

    /// The one scenario of a file.
    fn scenario(&self, name: &str) -> Scenario {
        let mut loaded = match self.load(name, &LoadOptions::default()) {
            Ok(loaded) => loaded,
            Err(text) => panic!("{text}"),
        };
        loaded.scenarios.remove(0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A Deployment, a Service, and a scenario with them; `spec` lines are added to the scenario.
fn with_web(spec: &str) -> String {
    format!(
        "\
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {{name: test}}
spec:
  duration: 10m
  cluster:
    nodePools:
    - {{name: main, count: 3, zones: [a, b], capacity: {{cpu: '4', memory: 8Gi}}}}
{spec}---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: server, image: web:1}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}
"
    )
}

/// The JSON of an object.
fn json_of<'s>(scenario: &'s Scenario, kind: &str, name: &str) -> &'s serde_json::Value {
    let found = scenario
        .objects
        .iter()
        .find(|object| object.json["kind"] == kind && object.json["metadata"]["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {kind} {name}"));
    &found.json
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}
