//! Runs of a user who is not root, in a user namespace.
//!
//! The tests need root to become somebody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{alone, possible, program};

/// A user that no host has.
const USER: &str = "64123";

/// A folder that everybody can read, with the program in it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let name = format!("rehearsal-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a folder");
        let place = Place(folder);
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&place.0, open.clone()).expect("a mode");
        let copy = place.0.join("rehearsal");
        fs::copy(program(), &copy).expect("a copy");
        fs::set_permissions(&copy, open).expect("a mode");
        place
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("a file");
    }

    /// Runs a script as root of a private mount namespace; `$AS` runs a program as the user.
    fn run(&self, script: &str) -> Output {
        let user = format!(
            "setpriv --reuid {USER} --regid {USER} --clear-groups --inh-caps=-all --no-new-privs"
        );
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", script])
            .env("AS", user)
            .env("HOME", "/nonexistent")
            .current_dir(&self.0)
            .output()
            .expect("unshare")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(output: &Output) -> String {
    let parts = [&output.stdout, &output.stderr];
    parts
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .concat()
}

/// A web server with probes, and a job of the host's programs that asks for another user.
const SCENARIO: &str = "\
apiVersion: rehearsal.dev/v1
kind: Scenario
metadata: {name: rootless}
spec:
  seed: 1
  duration: 4s
  cluster:
    nodePools:
    - {name: node, count: 1, capacity: {cpu: \"1\", memory: 1Gi, pods: \"10\"}}
  linux:
    images:
    - {name: \"own:*\", from: \"host:\"}
  expect:
  - {name: serves, wait: {for: condition=Ready, resource: pod/web, timeout: 1s}}
  - {name: works, wait: {for: \"jsonpath={.status.phase}=Succeeded\", resource: pod/own, timeout: 4s}}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: main
    image: web:1
    ports: [{containerPort: 8080}]
    resources: {limits: {memory: 64Mi, cpu: 100m}}
    readinessProbe: {periodSeconds: 1, httpGet: {path: /, port: 8080}}
---
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  restartPolicy: Never
  securityContext: {runAsUser: 1000, fsGroup: 7}
  containers:
  - name: main
    image: own:1
    command: [sh, -c, \"test $(id -u) = 0 && grep -q 'CapEff:.0000000000000000' /proc/self/status && echo x > /tmp/x && ! mount -t tmpfs x /tmp\"]
";

#[test]
fn without_root_a_run_has_a_user_namespace_and_says_what_it_lacks() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let place = Place::new("rootless");
    place.put("scenario.yaml", SCENARIO);
    let output = place.run("$AS ./rehearsal run scenario.yaml --backend linux --no-out");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let user = format!("degraded: without root, in a user namespace: user {USER} is root there");
    for words in [user.as_str(), "degraded: no cgroup may be made"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    // With a device that everybody may open, as on most hosts, the network is whole.
    let tun = "mknod tun c 10 200; chmod 666 tun; mount --bind tun /dev/net/tun;";
    if Path::new("/dev/net/tun").exists() {
        let output = place.run(&format!(
            "{tun} $AS ./rehearsal run --backend linux --check-host"
        ));
        let said = text(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let row = |name: &str, grade: &str| {
            let found = said.lines().any(|line| {
                let mut words = line
                    .strip_prefix(name)
                    .unwrap_or_default()
                    .split_whitespace();
                words.next() == Some(grade)
            });
            assert!(found, "{name} {grade}: {said}");
        };
        row("network", "ok");
        row("container", "ok");
        row("exec probe", "ok");
        row("user namespace", "degraded");
        row("cgroups", "degraded");
    }
}

#[test]
fn a_host_without_user_namespaces_says_what_to_do() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let place = Place::new("refused");
    place.put("scenario.yaml", SCENARIO);
    // In a user namespace that allows no further ones, its root gives up its rights.
    let script = "exec unshare --user --map-root-user sh -ec '
        echo 0 > /proc/sys/user/max_user_namespaces
        exec setpriv --bounding-set=-all --inh-caps=-all ./rehearsal run scenario.yaml \
            --backend linux --no-out'";
    let output = place.run(script);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    for words in [
        "private namespaces need root, and without root a user namespace",
        "user.max_user_namespaces",
        "or use --backend sim",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
}
