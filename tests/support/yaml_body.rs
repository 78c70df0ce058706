//! What must hold for any bytes given to the YAML reader. The saved corpus, its seeded mutations
//! and the fuzzer all run this.

use k8s_openapi::api::core::v1::Pod;
use rehearsal::api::patch;
use rehearsal::api::yaml::{
    FileId, Limits, Node, Span, YamlError, decode, parse_document, parse_documents, write,
};

/// Reads the bytes in every way and checks what comes out.
///
/// # Panics
/// When something that must hold does not.
pub fn exercise(bytes: &[u8]) {
    let limits = Limits {
        max_bytes: 1 << 20,
        max_depth: 60,
        max_nodes: 20_000,
    };
    match parse_document(FileId(3), bytes, &limits) {
        Ok(node) => check_node(&node, bytes),
        Err(error) => check_error(&error, bytes),
    }
    match parse_documents(FileId(3), bytes, &limits) {
        Ok(nodes) => nodes.iter().for_each(|node| check_node(node, bytes)),
        Err(error) => check_error(&error, bytes),
    }
}

fn check_error(error: &YamlError, bytes: &[u8]) {
    assert!(!error.message.is_empty());
    check_span(error.span, bytes);
}

/// A place lies in the file, the line after its end included.
fn check_span(span: Span, bytes: &[u8]) {
    // A break is at most one per byte, whatever characters count as one.
    let lines = bytes.len() + 2;
    assert_eq!(span.file, FileId(3));
    assert!(span.line >= 1 && span.line as usize <= lines, "{span}");
    assert!(
        span.column >= 1 && span.column as usize <= bytes.len() + 2,
        "{span}"
    );
}

fn check_node(node: &Node, bytes: &[u8]) {
    check_spans(node, bytes);
    let json = node.to_json();
    assert!(
        Node::from_json(&json, Span::NONE).same(node),
        "JSON keeps the value: {json}"
    );
    let text = write(&json).unwrap_or_else(|error| panic!("{json}: {error}"));
    let again = parse_document(FileId(0), text.as_bytes(), &Limits::default());
    let same = again.is_ok_and(|again| again.same(node));
    assert!(same, "{json} is written as {text:?}");
    if let Ok((_, unknown)) = decode::<Pod>(node) {
        for field in unknown {
            check_span(field.span, bytes);
            assert!(
                node.at(&field.path).is_some(),
                "{} leads to the field",
                field.path
            );
        }
    }
    let mut patched = node.clone();
    if patch::apply(&mut patched, node).is_err() {
        assert_eq!(&patched, node, "a patch that fails changes nothing");
    }
}

fn check_spans(node: &Node, bytes: &[u8]) {
    check_span(node.span, bytes);
    for item in node.as_list().unwrap_or_default() {
        check_spans(item, bytes);
    }
    for entry in node.as_map().into_iter().flat_map(|map| map.values()) {
        check_span(entry.key_span, bytes);
        check_spans(&entry.node, bytes);
    }
}
