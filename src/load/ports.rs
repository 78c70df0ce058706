//! Where a container listens: what requests, probes and hooks find somebody behind.
//!
//! Kubernetes does not know: `containerPort` is a remark, and a process listens where it likes. So
//! the simulation believes, in this order:
//!
//! 1. `ports` of the container's AppModel, and nothing else where it says any;
//! 2. the ports that the container declares, and those that its own HTTP and gRPC probes ask for and
//!    that no container of the pod declares: many a health endpoint is left undeclared, while a TCP
//!    probe that nobody's declaration answers to is more often a mistake than a secret;
//! 3. of a container that declares nothing, whatever its probes ask for; and the pod's first
//!    ordinary container listens on every port that is not another container's.

use smallvec::SmallVec;

use super::AppModel;
use crate::api::PodSpec;
use crate::api::container::Container;
use crate::api::probe::Action;

type Numbers = SmallVec<[u16; 2]>;

/// The ports that a container listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// These.
    Only(Numbers),
    /// All but these, which are other containers'.
    AllBut(Numbers),
}

impl Ports {
    /// Where the container at `index` of a pod listens, init containers counted first.
    pub fn of(model: &AppModel, spec: &PodSpec, index: u16) -> Ports {
        let index = usize::from(index);
        let inits = spec.init_containers.len();
        let mut all = spec.init_containers.iter().chain(&spec.containers);
        let Some(container) = all.nth(index) else {
            return Ports::Only(Numbers::new());
        };
        if index < inits && !container.restart_always {
            return Ports::Only(Numbers::new());
        }
        if !model.ports.is_empty() {
            return Ports::Only(model.ports.iter().copied().collect());
        }
        if container.ports.is_empty() && index == inits {
            let others = serving(spec).filter(|other| !std::ptr::eq(*other, container));
            let theirs = others.flat_map(|other| believed(spec, other));
            return Ports::AllBut(theirs.collect());
        }
        Ports::Only(believed(spec, container))
    }

    /// Whether `port` is one of them; 0 stands for any.
    #[inline]
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Ports::Only(ports) => ports.contains(&port) || (port == 0 && !ports.is_empty()),
            Ports::AllBut(ports) => port == 0 || !ports.contains(&port),
        }
    }
}

/// The port that a probe or hook asks for; none when it does not go through the network, 0 when its
/// name did not resolve.
pub fn asked(action: &Action) -> Option<u16> {
    match action {
        Action::HttpGet { port, .. } | Action::TcpSocket { port } | Action::Grpc { port, .. } => {
            Some(*port)
        }
        Action::Exec(_) | Action::Sleep(_) => None,
    }
}

/// Containers that go on running: sidecars and ordinary ones.
fn serving(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let sidecars = spec.init_containers.iter().filter(|c| c.restart_always);
    sidecars.chain(&spec.containers)
}

/// What a container declares, and what its own probes say about it.
fn believed(spec: &PodSpec, container: &Container) -> Numbers {
    let mut ports: Numbers = container.ports.iter().map(|p| p.port).collect();
    let declares = !ports.is_empty();
    let probes = [
        &container.startup,
        &container.readiness,
        &container.liveness,
    ];
    for probe in probes.into_iter().flatten() {
        let declared = |port: u16| serving(spec).any(|c| c.ports.iter().any(|p| p.port == port));
        let tcp = matches!(probe.action, Action::TcpSocket { .. });
        match asked(&probe.action) {
            Some(port) if port > 0 && !declared(port) && !(tcp && declares) => ports.push(port),
            _ => {}
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Row;
    use crate::api::decode::{DecodeContext, decode};
    use crate::api::yaml::{FileId, Limits, parse_documents};

    /// Where each container of a pod listens.
    fn listening(spec: &str, own: &[u16]) -> String {
        let text =
            format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{{spec}}}}}");
        let documents = parse_documents(FileId(0), text.as_bytes(), &Limits::default());
        let document = &documents.expect("good YAML")[0];
        let decoded = decode(document, &DecodeContext::default()).expect("a good pod");
        let Row::Pod(row) = decoded.row else {
            unreachable!("it says that it is a pod");
        };
        let model = AppModel {
            ports: own.to_vec(),
            ..AppModel::default()
        };
        let count = row.spec.init_containers.len() + row.spec.containers.len();
        let all = (0..u16::try_from(count).unwrap()).map(|index| {
            match Ports::of(&model, &row.spec, index) {
                Ports::Only(ports) => format!("{:?}", ports.as_slice()),
                Ports::AllBut(ports) => format!("but {:?}", ports.as_slice()),
            }
        });
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_container_listens_where_its_model_its_declaration_or_its_probes_say() {
        let table: [(&str, &[u16], &str); 12] = [
            ("containers: [{name: a, image: i}]", &[], "but []"),
            ("containers: [{name: a, image: i}]", &[81], "[81]"),
            (
                "containers: [{name: a, image: i, ports: [{containerPort: 80}]}]",
                &[],
                "[80]",
            ),
            (
                "containers: [{name: a, image: i, ports: [{containerPort: 80}]}]",
                &[81],
                "[81]",
            ),
            // a health port that is not declared
            (
                "containers: [{name: a, image: i, ports: [{containerPort: 80}],
                  livenessProbe: {httpGet: {port: 10254}}}]",
                &[],
                "[80, 10254]",
            ),
            (
                "containers: [{name: a, image: i, ports: [{containerPort: 80}],
                  livenessProbe: {grpc: {port: 9}}}]",
                &[],
                "[9, 80]",
            ),
            // the model knows better
            (
                "containers: [{name: a, image: i, ports: [{containerPort: 80}],
                  livenessProbe: {httpGet: {port: 10254}}}]",
                &[80],
                "[80]",
            ),
            // a TCP probe of a port that its container does not declare
            (
                "containers: [{name: a, image: i, ports: [{containerPort: 80}],
                  readinessProbe: {tcpSocket: {port: 81}}}]",
                &[],
                "[80]",
            ),
            // the probe asks the other container
            (
                "containers: [{name: a, image: i, ports: [{containerPort: 80}],
                  readinessProbe: {httpGet: {port: 81}}},
                  {name: b, image: i, ports: [{containerPort: 81}]}]",
                &[],
                "[80] [81]",
            ),
            // the second container declares nothing: only its probes tell
            (
                "containers: [{name: a, image: i},
                  {name: b, image: i, readinessProbe: {tcpSocket: {port: 81}}}]",
                &[],
                "but [81] [81]",
            ),
            // init containers end before anybody asks; sidecars stay
            (
                "initContainers: [{name: i, image: i, ports: [{containerPort: 1}]},
                  {name: s, image: i, restartPolicy: Always, ports: [{containerPort: 2}]}],
                  containers: [{name: a, image: i}]",
                &[],
                "[] [2] but [2]",
            ),
            // a port by name
            (
                "containers: [{name: a, image: i, ports: [{name: web, containerPort: 80}],
                  readinessProbe: {tcpSocket: {port: web}}}]",
                &[],
                "[80]",
            ),
        ];
        for (spec, own, expected) in table {
            assert_eq!(listening(spec, own), expected, "{spec} {own:?}");
        }
    }

    #[test]
    fn ports_are_told_apart() {
        let only = Ports::Only(Numbers::from_slice(&[80]));
        let others = Ports::AllBut(Numbers::from_slice(&[80]));
        let seen = |ports: &Ports| [0, 80, 81].map(|port| ports.contains(port));
        assert_eq!(seen(&only), [true, true, false]);
        assert_eq!(seen(&others), [true, false, true]);
        assert!(!Ports::Only(Numbers::new()).contains(0));
    }
}
