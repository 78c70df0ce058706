//! Images whose files are not what their digests say.

use super::*;

#[test]
fn damage_is_found_wherever_it_is() {
    let layers = two_layers();
    let damage = |name: &str, how: &dyn Fn(&Path)| {
        let folder = Folder::new("damage");
        layout(&folder.0, &layers);
        how(&folder.0);
        let cache = Cache::open(&folder.0.join("cache")).expect("a cache");
        let source = Source::parse(Form::Oci, "", &folder.0);
        assert!(source.is_err(), "{name}: nothing was named");
        let source = Source::parse(Form::Oci, ".", &folder.0).expect("a layout");
        let why = open(&source, &cache, Limits::default()).expect_err(name);
        assert!(
            !fs::read_dir(folder.0.join("cache"))
                .expect("a cache")
                .flatten()
                .any(|e| e.path().is_dir())
        );
        why
    };
    let blob = |at: &Path, bytes: &[u8]| at.join("blobs/sha256").join(Digest::of(bytes).hex());
    let layer = gzip(&layers[1]);
    let other = gzip(&Layer::default().file("etc/name", "bad").done());
    let same_length = |at: &Path| {
        let mut bytes = layer.clone();
        // The time in gzip's header, which no checksum of gzip's covers.
        bytes[4] ^= 1;
        fs::write(blob(at, &layer), bytes).expect("written");
    };
    let why = damage("a byte", &same_length);
    assert!(
        why.contains("layer 2") && why.contains("the blob is damaged"),
        "{why}"
    );
    let cut = |at: &Path| fs::write(blob(at, &layer), &layer[..40]).expect("written");
    assert!(damage("a cut", &cut).contains("40 bytes instead of"));
    let swapped = |at: &Path| fs::write(blob(at, &layer), &other).expect("written");
    let why = damage("another layer", &swapped);
    assert!(
        why.contains("bytes instead of") || why.contains("is damaged"),
        "{why}"
    );
    let gone = |at: &Path| fs::remove_file(blob(at, &layer)).expect("removed");
    assert!(damage("no layer", &gone).ends_with("No such file or directory (os error 2)"));
    let config = configuration(&layers).to_string();
    let edited = config.replace("A=b", "A=c");
    let changed = |at: &Path| fs::write(blob(at, config.as_bytes()), &edited).expect("written");
    assert!(damage("another configuration", &changed).contains("is damaged: its bytes are"));
    let index = |at: &Path| fs::write(at.join("index.json"), "{\"manifests\": [").expect("written");
    assert!(damage("half an index", &index).contains("index.json: EOF while parsing"));
}

#[test]
fn damage_is_found_in_files_of_an_image_that_is_in_the_cache() {
    let folder = Folder::new("later");
    let layers = two_layers();
    let saved = folder.0.join("saved.tar");
    fs::write(&saved, archive(&layers)).expect("an archive");
    let cache = Cache::open(&folder.0.join("cache")).expect("a cache");
    let source = Source::parse(Form::Docker, "saved.tar", &folder.0).expect("an archive");
    let open = || open(&source, &cache, Limits::default());
    let lines = |image: &Image| {
        let list = image.held.root.with_file_name("verified");
        fs::read_to_string(list).expect("a list").lines().count()
    };
    let image = open().expect("an image");
    assert_eq!(lines(&image), 1);
    // Nobody has written to it: it is known.
    open().expect("an image");
    assert_eq!(lines(&image), 1);
    // The same bytes in another file are held against their digests once more.
    fs::remove_file(&saved).expect("removed");
    fs::write(&saved, archive(&layers)).expect("an archive");
    open().expect("an image");
    assert_eq!(lines(&image), 2);
    let mut bytes = archive(&layers);
    // The second file of the archive is the first layer: its header, its first file's header, and
    // then what is in that file.
    let at = bytes
        .windows(4)
        .position(|w| w == b"one\0")
        .expect("a file");
    bytes[at] = b'0';
    fs::write(&saved, &bytes).expect("written");
    let why = open().expect_err("damaged");
    assert!(
        why.contains("layer 1") && why.contains("the layer is damaged"),
        "{why}"
    );
    assert_eq!(lines(&image), 2);
    // A copy without its layers is not an image, whatever the cache holds.
    fs::write(&saved, &bytes[..1024]).expect("written");
    assert!(open().is_err());
}
