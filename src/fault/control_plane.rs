//! The words of a ControlPlaneChaos: what goes wrong with the API server, etcd, the scheduler or
//! the controller manager.

use std::time::Duration;

use crate::api::Text;

/// A component of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// etcd.
    Etcd,
}

impl Component {
    /// All of them.
    pub const ALL: [Component; 4] = [
        Component::ApiServer,
        Component::ControllerManager,
        Component::Scheduler,
        Component::Etcd,
    ];

    /// Its name, as that of its static pod.
    pub fn name(self) -> &'static str {
        match self {
            Component::ApiServer => "kube-apiserver",
            Component::ControllerManager => "kube-controller-manager",
            Component::Scheduler => "kube-scheduler",
            Component::Etcd => "etcd",
        }
    }
}

/// What goes wrong with the control plane.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlAction {
    /// Processes of a component die and stay away. How many of its replicas is the fault's mode; the
    /// leader is hit first.
    Crash(Component),
    /// Processes of a component stand still: connections stay open, nothing is answered or done.
    Freeze(Component),
    /// Every API server refuses connections.
    Outage,
    /// etcd has no leader: what is watched stays watched, nothing can be written.
    NoLeader,
    /// Requests are late.
    Latency {
        /// Added to each.
        by: Duration,
        /// Give or take up to so much, drawn for each request.
        jitter: Duration,
        /// Which.
        requests: Requests,
    },
    /// A share of the requests is refused.
    Errors {
        /// Of a million.
        per_million: u32,
        /// With what.
        answer: BadAnswer,
        /// Which.
        requests: Requests,
    },
}

/// What a refused request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAnswer {
    /// HTTP status: 429, 500, 503 or 504; 0 when no answer comes.
    pub status: u16,
    /// `Retry-After`: whole seconds after which client-go asks again by itself.
    pub retry_after_s: Option<u32>,
}

/// Which requests; every list that is not empty must hold the request's own word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// `create`, `update`, `patch`, `delete`.
    pub verbs: Vec<Text>,
    /// Plural names: `pods`, `leases`.
    pub resources: Vec<Text>,
    /// `kube-controller-manager`, `kube-scheduler`, `kubelet`, `kubectl`.
    pub user_agents: Vec<Text>,
}

impl Requests {
    /// Whether a request is among them.
    pub fn take(&self, verb: &str, resource: &str, agent: &str) -> bool {
        let holds = |list: &[Text], word| list.is_empty() || list.iter().any(|w| w == word);
        holds(&self.verbs, verb)
            && holds(&self.resources, resource)
            && holds(&self.user_agents, agent)
    }
}

impl ControlAction {
    /// The action in a word, as written.
    pub fn name(&self) -> &'static str {
        match self {
            ControlAction::Crash(_) => "crash",
            ControlAction::Freeze(_) => "freeze",
            ControlAction::Outage => "outage",
            ControlAction::NoLeader => "no-leader",
            ControlAction::Latency { .. } => "latency",
            ControlAction::Errors { .. } => "errors",
        }
    }

    /// What more there is to say about it: how late, how many, with what.
    pub fn detail(&self) -> String {
        let of = |requests: &Requests| {
            let lists = [&requests.verbs, &requests.resources, &requests.user_agents];
            let words: Vec<&str> = lists.into_iter().flatten().map(Text::as_str).collect();
            match words.is_empty() {
                true => "requests".to_owned(),
                false => format!("requests ({})", words.join(" ")),
            }
        };
        match self {
            ControlAction::Latency { by, requests, .. } => {
                format!("{} {} ms later", of(requests), by.as_millis())
            }
            ControlAction::Errors {
                per_million,
                answer,
                requests,
            } => {
                let share = f64::from(*per_million) / 10_000.0;
                let with = match answer.status {
                    0 => "not answered".to_owned(),
                    status => format!("answered {status}"),
                };
                format!("{share}% of {} {with}", of(requests))
            }
            ControlAction::Outage => "proxies and containers go on with what they have".to_owned(),
            ControlAction::NoLeader => "watches stand, writes fail after 7s".to_owned(),
            ControlAction::Crash(_) | ControlAction::Freeze(_) => String::new(),
        }
    }

    /// The component that it hits.
    pub fn component(&self) -> Component {
        match self {
            ControlAction::Crash(component) | ControlAction::Freeze(component) => *component,
            ControlAction::NoLeader => Component::Etcd,
            _ => Component::ApiServer,
        }
    }
}
