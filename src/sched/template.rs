//! What a pod's spec means to the scheduler, computed once per spec.
//!
//! Pods of one workload share one `Arc<PodSpec>`; everything that depends on the spec alone is
//! worked out the first time it is seen: requests, host ports, image numbers, affinity terms with
//! their topology numbers. Names that the inner loops would compare are replaced by small numbers
//! here.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cache::{Interned, TopologyIx};
use super::plugins::gpu::GpuRequest;
use super::plugins::migration::{self, VolumeKey};
use super::plugins::node_affinity;
use crate::api::affinity::{InclusionPolicy, PodAffinityTerm, TopologySpread, WhenUnsatisfiable};
use crate::api::container::{Container, ContainerPort, Protocol};
use crate::api::decode::{override_with, pod_level};
use crate::api::pod::{Volume, VolumeSource};
use crate::api::quantity::Resources;
use crate::api::selector::LabelSelector;
use crate::api::{Labels, PodSpec, Text};
use crate::store::View;

/// CPU that a container without a request counts as, in milli-cpu
/// (`pkg/scheduler/util :: DefaultMilliCPURequest`).
pub const DEFAULT_MILLI_CPU: i64 = 100;
/// Memory that a container without a request counts as, in bytes
/// (`pkg/scheduler/util :: DefaultMemoryRequest`).
pub const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// A host port in use or wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Address, `0.0.0.0` for any.
    pub ip: Text,
    /// Protocol.
    pub protocol: Protocol,
    /// Number.
    pub port: u16,
}

/// `0.0.0.0`: every address of the host.
pub const ANY_IP: &str = "0.0.0.0";

impl HostPort {
    /// `HostPortInfo.CheckConflict`.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == ANY_IP || other.ip == ANY_IP || self.ip == other.ip)
    }
}

/// A term of pod affinity or anti-affinity with its topology as a number.
#[derive(Clone, Debug)]
pub struct Term {
    /// Which pods.
    pub selector: LabelSelector,
    /// Namespaces by name; empty means the namespace of the pod that has the term, unless
    /// `namespace_selector` is given.
    pub namespaces: Vec<Text>,
    /// Namespaces by label.
    pub namespace_selector: Option<LabelSelector>,
    /// The topology key.
    pub topology: TopologyIx,
}

impl Term {
    fn new(term: &PodAffinityTerm, interned: &mut Interned) -> Term {
        Term {
            selector: term.selector.clone(),
            namespaces: term.namespaces.clone(),
            namespace_selector: term.namespace_selector.clone(),
            topology: interned.topology(&term.topology_key),
        }
    }

    /// [`Term::matches_alone`] for a term that was not worked out.
    pub fn api_matches_alone(
        term: &PodAffinityTerm,
        owner: &Text,
        namespace: &Text,
        labels: &Labels,
    ) -> bool {
        Term::new(term, &mut Interned::default()).matches_alone(owner, namespace, labels)
    }

    /// As [`Term::matches`], in hints: upstream merges no namespaces there (`GetAffinityTerms`) and
    /// shows the selector of namespaces no labels (`podMatchesAllAffinityTerms`), so that few
    /// selectors select any, and those select all.
    pub fn matches_alone(&self, owner: &Text, namespace: &Text, labels: &Labels) -> bool {
        let selector = self.namespace_selector.as_ref();
        let all = || selector.is_some_and(|s| s.matches(&Labels::default()));
        (self.names(owner, namespace) || all()) && self.selector.matches(labels)
    }

    /// `AffinityTerm.Matches`: whether a term of a pod in namespace `owner` selects a pod of this
    /// namespace and these labels.
    pub fn matches(&self, owner: &Text, namespace: &Text, labels: &Labels, view: &View) -> bool {
        self.in_namespaces(owner, namespace, view) && self.selector.matches(labels)
    }

    /// As [`Term::matches`], for terms of the pod that is being scheduled, or waits.
    ///
    /// Upstream merges the namespaces that the selector selects into the term, and then looks at
    /// the selector once more, with no labels (`mergeAffinityTermNamespacesIfNotEmpty` ends the
    /// selector of a copy): one that selects a namespace without labels selects all.
    pub fn matches_for(
        &self,
        owner: &Text,
        namespace: &Text,
        labels: &Labels,
        view: &View,
    ) -> bool {
        self.matches_alone(owner, namespace, labels) || self.matches(owner, namespace, labels, view)
    }

    /// Whether the namespace is named, or is its owner's where nothing is said of namespaces.
    fn names(&self, owner: &Text, namespace: &Text) -> bool {
        match self.namespaces.is_empty() && self.namespace_selector.is_none() {
            true => owner == namespace,
            false => self.namespaces.contains(namespace),
        }
    }

    fn in_namespaces(&self, owner: &Text, namespace: &Text, view: &View) -> bool {
        if self.names(owner, namespace) {
            return true;
        }
        match &self.namespace_selector {
            None => false,
            Some(selector) if selector.is_empty() => true,
            Some(selector) => view
                .of::<crate::api::Namespace>()
                .named(&Text::default(), namespace)
                .is_some_and(|(_, n)| selector.matches(&n.meta.labels)),
        }
    }
}

/// A topology spread constraint with its topology as a number.
#[derive(Clone, Debug)]
pub struct Constraint {
    /// Largest allowed difference.
    pub max_skew: i32,
    /// The topology key.
    pub topology: TopologyIx,
    /// Whether the key is `kubernetes.io/hostname`.
    pub hostname: bool,
    /// Filter rather than score.
    pub hard: bool,
    /// Which pods.
    pub selector: LabelSelector,
    /// Keys whose values are taken from the incoming pod.
    pub match_label_keys: Vec<Text>,
    /// `minDomains`, 1 when absent.
    pub min_domains: i32,
    /// Nodes that the pod's node affinity excludes are not counted.
    pub honor_affinity: bool,
    /// Nodes with taints that the pod does not tolerate are not counted.
    pub honor_taints: bool,
}

impl Constraint {
    /// From its API form.
    pub fn new(c: &TopologySpread, interned: &mut Interned) -> Constraint {
        Constraint {
            max_skew: c.max_skew,
            topology: interned.topology(&c.topology_key),
            hostname: c.topology_key == "kubernetes.io/hostname",
            hard: c.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule,
            selector: c.selector.clone(),
            match_label_keys: c.match_label_keys.clone(),
            min_domains: c.min_domains.unwrap_or(1),
            honor_affinity: c.node_affinity_policy == InclusionPolicy::Honor,
            honor_taints: c.node_taints_policy == InclusionPolicy::Honor,
        }
    }
}

/// What one spec means to the scheduler.
#[derive(Debug)]
pub struct Template {
    /// The spec; keeps its address from being used again.
    pub spec: Arc<PodSpec>,
    /// Requested CPU in milli-cpu.
    pub cpu: i64,
    /// Requested memory in bytes.
    pub memory: i64,
    /// Requested `ephemeral-storage` in bytes.
    pub ephemeral: i64,
    /// Other requested resources by number, in the order of their names.
    pub scalars: Scalars,
    /// Requested CPU with a default for containers that name none.
    pub non_zero_cpu: i64,
    /// Requested memory with a default for containers that name none.
    pub non_zero_memory: i64,
    /// What NodeResourcesFit scores with, where the pod as a whole names amounts.
    pub fit: Option<Box<FitRequest>>,
    /// Host ports of containers and sidecars.
    pub ports: Vec<HostPort>,
    /// Images of all containers (init containers first), then of image volumes, with repetitions.
    pub images: Vec<usize>,
    /// `podAffinity.required…`.
    pub required: Vec<Term>,
    /// `podAntiAffinity.required…`.
    pub anti_required: Vec<Term>,
    /// `podAffinity.preferred…`.
    pub preferred: Vec<(i32, Term)>,
    /// `podAntiAffinity.preferred…`.
    pub anti_preferred: Vec<(i32, Term)>,
    /// Why preferred node affinity does not parse, if it does not.
    pub unparsed: Option<Box<str>>,
    /// `topologySpreadConstraints`.
    pub spread: Vec<Constraint>,
    /// Volumes in the spec itself that migrate to CSI, by driver and handle.
    pub inline_volumes: Vec<VolumeKey>,
    /// Whether a volume in the spec itself migrates to CSI, or would.
    pub migrates: bool,
    /// Names of the claims that its volumes name.
    pub claims: Vec<Text>,
    /// Its volumes that use claims, in their order, those with claims of the pod's own among them.
    pub claim_volumes: Vec<Volume>,
    /// What it asks of GPUs.
    pub gpu: GpuRequest,
    /// Features that its node has to declare.
    pub features: Vec<&'static str>,
}

/// Other resources by number.
type Scalars = SmallVec<[(usize, i64); 1]>;

/// What NodeResourcesFit takes a pod's requests for when it scores: those of its containers alone.
/// (`NewFit` tells its scorer of no feature, so `calculatePodResourceRequest` skips what the pod as
/// a whole asks for; filters and NodeResourcesBalancedAllocation do not.)
#[derive(Debug)]
pub struct FitRequest {
    /// CPU in milli-cpu, with defaults.
    pub cpu: i64,
    /// Memory in bytes, with defaults.
    pub memory: i64,
    /// Other resources by number.
    pub scalars: Scalars,
}

fn scalars(requests: &Resources, interned: &mut Interned) -> Scalars {
    let scalars = requests.extended.iter();
    let scalars = scalars.map(|(name, amount)| (interned.scalar(name), *amount));
    scalars.collect()
}

impl Template {
    /// Works out what `spec` means.
    pub fn new(spec: &Arc<PodSpec>, interned: &mut Interned) -> Template {
        let level = level_of(spec).filter(|level| {
            let huge = |(name, _): &(Text, i64)| name.starts_with("hugepages-");
            level.named & 3 != 0 || level.extended.iter().any(huge)
        });
        let requests = requests_with(spec, [false; 2], level.as_ref());
        let non_zero = non_zero(spec, &requests, level.as_ref());
        let scalars = scalars(&requests, interned);
        let fit = level.map(|_| {
            let sums = requests_with(spec, [true; 2], None);
            Box::new(FitRequest {
                cpu: sums.cpu_milli,
                memory: sums.memory,
                scalars: self::scalars(&sums, interned),
            })
        });
        let affinity = spec.affinity.clone().unwrap_or_default();
        let terms = |terms: &[PodAffinityTerm], interned: &mut Interned| -> Vec<Term> {
            terms.iter().map(|t| Term::new(t, interned)).collect()
        };
        let weighted = |terms: &[(i32, PodAffinityTerm)], interned: &mut Interned| -> Vec<_> {
            let terms = terms.iter();
            terms
                .map(|(weight, t)| (*weight, Term::new(t, interned)))
                .collect()
        };
        Template {
            spec: spec.clone(),
            cpu: requests.cpu_milli,
            memory: requests.memory,
            ephemeral: requests.ephemeral,
            scalars,
            non_zero_cpu: non_zero.cpu_milli,
            non_zero_memory: non_zero.memory,
            fit,
            ports: host_ports(spec),
            images: images(spec, interned),
            unparsed: node_affinity::unparsed(&affinity.node_preferred).map(Into::into),
            required: terms(&affinity.pod_required, interned),
            anti_required: terms(&affinity.anti_required, interned),
            preferred: weighted(&affinity.pod_preferred, interned),
            anti_preferred: weighted(&affinity.anti_preferred, interned),
            spread: spec
                .topology_spread
                .iter()
                .map(|c| Constraint::new(c, interned))
                .collect(),
            claims: claims(spec),
            inline_volumes: spec
                .volumes
                .iter()
                .filter_map(migration::of_inline)
                .collect(),
            migrates: spec.volumes.iter().any(migration::migrates),
            claim_volumes: claim_volumes(spec),
            gpu: GpuRequest::of(spec, interned),
            features: crate::api::declared::required(spec),
        }
    }

    /// Whether any of its terms selects namespaces by label.
    pub fn selects_namespaces(&self) -> bool {
        let weighted = self.preferred.iter().chain(&self.anti_preferred);
        let required = self.required.iter().chain(&self.anti_required);
        let by_label = |t: &Term| {
            let selector = t.namespace_selector.as_ref();
            selector.is_some_and(|selector| !selector.is_empty())
        };
        required.chain(weighted.map(|(_, t)| t)).any(by_label)
    }

    /// Whether the pod has any pod affinity or anti-affinity (`podWithAffinity`).
    pub fn has_affinity(&self) -> bool {
        !(self.required.is_empty()
            && self.anti_required.is_empty()
            && self.preferred.is_empty()
            && self.anti_preferred.is_empty())
    }
}

/// `component-helpers/resource :: PodRequests`; amounts for the pod as a whole win.
pub fn pod_requests(spec: &PodSpec) -> Resources {
    requests_with(spec, [false; 2], level_of(spec).as_ref())
}

/// Requests of the pod as a whole, as they are held.
fn level_of(spec: &PodSpec) -> Option<Resources> {
    let held = spec.resized.as_ref().and_then(|held| held.level.clone());
    held.or_else(|| pod_level(&spec.source))
}

/// Requests with the scheduler's amounts for containers that name no cpu (the first flag) or no
/// memory (the second), and with amounts for the pod as a whole where there are any.
fn requests_with(spec: &PodSpec, defaults: [bool; 2], level: Option<&Resources>) -> Resources {
    let held = spec.resized.as_deref();
    let of = |container: &Container, held: Option<&Option<Resources>>| {
        let held = held.and_then(Option::as_ref);
        let mut requests = held.unwrap_or(&container.requests).clone();
        if defaults[0] && requests.named & 1 == 0 {
            requests.cpu_milli += DEFAULT_MILLI_CPU;
        }
        if defaults[1] && requests.named & 2 == 0 {
            requests.memory += DEFAULT_MEMORY;
        }
        requests
    };
    let mut sum = Resources::default();
    for (i, container) in spec.containers.iter().enumerate() {
        sum.add(&of(container, held.and_then(|h| h.containers.get(i))));
    }
    let mut sidecars = Resources::default();
    let mut init = Resources::default();
    for (i, container) in spec.init_containers.iter().enumerate() {
        let requests = of(container, held.and_then(|h| h.init_containers.get(i)));
        if container.restart_always {
            sum.add(&requests);
            sidecars.add(&requests);
            init.max(&sidecars);
        } else {
            let mut with_sidecars = requests;
            with_sidecars.add(&sidecars);
            init.max(&with_sidecars);
        }
    }
    sum.max(&init);
    if let Some(level) = level {
        override_with(&mut sum, level);
    }
    sum.add(&spec.overhead);
    sum
}

/// `PodInfo.CalculateResource`: requests for NonZeroRequested. Next to amounts for the pod as a
/// whole, only what nobody names gets a default (`getNonMissingContainerRequests`).
fn non_zero(spec: &PodSpec, requests: &Resources, level: Option<&Resources>) -> Resources {
    let absent = |bit: u8| level.is_none() || requests.named & bit == 0;
    requests_with(spec, [absent(1), absent(2)], level)
}

/// `pkg/scheduler/util :: GetHostPorts`: sidecars first, then containers.
pub fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let ports = ports(spec).filter(|p| p.host_port > 0);
    ports
        .map(|p| HostPort {
            ip: if p.host_ip.is_empty() {
                Text::from(ANY_IP)
            } else {
                p.host_ip.clone()
            },
            protocol: p.protocol,
            port: p.host_port,
        })
        .collect()
}

/// Whether there are any.
pub fn holds_ports(spec: &PodSpec) -> bool {
    ports(spec).any(|p| p.host_port > 0)
}

fn ports(spec: &PodSpec) -> impl Iterator<Item = &ContainerPort> {
    let sidecars = spec.init_containers.iter().filter(|c| c.restart_always);
    sidecars.chain(&spec.containers).flat_map(|c| &c.ports)
}

fn images(spec: &PodSpec, interned: &mut Interned) -> Vec<usize> {
    let containers = spec.init_containers.iter().chain(&spec.containers);
    let mut all: Vec<usize> = containers
        .map(|c| interned.image(&normalized_image(&c.image)))
        .collect();
    for volume in &spec.volumes {
        if let VolumeSource::Other {
            field, identity, ..
        } = &volume.source
            && field == "image"
        {
            all.push(interned.image(&normalized_image(identity)));
        }
    }
    all
}

/// `imagelocality :: normalizedImageName`: a name without tag means `:latest`.
pub fn normalized_image(name: &str) -> String {
    let tagged = name.rfind(':').map_or(-1, |at| at as i64);
    let slash = name.rfind('/').map_or(-1, |at| at as i64);
    if tagged <= slash {
        format!("{name}:latest")
    } else {
        name.to_owned()
    }
}

fn claims(spec: &PodSpec) -> Vec<Text> {
    let volumes = spec.volumes.iter();
    volumes
        .filter_map(|v| match &v.source {
            VolumeSource::Claim { name, .. } => Some(name.clone()),
            _ => None,
        })
        .collect()
}

fn claim_volumes(spec: &PodSpec) -> Vec<Volume> {
    let volumes = spec.volumes.iter();
    volumes
        .filter(|v| {
            matches!(
                v.source,
                VolumeSource::Claim { .. } | VolumeSource::Ephemeral
            )
        })
        .cloned()
        .collect()
}
