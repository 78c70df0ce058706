//! Images of friends and of strangers.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::*;

mod damage;

/// A folder that ends with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("rehearsal-image-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        // Left by a test of a process with the same number, perhaps.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder");
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An archive being written, with names that no well-meant writer would write.
#[derive(Default)]
struct Layer(Vec<u8>);

impl Layer {
    fn put(mut self, kind: EntryType, name: &str, target: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(if kind == EntryType::Directory {
            0o755
        } else {
            0o644
        });
        header.set_uid(u64::from(nix::unistd::geteuid().as_raw()));
        header.set_gid(u64::from(nix::unistd::getegid().as_raw()));
        header.set_mtime(1_000_000_000);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.put(EntryType::Regular, name, "", content.as_bytes())
    }

    fn folder(self, name: &str) -> Self {
        self.put(EntryType::Directory, name, "", b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.put(EntryType::Symlink, name, target, b"")
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.put(EntryType::Link, name, target, b"")
    }

    fn done(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Unpacks layers into `root` in a folder; `outside` lies beside it.
fn unpacked(folder: &Folder, layers: &[Vec<u8>], limits: Limits) -> Result<unpack::Tally, String> {
    let root = folder.0.join("root");
    fs::create_dir(&root).map_err(|e| e.to_string())?;
    let mut unpacker = Unpacker::new(&root, limits).map_err(|e| e.to_string())?;
    for layer in layers {
        unpacker.layer(&mut layer.as_slice())?;
    }
    unpacker.finish()
}

/// Everything below a folder: a name, and a file's content or `-> target`.
fn listing(root: &Path) -> Vec<String> {
    fn walk(at: &Path, name: &str, all: &mut Vec<String>) {
        let known = fs::symlink_metadata(at).expect("it is there");
        if known.is_symlink() {
            let target = fs::read_link(at).expect("a link");
            all.push(format!("{name} -> {}", target.display()));
        } else if known.is_dir() {
            let mut below: Vec<_> = fs::read_dir(at).expect("a folder").flatten().collect();
            below.sort_by_key(fs::DirEntry::file_name);
            all.push(format!("{name}/"));
            for entry in below {
                let own = entry.file_name().to_string_lossy().into_owned();
                walk(&entry.path(), &format!("{name}/{own}"), all);
            }
        } else if known.is_file() {
            let content = fs::read_to_string(at).expect("a text");
            all.push(format!("{name} {content}"));
        } else {
            all.push(format!("{name} {:?}", known.file_type()));
        }
    }
    let mut all = Vec::new();
    walk(root, "", &mut all);
    // The root itself is no news.
    all.split_off(1)
}

#[test]
fn layers_lie_over_each_other() {
    let lower = || {
        Layer::default()
            .folder("a")
            .file("a/one", "1")
            .file("a/two", "2")
            .folder("a/deep")
            .file("a/deep/three", "3")
            .file("gone", "x")
            .link("b", "/a")
    };
    let upper = Layer::default;
    let base = [
        "/a/",
        "/a/deep/",
        "/a/deep/three 3",
        "/a/one 1",
        "/a/two 2",
        "/b -> /a",
        "/gone x",
    ];
    let without = |removed: &[&str], added: &[&str]| -> Vec<String> {
        let kept = base.iter().filter(|line| !removed.contains(line));
        let mut all: Vec<String> = kept.chain(added).map(|l| (*l).to_owned()).collect();
        all.sort();
        all
    };
    let table: Vec<(&str, Layer, Vec<String>)> = vec![
        ("nothing", upper(), without(&[], &[])),
        (
            "a file over a file",
            upper().file("a/one", "new"),
            without(&["/a/one 1"], &["/a/one new"]),
        ),
        (
            "a file over a folder",
            upper().file("a/deep", "flat"),
            without(&["/a/deep/", "/a/deep/three 3"], &["/a/deep flat"]),
        ),
        (
            "a folder over a file",
            upper().folder("gone").file("gone/y", "y"),
            without(&["/gone x"], &["/gone/", "/gone/y y"]),
        ),
        (
            "a folder over a link",
            upper().folder("b").file("b/z", "z"),
            without(&["/b -> /a"], &["/b/", "/b/z z"]),
        ),
        // What lies below a link of a lower layer lies where it leads.
        (
            "through a link",
            upper().file("b/four", "4"),
            without(&[], &["/a/four 4"]),
        ),
        (
            "a whiteout",
            upper().file(".wh.gone", ""),
            without(&["/gone x"], &[]),
        ),
        (
            "a whiteout of a folder",
            upper().file("a/.wh.deep", ""),
            without(&["/a/deep/", "/a/deep/three 3"], &[]),
        ),
        (
            "a whiteout of a link",
            upper().file(".wh.b", ""),
            without(&["/b -> /a"], &[]),
        ),
        (
            "a whiteout of what is not there",
            upper().file("a/.wh.none", ""),
            without(&[], &[]),
        ),
        (
            "a whiteout and the same name",
            upper().file("gone", "new").file(".wh.gone", ""),
            without(&["/gone x"], &["/gone new"]),
        ),
        (
            "an opaque folder, said first",
            upper()
                .folder("a")
                .file("a/.wh..wh..opq", "")
                .file("a/five", "5"),
            without(
                &["/a/one 1", "/a/two 2", "/a/deep/", "/a/deep/three 3"],
                &["/a/five 5"],
            ),
        ),
        (
            "an opaque folder, said last",
            upper()
                .folder("a")
                .file("a/deep/five", "5")
                .file("a/.wh..wh..opq", ""),
            without(
                &["/a/one 1", "/a/two 2", "/a/deep/three 3"],
                &["/a/deep/five 5"],
            ),
        ),
        (
            "what a driver kept",
            upper().file(".wh..wh.plnk", ""),
            without(&[], &[]),
        ),
        (
            "a hard link to a lower layer",
            upper().hard("same", "a/one"),
            without(&[], &["/same 1"]),
        ),
        (
            "a folder that nobody mentions",
            upper().file("x/y/z", "z"),
            without(&[], &["/x/", "/x/y/", "/x/y/z z"]),
        ),
        (
            "through a link to what is not there yet",
            upper().link("run", "var/run").file("run/pid", "1"),
            without(
                &[],
                &["/run -> var/run", "/var/", "/var/run/", "/var/run/pid 1"],
            ),
        ),
    ];
    for (name, upper, expected) in table {
        let folder = Folder::new("layers");
        let layers = [lower().done(), upper.done()];
        unpacked(&folder, &layers, Limits::default()).expect(name);
        let mut found = listing(&folder.0.join("root"));
        found.sort();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn nothing_leaves_the_folder() {
    let table: [(&str, Layer, Option<&str>); 10] = [
        (
            "up",
            Layer::default().file("../outside/new", "x"),
            Some("its path goes up"),
        ),
        (
            "up inside",
            Layer::default().file("a/../../outside/new", "x"),
            Some("its path goes up"),
        ),
        ("absolute", Layer::default().file("/outside/new", "x"), None),
        (
            "through a link up",
            Layer::default().link("l", "../outside").file("l/new", "x"),
            None,
        ),
        (
            "through an absolute link",
            Layer::default()
                .link("l", "/tmp")
                .file("l/rehearsal-escaped", "x"),
            None,
        ),
        (
            "over a link",
            Layer::default().link("l", "../outside/kept").file("l", "x"),
            None,
        ),
        (
            "a hard link to the outside",
            Layer::default().hard("l", "../outside/kept"),
            Some("its path goes up"),
        ),
        (
            "a hard link through a link",
            Layer::default().link("l", "../outside").hard("m", "l/kept"),
            Some("hard link: ENOENT: No such file or directory"),
        ),
        (
            "links in a circle",
            Layer::default()
                .link("l", "m")
                .link("m", "l")
                .file("l/x", "x"),
            Some("Too many levels of symbolic links (os error 40)"),
        ),
        (
            "a whiteout up",
            Layer::default().file(".wh...", ""),
            Some("a whiteout of nothing"),
        ),
    ];
    for (name, layer, expected) in table {
        let folder = Folder::new("hostile");
        let outside = folder.0.join("outside");
        fs::create_dir(&outside).expect("a folder");
        fs::write(outside.join("kept"), "kept").expect("a file");
        let done = unpacked(&folder, &[layer.done()], Limits::default());
        match (done, expected) {
            (Ok(_), None) => {}
            (Err(why), Some(expected)) => assert!(why.ends_with(expected), "{name}: {why}"),
            (other, _) => panic!("{name}: {other:?}"),
        }
        assert_eq!(listing(&outside), ["/kept kept"], "{name}");
        assert!(!Path::new("/tmp/rehearsal-escaped").exists(), "{name}");
    }
}

#[test]
fn devices_are_left_out_and_modes_and_times_kept() {
    let folder = Folder::new("modes");
    let mut layer = Layer::default()
        .put(EntryType::Char, "dev/mem", "", b"")
        .put(EntryType::Block, "dev/sda", "", b"")
        .put(EntryType::Fifo, "pipe", "", b"")
        .folder("shut")
        .file("shut/in", "x");
    // The folder forbids writing, in octal, and is filled afterwards all the same.
    let at = (0..layer.0.len())
        .step_by(512)
        .find(|at| layer.0[*at..].starts_with(b"shut\0"));
    let at = at.expect("its header");
    let mut header = Header::new_gnu();
    header
        .as_mut_bytes()
        .copy_from_slice(&layer.0[at..at + 512]);
    header.set_mode(0o555);
    header.set_cksum();
    layer.0[at..at + 512].copy_from_slice(header.as_bytes());
    let tally = unpacked(&folder, &[layer.done()], Limits::default()).expect("unpacked");
    assert_eq!((tally.devices, tally.entries, tally.bytes), (2, 5, 1));
    let root = folder.0.join("root");
    let known = fs::metadata(root.join("shut")).expect("a folder");
    assert_eq!(
        (known.permissions().mode() & 0o7777, known.mtime()),
        (0o555, 1_000_000_000)
    );
    assert!(root.join("pipe").exists() && !root.join("dev/mem").exists());
    let mut tree = tree::Tree::open(&folder.0).expect("a tree");
    let place = tree.place(Path::new("root")).expect("a place");
    place.remove().expect("removed, although it forbids that");
    assert!(!root.exists());
}

#[test]
fn what_is_unpacked_is_limited() {
    let limits = Limits {
        bytes: 10,
        entries: 3,
    };
    let many = (0..4).fold(Layer::default(), |layer, n| {
        layer.file(&format!("f{n}"), "")
    });
    let large = Layer::default().file("f", "12345").file("g", "123456");
    let table = [
        (many, "f3: more than 3 entries"),
        (large, "g: more than 10 bytes in all"),
    ];
    for (layer, expected) in table {
        let folder = Folder::new("limits");
        let why = unpacked(&folder, &[layer.done()], limits).expect_err(expected);
        assert_eq!(why, expected);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("gzip")
}

fn configuration(layers: &[Vec<u8>]) -> Value {
    let contents: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    json!({
        "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", _ => "arm64" },
        "os": "linux",
        "config": {"Entrypoint": ["/bin/web"], "Cmd": null, "User": "7:8", "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": contents},
    })
}

/// Writes an OCI layout with one image of these layers.
fn layout(at: &Path, layers: &[Vec<u8>]) {
    let blobs = at.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a folder");
    let blob = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).expect("a blob");
        json!({"digest": digest.to_string(), "size": bytes.len()})
    };
    let config = blob(configuration(layers).to_string().as_bytes());
    let stored: Vec<Value> = layers.iter().map(|layer| blob(&gzip(layer))).collect();
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": stored});
    let mut found = blob(manifest.to_string().as_bytes());
    found["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "manifests": [found]});
    fs::write(at.join("index.json"), index.to_string()).expect("an index");
}

/// An archive of `docker save` with one image of these layers.
fn archive(layers: &[Vec<u8>]) -> Vec<u8> {
    let config = configuration(layers).to_string();
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let mut all = Layer::default().file(&name, &config);
    let mut names = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        all = all.put(EntryType::Regular, &format!("{n}/layer.tar"), "", layer);
        // Older versions link to layers that they have written already.
        all = all.link(&format!("{n}x/layer.tar"), &format!("../{n}/layer.tar"));
        names.push(format!("{n}x/layer.tar"));
    }
    let manifest = json!([{"Config": name, "RepoTags": ["shop/web:v1"], "Layers": names}]);
    all.file("manifest.json", &manifest.to_string()).done()
}

fn two_layers() -> [Vec<u8>; 2] {
    [
        Layer::default()
            .file("etc/name", "one")
            .file("old", "x")
            .done(),
        Layer::default()
            .file("etc/name", "two")
            .file(".wh.old", "")
            .done(),
    ]
}

#[test]
fn images_are_read_from_layouts_and_archives() {
    let folder = Folder::new("forms");
    let layers = two_layers();
    layout(&folder.0.join("layout"), &layers);
    fs::write(folder.0.join("saved.tar"), archive(&layers)).expect("an archive");
    fs::write(folder.0.join("saved.tar.gz"), gzip(&archive(&layers))).expect("an archive");
    let cache = Cache::open(&folder.0.join("cache")).expect("a cache");
    let table = [
        (Form::Oci, "layout", Ok(())),
        (Form::Oci, "layout:v1", Ok(())),
        (
            Form::Oci,
            "layout:v2",
            Err("no image is called \"v2\"; there are: v1"),
        ),
        (Form::Docker, "saved.tar", Ok(())),
        (Form::Docker, "saved.tar.gz:shop/web:v1", Ok(())),
        (
            Form::Docker,
            "saved.tar:v2",
            Err("no image is called \"v2\"; there are: shop/web:v1"),
        ),
        (
            Form::Oci,
            "saved.tar",
            Err("no OCI image layout: it has no index.json"),
        ),
    ];
    for (form, text, expected) in table {
        let source = Source::parse(form, text, &folder.0).expect(text);
        match (open(&source, &cache, Limits::default()), expected) {
            (Ok(image), Ok(())) => {
                assert_eq!(
                    listing(&image.held.root),
                    ["/etc/", "/etc/name two"],
                    "{text}"
                );
                let config = image.config;
                assert_eq!(
                    (config.entrypoint, config.user),
                    (vec!["/bin/web".to_owned()], "7:8".to_owned())
                );
            }
            (Err(why), Err(expected)) => assert!(why.ends_with(expected), "{text}: {why}"),
            (other, _) => panic!("{text}: {other:?}"),
        }
    }
    // All of them are one image, unpacked once.
    let kept = fs::read_dir(folder.0.join("cache"))
        .expect("a cache")
        .flatten();
    let kept = kept.filter(|e| e.path().is_dir()).count();
    assert_eq!(kept, 1);
}

#[test]
fn what_is_no_image_is_told_in_plain_words() {
    let why = super::printable("not a number: \u{1b}[2J\0\u{fffd}x");
    assert_eq!(why, "not a number: ?[2J??x");
}

#[test]
fn an_image_of_another_machine_is_refused() {
    let folder = Folder::new("machine");
    let layers = two_layers();
    let config = configuration(&layers)
        .to_string()
        .replace("\"linux\"", "\"plan9\"");
    let manifest = json!([{"Config": "config", "RepoTags": null, "Layers": ["l0", "l1"]}]);
    let all = Layer::default()
        .file("config", &config)
        .file("manifest.json", &manifest.to_string())
        .put(EntryType::Regular, "l0", "", &layers[0])
        .put(EntryType::Regular, "l1", "", &layers[1]);
    fs::write(folder.0.join("saved.tar"), all.done()).expect("an archive");
    let cache = Cache::open(&folder.0.join("cache")).expect("a cache");
    let source = Source::parse(Form::Docker, "saved.tar", &folder.0).expect("an archive");
    let why = open(&source, &cache, Limits::default()).expect_err("another system");
    assert!(why.contains("the image is for plan9/"), "{why}");
}
