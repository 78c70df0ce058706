//! HTTPChaos as Chaos Mesh writes it.

use std::time::Duration;

use super::faults::chaos_mesh;
use crate::fault::{Action, HttpFault};

fn read(spec: &str) -> Result<HttpFault, String> {
    let spec = format!("mode: all, selector: {{}}, {spec}");
    match chaos_mesh("HTTPChaos", &spec)?.action {
        Action::Http(what) => Ok(what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rule_says_what_is_taken_and_what_is_done_to_it() {
    let request = HttpFault {
        port: 80,
        ..HttpFault::default()
    };
    let answer = HttpFault {
        response: true,
        ..request.clone()
    };
    let second = Duration::from_secs(1);
    let table = [
        (
            "target: Request, port: 80, method: GET, path: /api, abort: true",
            HttpFault {
                method: Some("GET".into()),
                path: Some("/api".into()),
                abort: true,
                ..request.clone()
            },
            "HTTP requests aborted",
        ),
        (
            "target: Request, port: 80, path: '*', delay: 1s, replace: {code: 500, path: /x}",
            HttpFault {
                path: Some("*".into()),
                delay: second,
                ..request.clone()
            },
            "HTTP requests delayed",
        ),
        (
            "target: Response, port: 80, code: 200, delay: 1000ms, replace: {code: 404, body: aGk=}, \
             patch: {headers: [[Token, one]], body: {type: JSON, value: '{}'}}",
            HttpFault {
                code: Some(200),
                delay: second,
                replace_code: Some(404),
                ..answer
            },
            "HTTP status replaced",
        ),
    ];
    for (spec, expected, name) in table {
        let what = read(spec).expect(spec);
        assert_eq!((what.name(), &what), (name, &expected), "{spec}");
    }
}

#[test]
fn what_cannot_be_meant_is_told_with_its_place() {
    for (spec, expected) in [
        ("port: 80, abort: true", "Required value"),
        (
            "target: Body, port: 80, abort: true",
            "Unsupported value: \"Body\"",
        ),
        ("target: Request, abort: true", "Required value"),
        (
            "target: Request, port: 0, abort: true",
            "port 0 is not supported",
        ),
        (
            "target: Request, port: 70000, abort: true",
            "port 70000 is not supported",
        ),
        (
            "target: Request, port: 80, method: FETCH",
            "method FETCH is not supported",
        ),
        (
            "target: Response, port: 80, code: 99",
            "must be an HTTP status, 100 to 599",
        ),
        (
            "target: Response, port: 80, replace: {code: 999}",
            "must be an HTTP status, 100 to 599",
        ),
        (
            "target: Request, port: 80, request_headers: {a: b}, abort: true",
            "request_headers of Chaos Mesh is not modelled",
        ),
    ] {
        let text = read(spec).expect_err(spec);
        assert!(text.contains(expected), "{spec}\n{text}");
        assert!(text.contains(".yaml:"), "{spec}\n{text}");
    }
}
