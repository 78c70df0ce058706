//! Quality of service classes of pods.
//!
//! `pkg/apis/core/v1/helper/qos/qos.go :: ComputePodQOS`: resources of the pod as a whole decide
//! where there are any, else those of its containers.

use crate::api::PodSpec;
use crate::api::quantity::Resources;

/// `status.qosClass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QosClass {
    /// Every container has limits for CPU and memory that equal its requests.
    Guaranteed,
    /// Some container has a request or limit.
    Burstable,
    /// No container has any.
    BestEffort,
}

impl QosClass {
    /// As in the API.
    pub fn name(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }

    /// The class of a pod with this spec.
    pub fn of(spec: &PodSpec) -> QosClass {
        let pair = |r: &Resources| (r.cpu_milli, r.memory);
        if let Some((requests, limits)) = spec.whole() {
            let limited = limits.cpu_milli > 0 && limits.memory > 0;
            return QosClass::from_sums(pair(&requests), pair(&limits), limited);
        }
        let add = |sum: (i64, i64), r: &Resources| {
            let (cpu, memory) = pair(r);
            (sum.0.saturating_add(cpu), sum.1.saturating_add(memory))
        };
        let (mut requests, mut limits) = ((0, 0), (0, 0));
        let mut guaranteed = true;
        for container in spec.containers.iter().chain(&spec.init_containers) {
            requests = add(requests, &container.requests);
            limits = add(limits, &container.limits);
            guaranteed &= container.limits.cpu_milli > 0 && container.limits.memory > 0;
        }
        QosClass::from_sums(requests, limits, guaranteed)
    }

    /// From sums of CPU and memory.
    fn from_sums(requests: (i64, i64), limits: (i64, i64), guaranteed: bool) -> QosClass {
        if requests == (0, 0) && limits == (0, 0) {
            return QosClass::BestEffort;
        }
        if guaranteed && requests == limits {
            QosClass::Guaranteed
        } else {
            QosClass::Burstable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::container::Container;

    fn container(requests: (i64, i64), limits: (i64, i64)) -> Container {
        let of = |(cpu_milli, memory)| Resources {
            cpu_milli,
            memory,
            ..Resources::default()
        };
        Container {
            requests: of(requests),
            limits: of(limits),
            ..Container::default()
        }
    }

    #[test]
    fn classes_follow_from_requests_and_limits_of_all_containers() {
        let table = [
            (vec![((0, 0), (0, 0))], "BestEffort"),
            (vec![((100, 0), (0, 0))], "Burstable"),
            (vec![((0, 0), (0, 64))], "Burstable"),
            (vec![((100, 64), (100, 64))], "Guaranteed"),
            (vec![((100, 64), (200, 64))], "Burstable"),
            (vec![((100, 64), (100, 64)), ((0, 0), (0, 0))], "Burstable"),
        ];
        for (containers, class) in table {
            let spec = PodSpec {
                containers: containers
                    .into_iter()
                    .map(|(r, l)| container(r, l))
                    .collect(),
                ..PodSpec::default()
            };
            assert_eq!(QosClass::of(&spec).name(), class);
        }
    }
}
