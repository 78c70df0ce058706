//! Files that nobody meant to be read end in a message, soon, and never in a crash.

use std::fs::File;

use super::{Folder, with_web};
use crate::scenario::LoadOptions;

#[track_caller]
fn refused(folder: &Folder, expected: &str) {
    let text = folder
        .load("s.yaml", &LoadOptions::default())
        .expect_err(expected);
    assert!(text.contains(expected), "{expected}\n{text}");
    assert!(text.len() < 100_000, "{} bytes of messages", text.len());
}

#[test]
fn a_file_of_100_megabytes_is_refused_by_its_size() {
    let folder = Folder::new(&[("s.yaml", &with_web("  resources: [big.yaml]\n"))]);
    let file = File::create(folder.path("big.yaml")).expect("a file");
    file.set_len(100 << 20).expect("a hole of 100 MB");
    refused(&folder, "more than 67108864 bytes");
}

#[test]
fn binary_junk_and_utf_16_are_no_text() {
    for bytes in [
        &b"\x7fELF\x02\x01\x01\0\0\0"[..],
        b"\xff\xfea\0:\0",
        b"\x80\x81\x82",
        b"a: \0",
    ] {
        let folder = Folder::new(&[]);
        folder.write("s.yaml", bytes);
        refused(&folder, "s.yaml:1:");
    }
}

#[test]
fn aliases_that_grow_without_end_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let before = n - 1;
        let ten = vec![format!("*a{before}"); 10].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{ten}]\n"));
    }
    refused(&Folder::new(&[("s.yaml", &text)]), "s.yaml:");
}

#[test]
fn deep_nesting_is_refused() {
    let text = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    refused(&Folder::new(&[("s.yaml", &text)]), "s.yaml:1:");
    let text = with_web(&format!(
        "  patches: [{{patch: '{}'}}]\n",
        "[".repeat(50_000)
    ));
    refused(&Folder::new(&[("s.yaml", &text)]), "patch at");
}

#[test]
fn folders_in_place_of_files_are_refused() {
    let folder = Folder::new(&[
        ("s.yaml", &with_web("  patches: [{path: d}]\n")),
        ("d/x", ""),
    ]);
    refused(&folder, "cannot read d: is a directory");
}

#[test]
fn links_to_folders_are_not_followed() {
    let folder = Folder::new(&[
        ("s.yaml", &with_web("  resources: [d]\n")),
        (
            "d/x.yaml",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n",
        ),
    ]);
    std::os::unix::fs::symlink("../d", folder.path("d/loop")).expect("a link");
    let s = folder.scenario("s.yaml");
    let namespaces = s.objects.iter().filter(|o| o.json["kind"] == "Namespace");
    assert_eq!(namespaces.count(), 1);
}

/// A text with a byte taken out, or cut off, is read or refused.
#[test]
fn damaged_scenarios_never_crash_the_reader() {
    let text = with_web(
        "  patches:
  - target: {kind: Deployment}
    patch: |
      spec: {replicas: 3}
  timeline:
  - {at: 1m, kubectl: scale deployment/web --replicas=1}
  - at: 2m
    apply: [{apiVersion: rehearsal.dev/v1, kind: NodeChaos, metadata: {name: f},
      spec: {action: power-off, mode: one, selector: {podsOf: deployment/web}}}]
  expect: [{name: e, always: \"endpoints('web').ready >= 1\"}]
",
    );
    let folder = Folder::new(&[]);
    for at in (0..text.len()).step_by(3) {
        let mut damaged = text.clone().into_bytes();
        damaged.remove(at);
        folder.write("s.yaml", &damaged);
        drop(folder.load("s.yaml", &LoadOptions::default()));
        if at % 5 == 0 {
            folder.write("s.yaml", &text.as_bytes()[..at]);
            drop(folder.load("s.yaml", &LoadOptions::default()));
        }
    }
}
