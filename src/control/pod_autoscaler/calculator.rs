//! How many replicas a resource metric asks for.
//!
//! A port of `pkg/controller/podautoscaler/replica_calculator.go` and of `metrics/`. Pods whose
//! usage cannot be trusted yet, or is not known, count in the way that moves the number of replicas
//! least: as idle when it would grow, as busy when it would shrink.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Flags;
use crate::api::autoscaling::{PodMetrics, PodMetricsList};
use crate::api::container::Container;
use crate::api::meta::recorded;
use crate::api::pod_status::{Phase, PodConditionKind, Truth};
use crate::api::quantity::Resources;
use crate::api::{Pod, Text};
use crate::engine::Time;

/// `Tolerances`: how far usage may lie from its target, as fractions of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerances {
    /// Below it.
    pub down: f64,
    /// Above it.
    pub up: f64,
}

impl Tolerances {
    fn within(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// Everything that a calculation depends on.
#[derive(Debug)]
pub struct Calculator<'a> {
    /// When it is made.
    pub now: Time,
    /// The controller's flags.
    pub flags: &'a Flags,
    /// Of this autoscaler.
    pub tolerances: Tolerances,
    /// The pods that the target's selector takes.
    pub pods: Vec<&'a Arc<Pod>>,
    /// What the resource metrics API knows, where there is one.
    pub metrics: Option<&'a PodMetricsList>,
}

/// What a metric asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Replicas.
    pub replicas: i32,
    /// Usage in percent of the requests; 0 of a target that is no utilization.
    pub utilization: i32,
    /// Mean usage of a pod in thousandths.
    pub raw: i64,
}

/// `PodMetric`: a sample, its value in thousandths.
#[derive(Clone, Copy, Debug)]
struct Sample {
    timestamp: Time,
    window: Duration,
    value: i64,
}

type Samples = BTreeMap<Text, Sample>;

/// A ratio of usage to its target, with what it was computed from.
#[derive(Clone, Copy, Debug)]
struct Usage {
    ratio: f64,
    utilization: i32,
    raw: i64,
}

/// `groupPods`.
#[derive(Debug, Default)]
struct Groups {
    ready: usize,
    unready: BTreeSet<Text>,
    missing: BTreeSet<Text>,
    ignored: BTreeSet<Text>,
}

const NO_POD: &str = "no pods returned by selector while calculating replica count";
const NO_METRICS: &str = "did not receive metrics for targeted pods (pods might be unready)";

impl Calculator<'_> {
    /// `GetResourceReplicas`: for a target in percent of the requests, of whole pods or of the
    /// container of that name.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn by_utilization(
        &self,
        current: i32,
        target: i32,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Proposal, String> {
        let (samples, groups) = self.sampled(resource, container)?;
        let requests = self.requests(resource, container)?;
        let ratio = |samples: &Samples| {
            let known = samples.iter().filter_map(|(pod, sample)| {
                let request = requests.get(pod)?;
                Some((sample.value, *request))
            });
            let (mut used, mut requested, mut count) = (0i64, 0i64, 0i64);
            for (value, request) in known {
                used += value;
                requested += request;
                count += 1;
            }
            if requested == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            let utilization = saturated(used * 100 / requested);
            Ok(Usage {
                ratio: f64::from(utilization) / f64::from(target),
                utilization,
                raw: used / count,
            })
        };
        // Pods without metrics count as if they used all that they request, when that would make
        // the number of replicas fall.
        let fallback = i64::from(target.max(100));
        let busy = |pod: &Text| {
            requests
                .get(pod)
                .map_or(0, |request| request * fallback / 100)
        };
        self.replicas(current, samples, &groups, ratio, busy)
    }

    /// `GetRawResourceReplicas`: for a target in thousandths of the resource's unit.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn by_value(
        &self,
        current: i32,
        target: i64,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Proposal, String> {
        let (samples, groups) = self.sampled(resource, container)?;
        let ratio = |samples: &Samples| {
            let total: i64 = samples.values().map(|sample| sample.value).sum();
            let raw = total / i64::try_from(samples.len()).unwrap_or(1).max(1);
            Ok(Usage {
                ratio: raw as f64 / target as f64,
                utilization: 0,
                raw,
            })
        };
        self.replicas(current, samples, &groups, ratio, |_| target)
    }

    /// Samples of the pods that count at once, and how all pods are grouped.
    fn sampled(
        &self,
        resource: &str,
        container: Option<&str>,
    ) -> Result<(Samples, Groups), String> {
        let samples = self.samples(resource, container);
        let mut samples = samples
            .map_err(|why| format!("unable to get metrics for resource {resource}: {why}"))?;
        if self.pods.is_empty() {
            return Err(NO_POD.to_owned());
        }
        let groups = self.groups(&samples, resource);
        samples.retain(|pod, _| !groups.ignored.contains(pod) && !groups.unready.contains(pod));
        if samples.is_empty() {
            return Err(NO_METRICS.to_owned());
        }
        Ok((samples, groups))
    }

    /// What both calculations share.
    fn replicas(
        &self,
        current: i32,
        mut samples: Samples,
        groups: &Groups,
        usage: impl Fn(&Samples) -> Result<Usage, String>,
        busy: impl Fn(&Text) -> i64,
    ) -> Result<Proposal, String> {
        let first = usage(&samples)?;
        let proposal = |replicas| Proposal {
            replicas,
            utilization: first.utilization,
            raw: first.raw,
        };
        let idle_unready = !groups.unready.is_empty() && first.ratio > 1.0;
        if !idle_unready && groups.missing.is_empty() {
            if self.tolerances.within(first.ratio) {
                return Ok(proposal(current));
            }
            return Ok(proposal(rounded_up(first.ratio * groups.ready as f64)));
        }
        let sample = |value| Sample {
            timestamp: Time::ZERO,
            window: Duration::ZERO,
            value,
        };
        for pod in &groups.missing {
            if first.ratio < 1.0 {
                samples.insert(pod.clone(), sample(busy(pod)));
            } else if first.ratio > 1.0 {
                samples.insert(pod.clone(), sample(0));
            }
        }
        if idle_unready {
            let unready = groups.unready.iter().cloned();
            samples.extend(unready.map(|pod| (pod, sample(0))));
        }
        let again = usage(&samples)?.ratio;
        let turned = (first.ratio < 1.0 && again > 1.0) || (first.ratio > 1.0 && again < 1.0);
        if self.tolerances.within(again) || turned {
            return Ok(proposal(current));
        }
        let new = rounded_up(again * samples.len() as f64);
        if (again < 1.0 && new > current) || (again > 1.0 && new < current) {
            return Ok(proposal(current));
        }
        Ok(proposal(new))
    }

    /// `GetResourceMetric`.
    fn samples(&self, resource: &str, container: Option<&str>) -> Result<Samples, String> {
        let Some(metrics) = self.metrics else {
            return Err(
                "unable to fetch metrics from resource metrics API: the server could not \
                        find the requested resource (get pods.metrics.k8s.io)"
                    .to_owned(),
            );
        };
        // The metrics server answers for pods that run.
        let running = self
            .pods
            .iter()
            .filter(|pod| pod.status.phase == Phase::Running);
        let known = running.filter_map(|pod| {
            let key = (pod.meta.namespace.clone(), pod.meta.name.clone());
            Some((&pod.meta.name, metrics.get(&key)?))
        });
        let known: Vec<(&Text, &PodMetrics)> = known.collect();
        if known.is_empty() {
            return Err("no metrics returned from resource metrics API".to_owned());
        }
        let samples = known.into_iter().filter_map(|(name, metrics)| {
            let sample = Sample {
                timestamp: recorded(metrics.timestamp),
                window: metrics.window,
                value: used(metrics, resource, container)?,
            };
            Some((name.clone(), sample))
        });
        Ok(samples.collect())
    }

    fn groups(&self, samples: &Samples, resource: &str) -> Groups {
        let mut groups = Groups::default();
        for pod in &self.pods {
            let name = pod.meta.name.clone();
            if pod.meta.deleting() || pod.status.phase == Phase::Failed {
                groups.ignored.insert(name);
            } else if pod.status.phase == Phase::Pending {
                groups.unready.insert(name);
            } else {
                match samples.get(&name) {
                    None => {
                        groups.missing.insert(name);
                    }
                    Some(sample) if resource == "cpu" && self.too_young(pod, sample) => {
                        groups.unready.insert(name);
                    }
                    Some(_) => groups.ready += 1,
                }
            }
        }
        groups
    }

    /// Whether the CPU usage of a pod says more about its start than about its load.
    fn too_young(&self, pod: &Pod, sample: &Sample) -> bool {
        let conditions = &pod.status.conditions;
        let ready = conditions
            .iter()
            .find(|c| c.kind == PodConditionKind::Ready);
        let (Some(ready), Some(start)) = (ready, pod.status.start_time) else {
            return true;
        };
        let (since, start) = (recorded(ready.since), recorded(start));
        let unready = ready.status == Truth::False;
        if start + self.flags.cpu_initialization_period > self.now {
            // Within the period a sample counts when all of it was taken since the pod is ready.
            unready || sample.timestamp < since + sample.window
        } else {
            // After it, one is left out of pods that never were ready.
            unready && start + self.flags.initial_readiness_delay > since
        }
    }

    /// `calculateRequests`: in thousandths by pod.
    fn requests(
        &self,
        resource: &str,
        container: Option<&str>,
    ) -> Result<BTreeMap<Text, i64>, String> {
        let each = self.pods.iter().map(|pod| {
            let of_pod = &pod.spec.source["resources"]["requests"];
            let milli = match (of_pod.as_object(), container) {
                (Some(named), None) if !named.is_empty() => amount(&pod.spec.requests, resource)
                    .ok_or_else(|| {
                        let name = &pod.meta.name;
                        format!("missing pod-level request for {resource} in Pod {name}")
                    })?,
                _ => of_containers(pod, resource, container)?,
            };
            Ok((pod.meta.name.clone(), milli))
        });
        each.collect()
    }
}

/// `getPodMetrics` and `getContainerMetrics`: in thousandths.
fn used(metrics: &PodMetrics, resource: &str, container: Option<&str>) -> Option<i64> {
    let mut counted = metrics.containers.iter();
    let counted: Vec<_> = match container {
        Some(name) => counted.find(|c| c.name == name).into_iter().collect(),
        None => counted.collect(),
    };
    if counted.is_empty() {
        return None;
    }
    let narrow = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    let values = counted.iter().map(|c| match resource {
        "cpu" => Some(narrow(c.cpu_nanos.div_ceil(1_000_000))),
        "memory" => Some(narrow(c.memory).saturating_mul(1000)),
        _ => None,
    });
    values.sum()
}

/// `calculatePodRequestsFromContainers`.
fn of_containers(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let sidecars = pod.spec.init_containers.iter().filter(|c| c.restart_always);
    let wanted = |c: &&Container| container.is_none_or(|name| c.name == name);
    let mut counted = pod
        .spec
        .containers
        .iter()
        .chain(sidecars)
        .filter(wanted)
        .peekable();
    let name = &pod.meta.name;
    if let (None, Some(container)) = (counted.peek(), container) {
        return Err(format!("container {container} not found in Pod {name}"));
    }
    let each = counted.map(|c| {
        amount(&c.requests, resource).ok_or_else(|| {
            format!(
                "missing request for {resource} in container {} of Pod {name}",
                c.name
            )
        })
    });
    each.sum()
}

/// An amount in thousandths, if it was named.
fn amount(of: &Resources, resource: &str) -> Option<i64> {
    let named = |bit: u8, amount: i64| (of.named & bit != 0).then_some(amount);
    match resource {
        "cpu" => named(1, of.cpu_milli),
        "memory" => named(2, of.memory.saturating_mul(1000)),
        "ephemeral-storage" => named(4, of.ephemeral.saturating_mul(1000)),
        other => {
            let found = of.extended.iter().find(|(name, _)| name == other);
            found.map(|(_, amount)| amount.saturating_mul(1000))
        }
    }
}

fn saturated(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// `int32(math.Ceil(x))`.
fn rounded_up(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

#[cfg(test)]
mod tests;
