//! Images of files, from the archive to the running container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rehearsal::backend::linux::image::digest::Digest;
use rehearsal::backend::linux::plan::images::{Image, Images};
use rehearsal::backend::linux::plan::taken;
use rehearsal::backend::linux::spawn::CellProcess;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::bench::Bench;
use super::inventory::Inventory;
use super::{alone, possible, program};

/// A folder that ends with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Left by an earlier run of the test.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

type Layer = Builder<Vec<u8>>;

fn put(layer: &mut Layer, path: &str, mode: u32, owner: u64, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_mtime(0);
    header.set_cksum();
    let path = path.trim_start_matches('/');
    layer
        .append_data(&mut header, path, content)
        .expect("an entry");
}

/// This host's shell, with the libraries that it needs: those of this very process.
fn shell(layer: &mut Layer) {
    put(
        layer,
        "/bin/sh",
        0o755,
        0,
        &fs::read("/bin/sh").expect("a shell"),
    );
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc");
    let mut known: Vec<&str> = maps
        .lines()
        .filter_map(|l| l.split_whitespace().nth(5))
        .collect();
    known.sort_unstable();
    known.dedup();
    for path in known
        .into_iter()
        .filter(|p| p.contains("/libc.so") || p.contains("/ld-linux"))
    {
        let content = fs::read(path).expect("a library");
        put(layer, path, 0o755, 0, &content);
        let name = path.rsplit('/').next().expect("a name");
        if name.starts_with("ld-linux") {
            put(layer, &format!("lib64/{name}"), 0o755, 0, &content);
            put(layer, &format!("lib/{name}"), 0o755, 0, &content);
        }
    }
}

/// An OCI layout of an image with a shell, whose second layer takes something away.
fn layout(at: &Path, config: &Value) {
    let blobs = at.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a folder");
    let blob = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).expect("a blob");
        json!({"digest": digest.to_string(), "size": bytes.len()})
    };
    let mut lower = Builder::new(Vec::new());
    shell(&mut lower);
    put(
        &mut lower,
        "etc/passwd",
        0o644,
        0,
        b"web:x:101:102::/srv/web:/bin/sh\n",
    );
    put(&mut lower, "etc/group", 0o644, 0, b"logs:x:7:web\n");
    put(&mut lower, "srv/web/own", 0o600, 101, b"mine\n");
    put(&mut lower, "srv/others", 0o600, 0, b"theirs\n");
    put(&mut lower, "srv/old", 0o644, 0, b"old\n");
    let mut link = Header::new_gnu();
    link.set_entry_type(EntryType::Symlink);
    link.set_size(0);
    link.set_mode(0o777);
    link.set_uid(0);
    link.set_gid(0);
    link.set_mtime(0);
    lower
        .append_link(&mut link, "var", "/../../../../tmp")
        .expect("a link");
    let mut upper = Builder::new(Vec::new());
    put(&mut upper, "srv/.wh.old", 0o644, 0, b"");
    put(&mut upper, "var/through", 0o644, 0, b"x");
    let layers = [lower, upper].map(|layer| layer.into_inner().expect("a layer"));
    let contents: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    let rootfs = json!({"type": "layers", "diff_ids": contents});
    let config = json!({"os": "linux", "config": config, "rootfs": rootfs});
    let config = blob(config.to_string().as_bytes());
    let stored: Vec<Value> = layers.iter().map(|layer| blob(layer)).collect();
    let manifest = blob(
        json!({"config": config, "layers": stored})
            .to_string()
            .as_bytes(),
    );
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(at.join("index.json"), index.to_string()).expect("an index");
}

fn config() -> Value {
    json!({
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["exit 9"], "Env": ["KIND=image", "PATH=/bin"],
        "WorkingDir": "/srv/work", "User": "web",
    })
}

#[test]
fn an_image_runs_as_its_configuration_says() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let folder = Folder::new("image-runs");
    layout(&folder.0.join("web"), &config());
    let before = Inventory::take();
    let mut images = Images::new(Some(folder.0.join("cache")));
    images
        .add(&format!("web:*=oci:{}", folder.0.join("web").display()))
        .expect("an image");
    let Image::Root(root, from) = images.get("web:1") else {
        panic!("the built-in server");
    };
    let kept: Vec<PathBuf> = images.folders().map(PathBuf::from).collect();
    let cell = CellProcess::start_beside(&program(), &kept).expect("a cell");
    let mut bench = Bench::of(cell);
    let table = [
        (json!({}), 9),
        (
            json!({"args": ["test $KIND:$HOME:$HOSTNAME:$PWD = image:/srv/web:pod-one:/srv/work"]}),
            0,
        ),
        (
            json!({"args": ["read x < /srv/web/own && test $x = mine"]}),
            0,
        ),
        (
            json!({"args": ["test ! -r /srv/others && test ! -e /srv/old"]}),
            0,
        ),
        (json!({"args": ["test -e /tmp/through && test -L /var"]}), 0),
        (
            json!({"args": ["test ! -e /usr/bin/env && test ! -e /.rehearsal"]}),
            0,
        ),
        (
            json!({"args": ["while read k v r; do test $k = Uid: && u=$v; test $k = Gid: && g=$v; \
                             test $k = Groups: && s=$v; done < /proc/self/status; \
                             test $u:$g:$s = 101:102:7"]}),
            0,
        ),
        (
            json!({"command": ["/bin/sh", "-c", "exit 4"], "workingDir": "/"}),
            4,
        ),
    ];
    for (container, code) in table {
        let mut spec = bench.spec("");
        let home = taken::user(&from, &json!({}), &container, &mut spec.rights);
        let home = home.expect("a user");
        let own = Vec::new();
        spec.program =
            taken::program(root.clone(), &from.config, &container, &own).expect("a program");
        spec.env = taken::environment(&from.config, "pod-one", &home, own);
        assert_eq!(
            bench.run(&spec).0,
            code,
            "{container}: {:?}",
            bench.problems
        );
    }
    // What one container writes is not there for the next one, nor in the cache.
    let write = json!({"command": ["/bin/sh", "-c", "echo x > /new; test -e /new"]});
    for _ in 0..2 {
        let mut spec = bench.spec("");
        spec.program = taken::program(root.clone(), &from.config, &write, &[]).expect("a program");
        assert_eq!(bench.run(&spec).0, 0, "{:?}", bench.problems);
        assert!(!kept[0].join("new").exists());
    }
    drop((bench, images));
    before.is_back();
}

fn rehearsal(arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .output()
        .expect("the program runs")
}

fn scenario(folder: &Folder, from: &str) -> String {
    let text = format!(
        "apiVersion: rehearsal.dev/v1\nkind: Scenario\nmetadata: {{name: images}}\nspec:\n  seed: 1\n  \
         duration: 1s\n  cluster:\n    nodePools:\n    - {{name: node, count: 1, capacity: {{cpu: \"1\", \
         memory: 1Gi, pods: \"10\"}}}}\n  linux:\n    images:\n    - name: web:*\n      from: {from}\n  \
         expect:\n  - {{name: runs, wait: {{for: condition=Ready, resource: pod/web, timeout: \
         1s}}}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers:\n  - name: main\n    \
         image: web:1\n    args: [\"echo $KIND; while :; do read x < /pipe; done\"]\n    \
         readinessProbe: {{periodSeconds: 1, exec: {{command: [/bin/sh, -c, \"test $KIND = image\"]}}}}\n"
    );
    let path = folder.0.join("scenario.yaml");
    fs::write(&path, text).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_scenario_says_where_its_images_are() {
    if !possible() {
        return;
    }
    let _alone = alone();
    let folder = Folder::new("image-scenario");
    layout(&folder.0.join("web"), &config());
    let file = scenario(&folder, "oci:web");
    let cache = folder.0.join("cache").display().to_string();
    let out = folder.0.join("out").display().to_string();
    let arguments = [
        "run",
        &file,
        "--backend",
        "linux",
        "--image-cache",
        &cache,
        "--out",
        &out,
    ];
    let output = rehearsal(&arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let log = fs::read_to_string(folder.0.join("out/logs/default_web_main_0.log")).expect("a log");
    assert!(log.contains("stdout F image"), "{log}");
}

#[test]
fn an_image_that_is_not_there_is_told_with_its_place() {
    let _alone = alone();
    let folder = Folder::new("image-missing");
    let file = scenario(&folder, "oci:none");
    let cache = folder.0.join("cache").display().to_string();
    let arguments = [
        "run",
        &file,
        "--backend",
        "linux",
        "--image-cache",
        &cache,
        "--no-out",
    ];
    let output = rehearsal(&arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    for words in [
        "scenario.yaml:13:13",
        "none: no such file or folder",
        "image \"web:*\"",
    ] {
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
    // A simulated run does without, and says so.
    let output = rehearsal(&["run", &file, "--no-out"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("real runs need it"), "{error}");
}
