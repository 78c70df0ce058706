//! HTTPChaos of Chaos Mesh: what a proxy before a pod does to its requests and answers.
//!
//! `api/v1alpha1/httpchaos_types.go` and `podhttpchaos_types.go`: a rule takes requests to one port
//! (and their answers) by path, method and status, and breaks them off, holds them up, or gives
//! answers another status. What requests say besides (bodies, headers, queries) is not modelled.

use std::time::Duration;

use super::effect::PodKey;
use crate::api::Text;

/// A rule with what it does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpFault {
    /// `target: Response`, rather than `Request`.
    pub response: bool,
    /// `port`: of the pod.
    pub port: u16,
    /// `path`, with `*` and `?`; none is any.
    pub path: Option<Text>,
    /// `method`; none is any.
    pub method: Option<Text>,
    /// `code`: of answers with this status alone.
    pub code: Option<u16>,
    /// `abort`: the connection is closed.
    pub abort: bool,
    /// `delay`.
    pub delay: Duration,
    /// `replace.code`: of answers.
    pub replace_code: Option<u16>,
}

impl HttpFault {
    /// In words.
    pub fn name(&self) -> &'static str {
        match (self.abort, self.replace_code, self.response) {
            (true, _, false) => "HTTP requests aborted",
            (true, _, true) => "HTTP answers aborted",
            (false, Some(_), true) => "HTTP status replaced",
            (false, _, false) => "HTTP requests delayed",
            (false, _, true) => "HTTP answers delayed",
        }
    }
}

/// A rule in force before some pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// The fault's name.
    pub fault: Text,
    /// Whose requests.
    pub pods: Vec<PodKey>,
    /// What happens to them.
    pub what: HttpFault,
}
