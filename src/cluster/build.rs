//! A scenario becomes a cluster: machines, control plane, initial objects, traffic.
//!
//! Initial objects are stored at once, as if they had been applied long ago, and the cluster is
//! driven until its workloads serve (see [`super::settling`]): only then does the run's own time
//! begin, with its timeline and traffic. What is simulated before that is not part of the story.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::api::node::NodeStatus;
use crate::api::{Kind, Labels, Meta, Namespace, Node, ResourceQuota, Row, Text, Uid};
use crate::client::Controller;
use crate::client::runner::{Driven, Runner};
use crate::client::{Audience, Budget, Outbox, Watches};
use crate::control::attach_detach::AttachDetach;
use crate::control::cron_job::CronJobController;
use crate::control::daemon_set::DaemonSetController;
use crate::control::deployment::DeploymentController;
use crate::control::disruption::DisruptionController;
use crate::control::disruption::stale::StaleDisruptionController;
use crate::control::endpoint_slice::EndpointSliceController;
use crate::control::ephemeral_volume::EphemeralVolumeController;
use crate::control::garbage_collector::GarbageCollector;
use crate::control::job::JobController;
use crate::control::job::orphans::JobOrphanController;
use crate::control::namespace::NamespaceController;
use crate::control::node_lifecycle::{self, NodeLifecycleController};
use crate::control::pod_autoscaler::PodAutoscaler;
use crate::control::pod_gc::PodGcController;
use crate::control::replica_set::ReplicaSetController;
use crate::control::resource_quota::{self, ResourceQuotaController};
use crate::control::stateful_set::StatefulSetController;
use crate::control::taint_eviction::TaintEvictionController;
use crate::control::ttl_after_finished::TtlAfterFinishedController;
use crate::control::volume_binder::VolumeBinder;
use crate::control::volume_protection::VolumeProtection;
use crate::control::volume_provisioner::VolumeProvisioner;
use crate::engine::{Draws, Queue, Time, Turn};
use crate::kubectl;
use crate::kubelet::Boot;
use crate::kubelet::{Kubelet, KubeletConfig};
use crate::net::NetConfig;
use crate::scenario::has_dynamic_resources;
use crate::scenario::kubelet_flags::KubeletFlags;
use crate::scenario::types::{Applied, ClusterSpec, Flags, NodePool, Scenario};
use crate::sched::plugin::PluginName;
use crate::sched::{Moment, Scheduler, SchedulerConfig};
use crate::store::admit::Tolerated;
use crate::store::{Cause, Change, Op, Pools, Write};

use super::api_server::{ApiLatency, ApiServer};
use super::control_plane::ControlPlane;
use super::dataplane::DataPlane;
use super::dispatch::{Cluster, Consequences};
use super::event::Event;
use super::machine::{Homes, Machine};
use super::metrics_server::MetricsServer;
use super::process::{self, Process};
use super::runtime::Containers;
use super::timeline::Timeline;
use super::webhooks::Webhooks;

/// An initial object that the API server refuses.
#[derive(Debug)]
pub struct Refused {
    /// The object.
    pub object: Applied,
    /// The server's words.
    pub error: crate::store::ApiError,
}

impl Cluster {
    /// Every controller is asked about every change, whatever it has declared. Nothing but the time
    /// that a run takes may depend on it.
    pub fn ask_everybody(&mut self) {
        let everything = self.controllers.iter().map(|_| Watches::EVERYTHING);
        self.audience = Audience::new(everything);
    }

    /// The cluster of a scenario with simulated containers, and the queue to drive it with.
    pub fn build(scenario: &Scenario) -> Result<(Cluster, Queue<Event>), Box<Refused>> {
        Cluster::build_with(scenario, Containers::Simulated)
    }

    /// The cluster of a scenario, and the queue to drive it with.
    pub fn build_with(
        scenario: &Scenario,
        containers: Containers,
    ) -> Result<(Cluster, Queue<Event>), Box<Refused>> {
        let draws = Draws::new(scenario.seed);
        let flags = &scenario.cluster.flags;
        let watch = ApiLatency::default().watch;
        let controllers = controllers(flags);
        let mut cluster = Cluster {
            api: ApiServer::new(draws, ApiLatency::default()),
            draws,
            data: DataPlane::new(net_config(&scenario.cluster), draws),
            timeline: Timeline::of(scenario),
            machines: Vec::new(),
            manager: Process::new(watch, process::manager_interest),
            audience: Audience::new(controllers.iter().map(|c| c.watches())),
            controllers,
            scheduler_process: Process::new(watch, process::scheduler_interest),
            scheduler: Scheduler::new(scheduler_config(scenario).unwrap_or_default(), draws),
            containers,
            node_ids: FxHashMap::default(),
            homes: Homes::default(),
            bound: Homes::default(),
            settled: crate::store::Cursor(0),
            first: Vec::new(),
            requests: Vec::new(),
            kubelet_out: Outbox::default(),
            scheduler_out: Outbox::default(),
            data_out: super::dataplane::Out::default(),
            rules: Vec::new(),
            strains: Vec::new(),
            next_strain: 0,
            dns_rules: Vec::new(),
            http_rules: Vec::new(),
            starting: FxHashMap::default(),
            kubelet_configs: kubelet_configs(scenario),
            missing_images: scenario.cluster.missing_images.clone(),
            traffic: scenario.traffic.clone(),
            feeds: Vec::new(),
            control: ControlPlane::new(&scenario.cluster),
            metrics: MetricsServer::default(),
            webhooks: Webhooks::default(),
        };
        cluster.api.store.tolerate(Tolerated {
            not_ready: flags.default_not_ready_toleration_s,
            unreachable: flags.default_unreachable_toleration_s,
        });
        if let Ok(pools) = Pools::new(&flags.service_cluster_ip_range) {
            cluster.api.store.serve_from(pools);
        }
        for model in &scenario.apps {
            cluster.data.add_model(model.clone());
        }
        cluster.populate(scenario)?;
        let mut queue = Queue::new();
        let mut requests = Vec::new();
        cluster.start(&mut Turn::new(0, &mut queue, &mut requests));
        cluster.first = requests;
        Ok((cluster, queue))
    }

    /// Stores what is there at the beginning.
    fn populate(&mut self, scenario: &Scenario) -> Result<(), Box<Refused>> {
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            self.seed(namespace(name).into());
        }
        // Machines are large: as a list that grows they would be moved a dozen times.
        let nodes = scenario
            .cluster
            .pools
            .iter()
            .map(|pool| pool.count as usize);
        self.machines.reserve_exact(nodes.sum());
        for pool in &scenario.cluster.pools {
            for nth in 0..pool.count {
                self.seed(node(pool, nth).into());
            }
        }
        for class in super::storage::classes(scenario) {
            self.seed(class.into());
        }
        // What others are admitted by comes first.
        let rank = |object: &Applied| match object.row.kind() {
            Kind::Namespace => 0,
            Kind::PriorityClass | Kind::StorageClass | Kind::LimitRange | Kind::ResourceQuota => 1,
            _ => 2,
        };
        let mut objects: Vec<&Applied> = scenario.objects.iter().collect();
        objects.sort_by_key(|object| rank(object));
        for object in objects {
            let exists = object.row.kind() == Kind::Namespace
                && self
                    .api
                    .store
                    .view()
                    .lookup(Kind::Namespace, "", &object.row.meta().name)
                    .is_some();
            if exists {
                continue;
            }
            // They have been applied; what came from a snapshot knows itself how.
            let row = match object.row.meta().uid {
                Uid(0) => kubectl::apply::annotated(&object.row, &object.written),
                _ => object.row.clone(),
            };
            let write = Write::Create(row);
            if let Err(error) = self.api.store.write(&write, Time::ZERO, Cause::default()) {
                return Err(Box::new(Refused {
                    object: object.clone(),
                    error,
                }));
            }
            if object.row.kind() == Kind::ResourceQuota {
                self.count_quotas();
            }
        }
        Ok(())
    }

    /// Quotas that were applied long ago have been counted since: without a status they would
    /// refuse what comes next.
    fn count_quotas(&mut self) {
        let view = self.api.store.view();
        let quotas = view.of::<ResourceQuota>().iter();
        let counted: Vec<_> = quotas
            .map(|(id, quota)| (id, resource_quota::counted(quota, view, Time::ZERO)))
            .collect();
        for (id, quota) in counted {
            let write = Write::UpdateStatus(id.into(), quota.into());
            let done = self.api.store.write(&write, Time::ZERO, Cause::default());
            done.expect("the status of a quota is the cluster's own");
        }
    }

    fn seed(&mut self, row: Row) {
        self.api
            .store
            .write(&Write::Create(row), Time::ZERO, Cause::default())
            .expect("the cluster's own objects are good");
    }

    /// Everything starts: control plane, kubelets, the wait for the initial workloads.
    fn start(&mut self, turn: Consequences<'_, '_>) {
        let changes: Vec<Change> = match self.api.store.log().since(crate::store::Cursor(0)) {
            Ok(changes) => changes.cloned().collect(),
            Err(_) => Vec::new(),
        };
        for change in &changes {
            self.data.on_change(change, turn.now);
            self.webhooks.on_change(change, turn.now);
            self.new_node(change, turn);
        }
        self.settled = crate::store::Cursor(self.api.store.log().head());
        self.manager.restart(&self.api.store);
        self.start_metrics(turn);
        self.scheduler_process.restart(&self.api.store);
        for which in 0..self.controllers.len() {
            let mut out = Outbox::default();
            let view = &self.manager.view;
            self.controllers[which].start(view, turn.now, &self.draws, &mut out);
            self.controller_wants(u8::try_from(which).expect("few controllers"), out, turn);
        }
        let mut out = Outbox::default();
        self.scheduler
            .start(&self.scheduler_process.view, turn.now, &mut out);
        self.scheduler_wants(out, turn);
        for node in 0..u32::try_from(self.machines.len()).unwrap_or(u32::MAX) {
            self.start_kubelet(node, Boot::Established, turn);
        }
        self.settle(turn);
        turn.at(Time::ZERO, Event::Settle);
    }

    /// A Node object that is new gets a machine, unless it is that machine registering again.
    pub(super) fn new_node(&mut self, change: &Change, turn: Consequences<'_, '_>) {
        if change.op != Op::Create {
            return;
        }
        let (Some(object), Some(Row::Node(row))) = (change.object, &change.new) else {
            return;
        };
        let name = row.meta.name.clone();
        if self.node_ids.contains_key(&name) {
            // The machine keeps the number of its first Node object: timers, requests under way
            // and whatever its containers' runtime has to tell are addressed to it.
            return;
        }
        self.node_ids.insert(name.clone(), object.index);
        let id = crate::store::Id::new(object.index);
        // Nodes are called by their pool, and a node that somebody else created by none.
        let pool = name.rsplit_once('-').map_or("", |(pool, _)| pool);
        let configs = &self.kubelet_configs;
        let config = configs.get(pool).or_else(|| configs.get("")).cloned();
        let kubelet = Kubelet::new(id, row.clone(), config.unwrap_or_default());
        self.put_machine(object.index, Some(Machine::new(id, name, kubelet)));
        if turn.now > Time::ZERO {
            self.start_kubelet(object.index, Boot::Reboot, turn);
        }
    }

    fn put_machine(&mut self, node: u32, machine: Option<Machine>) {
        let at = node as usize;
        if self.machines.len() <= at {
            self.machines.resize_with(at + 1, || None);
        }
        self.machines[at] = machine;
    }
}

/// A controller with a client of its own, as the controller manager's flags say.
fn each<C: Controller + 'static>(controller: C, flags: &Flags) -> Box<dyn Driven> {
    let flag = match C::NAME {
        "deployment-controller" => "concurrent-deployment-syncs",
        "replicaset-controller" => "concurrent-replicaset-syncs",
        "endpointslice-controller" => "concurrent-service-endpoint-syncs",
        "statefulset-controller" => "concurrent-statefulset-syncs",
        "daemonset-controller" => "concurrent-daemonset-syncs",
        "job-controller" => "concurrent-job-syncs",
        "cronjob-controller" => "concurrent-cron-job-syncs",
        "ephemeral-volume-controller" => "concurrent-ephemeralvolume-syncs",
        "horizontal-pod-autoscaler-controller" => "concurrent-horizontal-pod-autoscaler-syncs",
        _ => "",
    };
    let budget = Budget::per_second(flags.manager_qps.0, flags.manager_qps.1);
    Box::new(Runner::with_budget(controller, budget).workers(flags.syncs(flag)))
}

fn controllers(flags: &Flags) -> Vec<Box<dyn Driven>> {
    let batch = flags.endpoint_updates_batch_period;
    let slices = EndpointSliceController::new(batch, flags.max_endpoints_per_slice as usize);
    let lifecycle = NodeLifecycleController::new(node_lifecycle::Flags {
        monitor_period: flags.node_monitor_period,
        grace_period: flags.node_monitor_grace_period,
        startup_grace_period: flags.node_startup_grace_period,
        eviction_rate: flags.node_eviction_rate,
        secondary_eviction_rate: flags.secondary_node_eviction_rate,
        large_cluster: flags.large_cluster_size_threshold as usize,
        unhealthy_zone: flags.unhealthy_zone_threshold,
    });
    let pod_gc = PodGcController::new(flags.terminated_pod_gc_threshold as usize);
    vec![
        each(DeploymentController::default(), flags),
        each(ReplicaSetController::default(), flags),
        each(
            StatefulSetController::new(flags.max_unavailable_stateful_set),
            flags,
        ),
        each(DaemonSetController::default(), flags),
        each(VolumeBinder::default(), flags),
        each(VolumeProvisioner::default(), flags),
        each(VolumeProtection, flags),
        each(AttachDetach::default(), flags),
        each(slices, flags),
        each(lifecycle, flags),
        each(TaintEvictionController::default(), flags),
        each(pod_gc, flags),
        each(DisruptionController, flags),
        each(StaleDisruptionController, flags),
        each(JobController::default(), flags),
        each(JobOrphanController, flags),
        each(TtlAfterFinishedController, flags),
        each(CronJobController::default(), flags),
        Box::new(garbage_collector().workers(flags.syncs("concurrent-gc-syncs"))),
        Box::new(namespaces().workers(flags.syncs("concurrent-namespace-syncs"))),
        each(ResourceQuotaController, flags),
        each(PodAutoscaler::new(flags.autoscaler), flags),
        each(EphemeralVolumeController, flags),
    ]
}

/// Its client may do twice what others may (`startGarbageCollectorController`), since upstream asks
/// for each object before it deletes it. Nothing is asked here, so that half of it is left.
fn garbage_collector() -> Runner<GarbageCollector> {
    Runner::with_budget(GarbageCollector::default(), Budget::per_second(20, 15))
}

/// `startNamespaceController`: its client may do 20 and 100 times what others may. Upstream
/// deletes a whole collection with one request.
fn namespaces() -> Runner<NamespaceController> {
    let budget = Budget::per_second(20 * 20, 30 * 100);
    Runner::with_budget(NamespaceController::default(), budget)
}

fn net_config(cluster: &ClusterSpec) -> NetConfig {
    let mut config = NetConfig::default();
    config.proxy.min_sync = cluster.flags.proxy_min_sync_period;
    if let Some(sync) = cluster.latency.endpoint_sync {
        config.proxy.sync_time = sync;
    }
    config
}

/// The kubelets' configurations by pool; of other nodes under the empty name.
fn kubelet_configs(scenario: &Scenario) -> FxHashMap<Text, Arc<KubeletConfig>> {
    let flags = &scenario.cluster.flags;
    let config = |own: &KubeletFlags| {
        Arc::new(KubeletConfig {
            serialize_image_pulls: flags.serialize_image_pulls,
            node_status_update: flags.node_status_update_frequency,
            eviction: own.eviction.clone(),
            shutdown: own.shutdown.clone(),
            stats: true,
            ..KubeletConfig::default()
        })
    };
    let usual = config(&flags.kubelet);
    let pools = scenario.cluster.pools.iter().map(|pool| {
        let own = pool.kubelet.as_ref();
        (pool.name.clone(), own.map_or_else(|| usual.clone(), config))
    });
    let mut all: FxHashMap<Text, Arc<KubeletConfig>> = pools.collect();
    all.insert(Text::default(), usual);
    all
}

impl Cluster {
    /// Has the scheduler keep what it knows at the last cycle of these pods, `(namespace, name)`.
    pub fn ask_scheduler(&mut self, pods: impl IntoIterator<Item = (Text, Text)>) {
        self.scheduler.ask(pods);
    }

    /// What was asked for with [`Cluster::ask_scheduler`].
    pub fn scheduler_moments(&self) -> impl Iterator<Item = &Moment> {
        self.scheduler.moments()
    }
}

/// The scheduler's configuration: the scenario's, or the default one.
///
/// # Errors
/// What is wrong with the scenario's.
pub fn scheduler_config(scenario: &Scenario) -> Result<SchedulerConfig, String> {
    let mut config = match &scenario.cluster.scheduler {
        Some(json) => SchedulerConfig::from_json(json).map_err(|e| e.to_string())?,
        None => SchedulerConfig::default(),
    };
    if !has_dynamic_resources(&scenario.version) {
        config.without(PluginName::DynamicResources);
    }
    let (asked, usual) = (
        scenario.cluster.flags.scheduler_qps,
        Flags::default().scheduler_qps,
    );
    Ok(match asked == usual {
        true => config,
        false => SchedulerConfig {
            qps: asked.0,
            burst: asked.1,
            ..config
        },
    })
}

fn namespace(name: &str) -> Namespace {
    Namespace {
        meta: Meta {
            name: name.into(),
            labels: [("kubernetes.io/metadata.name", name)]
                .into_iter()
                .collect(),
            ..Meta::default()
        },
        ..Namespace::default()
    }
}

/// The Node object of a pool's n-th machine, as its kubelet registers it.
pub fn node(pool: &NodePool, nth: u32) -> Node {
    let name = Text::from(format!("{}-{nth}", pool.name));
    let mut labels: Labels = [
        ("kubernetes.io/hostname", name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", "amd64"),
    ]
    .into_iter()
    .collect();
    if !pool.zones.is_empty() {
        let zone = &pool.zones[nth as usize % pool.zones.len()];
        labels = labels.with("topology.kubernetes.io/zone", zone.clone());
    }
    if !pool.region.is_empty() {
        labels = labels.with("topology.kubernetes.io/region", pool.region.clone());
    }
    if !pool.instance_type.is_empty() {
        labels = labels.with(
            "node.kubernetes.io/instance-type",
            pool.instance_type.clone(),
        );
    }
    for (key, value) in pool.labels.iter() {
        labels = labels.with(key, value.clone());
    }
    let status = NodeStatus {
        capacity: pool.capacity.clone(),
        allocatable: pool.allocatable.clone(),
        images: pool
            .images
            .iter()
            .map(|image| (vec![image.clone()], 100 << 20))
            .collect::<Vec<_>>()
            .into(),
        declared_features: crate::api::declared::by_kubelet().into(),
        ..NodeStatus::default()
    };
    let meta = Meta {
        name,
        labels,
        ..Meta::default()
    };
    let mut node = Node {
        meta,
        taints: pool.taints.clone(),
        status,
        ..Node::default()
    };
    node.status.conditions = crate::kubelet::initial_conditions(&node).into();
    node
}
