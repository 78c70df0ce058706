//! What the reader as a whole promises, as tables of text.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;

use super::*;

fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    parse_documents(FileId(0), text.as_bytes(), &Limits::default())
}

/// Compares the documents, as JSON joined by `;`, or the error as printed.
fn check(text: &str, expected: &str) {
    let got = match parse(text) {
        Ok(nodes) => nodes
            .iter()
            .map(|node| node.to_json().to_string())
            .collect::<Vec<_>>()
            .join(";"),
        Err(error) => format!("error {error}"),
    };
    assert_eq!(got, expected, "{text}");
}

#[test]
fn documents_are_cut_at_separators_and_empty_ones_skipped() {
    check("", "");
    check("# only a comment\n", "");
    check("---\n---\n# c\n---\na: 1\n---\n", r#"{"a":1}"#);
    check("a: 1\n--- # next\nb: 2", r#"{"a":1};{"b":2}"#);
    check("a: 1\r\n---\r\nb: 2\r\n", r#"{"a":1};{"b":2}"#);
    check("\u{feff}a: 1", r#"{"a":1}"#);
    check("a: |\n  x\n  y", r#"{"a":"x\ny\n"}"#);
    check(
        "{\"a\":1}\n{\"b\":\"\\/\"} {\"c\":1.0}",
        r#"{"a":1};{"b":"/"};{"c":1.0}"#,
    );
    check("{\"a\":1}\n---\nb: 2", r#"{"a":1};{"b":2}"#);
    check("{a: b}", r#"{"a":"b"}"#);
    check("~\n---\na: 1", r#"{"a":1}"#);
}

#[test]
fn scalars_mean_what_kubectl_takes_them_for() {
    check(
        "[yes, Off, y, N, ~, null, '', \"no\"]",
        r#"[true,false,true,false,null,null,"","no"]"#,
    );
    check(
        "[0644, 0o17, 0x1F, 0b11, 1_000, -0b11, +1]",
        "[420,15,31,3,1000,-3,1]",
    );
    check(
        "[1e3, 1.5, .5, .1_5, 3.0, 1e400, 1:30]",
        r#"[1000,1.5,0.5,0.15,3,"1e400","1:30"]"#,
    );
    check(
        "[18446744073709551615, 18446744073709551616]",
        "[18446744073709551615,1.8446744073709552e+19]",
    );
    check(
        "[2001-12-14, 1.2.3, 0x, 08]",
        r#"["2001-12-14","1.2.3","0x",8]"#,
    );
    check(
        "[!!str 1, !!int '3', !!binary aGk=, !x y, ! 1]",
        r#"["1",3,"hi","y","1"]"#,
    );
    check(
        "{yes: a, 1e7: b, 0x10: c, 1.5: d}",
        r#"{"true":"a","1e+07":"b","16":"c","1.5":"d"}"#,
    );
}

#[test]
fn merge_keys_and_aliases_are_expanded() {
    check(
        "a: &x {k: 1}\nb: {<<: *x, l: 2}",
        r#"{"a":{"k":1},"b":{"k":1,"l":2}}"#,
    );
    check(
        "a: &x {k: 1}\nb: &y {l: 2}\nc: {<<: [*x, *y], m: 3}",
        r#"{"a":{"k":1},"b":{"l":2},"c":{"l":2,"k":1,"m":3}}"#,
    );
    check("{<<: {k: 1}, '<<': 2}", r#"{"k":1,"<<":2}"#);
    check("- &a x\n- *a\n- &a z\n- *a", r#"["x","x","z","z"]"#);
    check(
        "a: &x [1]\n<<: *x",
        "error 1:4: map merge requires map or sequence of maps as the value",
    );
    check(
        "a: &x {k: 1}\nb: {k: 2, <<: *x}",
        "error 2:11: key \"k\" already set in map (it is first set at 2:5)",
    );
    check(
        "a: &a [*a]",
        "error 1:8: the anchored value contains itself",
    );
}

#[test]
fn a_broken_text_is_refused_with_place_and_hint() {
    for (text, expected) in [
        (
            "a: 1\nb: 2\na: 3",
            "3:1: key \"a\" already set in map (it is first set at 1:1)",
        ),
        (
            "{\"a\": 1, \"a\": 2}",
            "1:10: key \"a\" already set in map (it is first set at 1:2)",
        ),
        (
            "a: b: c",
            "1:5: mapping values are not allowed in this context (quote a value that \
          contains `: `, or check the indentation)",
        ),
        (
            "a:\n\tb: 1",
            "2:1: found character that cannot start any token (indent with spaces, not \
          tabs; quote a value that begins with @, ` or %)",
        ),
        (
            "a: 1\nb: \"x\nc: 2",
            "2:4: found unexpected end of stream (a quote is not closed)",
        ),
        (
            "a:\n  - b\n - c",
            "3:2: did not find expected key (check the indentation of \
          this line and of those above it)",
        ),
        (
            "a: *x",
            "1:4: unknown anchor referenced (quote a value that begins with * or &)",
        ),
        (
            "name: {{ .Values.name }}",
            "1:8: invalid map key: a map cannot be a key (a template such \
          as {{ .Values.x }} must be rendered first, or be quoted)",
        ),
        ("a: .inf", "1:4: json: unsupported value: +Inf"),
        ("~: a", "1:1: null cannot be a map key"),
        ("a: !!int x", "1:4: cannot decode !!str `x` as a !!int"),
        (
            "a: 1\n--- b",
            "2:1: invalid Yaml document separator: b (kubectl wants `---` alone on its \
          line)",
        ),
        (
            "a: 1\nb: \u{0}",
            "2:4: control characters are not allowed (is this a text file?)",
        ),
        (
            "{\"a\": [}",
            "1:8: invalid character '}' looking for beginning of value",
        ),
    ] {
        check(text, &format!("error {expected}"));
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    for (bytes, expected) in [
        (
            &b"a: 1\nb: \xFF"[..],
            "2:4: invalid UTF-8 (is this a text file?)",
        ),
        (
            &b"\xFF\xFEa\0"[..],
            "1:1: the file is UTF-16 (save it as UTF-8)",
        ),
    ] {
        let error = parse_documents(FileId(0), bytes, &Limits::default()).expect_err("no YAML");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn limits_stop_files_that_would_fill_memory_or_stack() {
    // Nine levels of nine aliases: 387 million values. go-yaml's rule stops them at the fourth
    // level: of its 1 + 10 + 9 × 11 + … steps more than 99 % come from aliases.
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(",");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    check(&bomb, "error 4:22: document contains excessive aliasing");
    let deep = "error 1:251: nested deeper than 250 levels";
    check(&"[".repeat(1_000_000), deep);
    check(
        &"{\"a\":".repeat(100_000),
        "error 1:1256: nested deeper than 250 levels",
    );
    check(
        &"- ".repeat(100_000),
        "error 1:501: nested deeper than 250 levels",
    );
    check(&format!("{}{}", "[".repeat(250), "]".repeat(250)), &{
        format!("{}{}", "[".repeat(250), "]".repeat(250))
    });
    let small = Limits {
        max_bytes: 100,
        max_nodes: 10,
        ..Limits::default()
    };
    let error = |text: &str| {
        let result = parse_documents(FileId(0), text.as_bytes(), &small);
        result.expect_err("over the limit").to_string()
    };
    assert_eq!(
        error(&"a".repeat(101)),
        "1:1: the file has more than 100 bytes (split it)"
    );
    // The document counts as one value, the list as another.
    assert_eq!(
        error("[1,2,3,4,5,6,7,8,9]"),
        "1:18: more than 10 values in one file (split it)"
    );
    assert_eq!(
        error("- &a [1,2]\n- *a\n- *a"),
        "2:3: more than 10 values in one file (split it)"
    );
}

#[test]
fn every_value_knows_its_place() {
    let nodes = parse("# c\na:\n  b: [x, {c: 1}]\n---\nd: 2\n").expect("valid");
    for (node, path, line, column) in [
        (0, "", 2, 1),
        (0, "a", 3, 3),
        (0, "a.b", 3, 6),
        (0, "a.b[0]", 3, 7),
        (0, "a.?.b.1.c", 3, 14),
        (1, "d", 5, 4),
    ] {
        let found = nodes[node].at(path).map(|node| node.span);
        assert_eq!(found, Some(Span::new(FileId(0), line, column)), "{path}");
    }
}

#[test]
fn unknown_fields_are_returned_with_place_and_suggestion() {
    let text =
        "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - name: a\n    imagePulPolicy: x\n";
    let nodes = parse(text).expect("valid");
    let (pod, unknown) = decode::<Pod>(&nodes[0]).expect("decodes");
    assert_eq!(pod.spec.expect("spec").containers[0].name, "a");
    assert_eq!(unknown.len(), 1);
    assert_eq!(unknown[0].path, "spec.containers[0].imagePulPolicy");
    assert_eq!(unknown[0].span, Span::new(FileId(0), 6, 5));
    assert_eq!(unknown[0].suggestion.as_deref(), Some("imagePullPolicy"));
}

#[test]
fn a_wrong_value_is_named_by_place_and_path() {
    for (text, expected) in [
        (
            "spec:\n  replicas: many\n",
            "2:13: spec.replicas: invalid type: string \"many\", expected i32",
        ),
        (
            "metadata:\n  labels: {a: yes}\n",
            "2:15: metadata.labels.a: invalid type: boolean `true`, expected a string \
             (yes, no, on, off, y, n are booleans: quote them)",
        ),
        (
            "apiVersion: v1\nkind: Deployment\n",
            "1:13: apiVersion: invalid value: string \"v1\", expected apps/v1",
        ),
        (
            "metadata: []\n",
            "1:11: metadata: invalid type: sequence, expected ObjectMeta",
        ),
    ] {
        let nodes = parse(text).expect("valid");
        let error = decode::<Deployment>(&nodes[0]).expect_err("does not decode");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn paths_reach_keys_that_contain_separators() {
    let text = "metadata:\n  labels: {app.io/a.b: x, app: {io/a: z}}\nspec: {a: [{b: 1}], 'c[0]': 2, .d: 3, '[e': 4}";
    let node = &parse(text).expect("valid")[0];
    for (path, expected) in [
        ("metadata.labels.app.io/a.b", Some("\"x\"")),
        ("metadata.labels[app.io/a.b]", Some("\"x\"")),
        ("metadata.labels.app.io/a", Some("\"z\"")),
        ("spec.a[0].b", Some("1")),
        ("spec.?.a.0.?.b", Some("1")),
        ("spec.c[0]", Some("2")),
        ("spec..d", Some("3")),
        ("spec.[e", Some("4")),
        ("spec.a[1]", None),
        ("spec.a.b", None),
        ("spec.a[0].b.c", None),
    ] {
        let found = node.at(path).map(|node| node.to_json().to_string());
        assert_eq!(found.as_deref(), expected, "{path}");
    }
    assert_eq!(
        node.key_span_at("spec.a[0].b"),
        Some(Span::new(FileId(0), 3, 13))
    );
    assert_eq!(
        node.nearest_span("spec.a[0].missing.x"),
        Span::new(FileId(0), 3, 12)
    );
}

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Model {
    name: String,
    count: Option<u8>,
    ratio: Option<f64>,
    mode: Option<Mode>,
    by_port: Option<std::collections::BTreeMap<u16, bool>>,
}

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
enum Mode {
    Exit,
    Drain(String),
    Slow { after: String },
}

#[test]
fn derived_types_decode_or_say_where_and_why_not() {
    for (text, expected) in [
        ("name: a\nmode: exit", "mode: Some(Exit)"),
        ("name: a\nmode: {drain: 10s}", "mode: Some(Drain(\"10s\"))"),
        (
            "name: a\nmode: {slow: {after: 1s}}",
            "mode: Some(Slow { after: \"1s\" })",
        ),
        ("name: a\nmode: null", "mode: None"),
        ("name: a\nratio: 1", "ratio: Some(1.0)"),
        ("name: a\ncount: 3.0", "count: Some(3)"),
        ("name: a\nbyPort: {80: yes}", "by_port: Some({80: true})"),
        ("name: ~", "name: \"\""),
        ("count: 3", "error 1:1: missing field \"name\""),
        (
            "name: a\ncount: 300",
            "error 2:8: count: invalid value: integer `300`, expected u8",
        ),
        (
            "name: a\ncount: 1.5",
            "error 2:8: count: invalid type: floating point `1.5`, expected u8",
        ),
        (
            "name: a\ncuont: 3",
            "error 2:1: cuont: unknown field \"cuont\" (did you mean \"count\"?)",
        ),
        (
            "name: 5",
            "error 1:7: name: invalid type: integer `5`, expected a string (quote it)",
        ),
        (
            "name: a\nmode: on",
            "error 2:7: mode: invalid type: boolean `true`, expected enum Mode \
             (yes, no, on, off, y, n are booleans: quote them)",
        ),
        (
            "name: a\nmode: exti",
            "error 2:7: mode: unknown value \"exti\", expected one of: \"exit\", \"drain\", \
             \"slow\" (did you mean \"exit\"?)",
        ),
        (
            "name: a\nmode: drain",
            "error 2:7: mode: \"drain\" needs content: `drain: …`",
        ),
        (
            "name: a\nmode: {drain: [1]}",
            "error 2:15: mode.drain: invalid type: sequence, expected a string",
        ),
        (
            "name: a\nmode: {slow: {}}",
            "error 2:14: mode.slow: missing field \"after\"",
        ),
        (
            "name: a\nbyPort: {http: yes}",
            "error 2:10: byPort.http: invalid type: string \"http\", expected u16",
        ),
    ] {
        let node = &parse(text).expect("valid")[0];
        let got = match decode::<Model>(node) {
            Ok((model, _)) => format!("{model:?}"),
            Err(error) => format!("error {error}"),
        };
        let fits = if expected.starts_with("error") {
            got == expected
        } else {
            got.contains(expected)
        };
        assert!(fits, "{text}\nwant {expected}\ngot  {got}");
    }
}

#[test]
fn null_leaves_generated_fields_at_their_zero_value() {
    let text = "spec: {containers: [~, {name: ~, ports: ~}], nodeSelector: {a: ~}, priority: ~}";
    let node = &parse(text).expect("valid")[0];
    let (pod, unknown) = decode::<Pod>(node).expect("decodes");
    let spec = pod.spec.expect("spec");
    assert_eq!(spec.containers.len(), 2);
    assert_eq!(spec.node_selector.expect("selector")["a"], "");
    assert_eq!(unknown, []);
}
