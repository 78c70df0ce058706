//! Streams of pods that come, run for a while and end: batch work, whoever submits it.
//!
//! A stream is any iterator over [`PodArrival`]s in the order of their times; the composition root
//! creates each pod when its time has come, so a stream of a million pods costs no memory before.
//! [`PoissonPods`] is such a stream; a trace is another. How long a pod's containers run is told by
//! the AppModel that selects it (`exit`), as for every other container.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::api::{Labels, Meta, Pod, PodSpec, Shared, Text};
use crate::engine::draws::{Draws, Purpose};

const GAP: Purpose = Purpose::new("load/pod-gap");
const CHOICE: Purpose = Purpose::new("load/pod-template");

/// A pod to be created.
#[derive(Clone, Debug)]
pub struct PodArrival {
    /// When, counted from the beginning of the stream.
    pub at: Duration,
    /// What is created.
    pub pod: Arc<Pod>,
}

/// A stream of pods in the order of their times.
pub type PodStream = Box<dyn Iterator<Item = PodArrival> + Send>;

/// One kind of pod in a stream.
#[derive(Clone, Debug)]
pub struct PodKind {
    /// How many of this kind among the sum of all weights.
    pub weight: u32,
    /// Labels.
    pub labels: Labels,
    /// Shared by all pods of the kind.
    pub spec: Arc<PodSpec>,
}

/// Pods whose arrivals are a Poisson process: times between them are exponential and independent.
/// The n-th pod is a function of n and of the stream's name, whatever else is drawn.
#[derive(Clone, Debug)]
pub struct PoissonPods {
    name: Text,
    /// The last pod's name: the stream's, a dash and a number.
    stem: String,
    namespace: Text,
    kinds: Vec<PodKind>,
    weights: u64,
    /// Mean time between two pods, in seconds.
    mean_s: f64,
    left: u64,
    n: u64,
    at_s: f64,
    draws: Draws,
    entity: u64,
}

impl PoissonPods {
    /// `count` pods named `NAME-0`, `NAME-1` … at `per_second` on average.
    ///
    /// # Panics
    /// Without kinds of a positive weight, or when the rate is not positive.
    pub fn new(
        name: &str,
        namespace: &str,
        kinds: Vec<PodKind>,
        per_second: f64,
        count: u64,
        draws: Draws,
    ) -> Self {
        let weights = kinds.iter().map(|k| u64::from(k.weight)).sum();
        assert!(weights > 0, "a stream needs a kind of pod");
        assert!(per_second > 0.0, "a stream needs a positive rate");
        PoissonPods {
            name: name.into(),
            stem: format!("{name}-"),
            namespace: namespace.into(),
            kinds,
            weights,
            mean_s: 1.0 / per_second,
            left: count,
            n: 0,
            at_s: 0.0,
            draws,
            entity: crate::engine::entity_key(&[namespace, name]),
        }
    }

    fn kind(&self, n: u64) -> &PodKind {
        let mut at = self.draws.below(CHOICE, self.entity, n, self.weights);
        for kind in &self.kinds {
            match at.checked_sub(u64::from(kind.weight)) {
                Some(rest) => at = rest,
                None => return kind,
            }
        }
        unreachable!("the draw is below the sum of all weights")
    }
}

impl Iterator for PoissonPods {
    type Item = PodArrival;

    fn next(&mut self) -> Option<PodArrival> {
        self.left = self.left.checked_sub(1)?;
        let n = self.n;
        self.n += 1;
        let unit = self.draws.unit(GAP, self.entity, n);
        self.at_s -= libm::log1p(-unit) * self.mean_s;
        self.stem.truncate(self.name.len() + 1);
        // Writing to a string cannot fail.
        let _ = write!(self.stem, "{n}");
        let name = Text::from(self.stem.as_str());
        let kind = self.kind(n);
        let pod = Pod {
            meta: Meta {
                namespace: self.namespace.clone(),
                name,
                labels: kind.labels.clone(),
                ..Meta::default()
            },
            spec: kind.spec.clone(),
            node_name: None,
            status: Shared::default(),
        };
        Some(PodArrival {
            at: Duration::from_nanos((self.at_s * 1e9) as u64),
            pod: Arc::new(pod),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(per_second: f64, count: u64) -> Vec<PodArrival> {
        let kind = |weight, app: &str| PodKind {
            weight,
            labels: Labels::from_iter([("app", app)]),
            spec: Arc::default(),
        };
        let kinds = vec![kind(3, "a"), kind(1, "b")];
        PoissonPods::new("work", "default", kinds, per_second, count, Draws::new(7)).collect()
    }

    #[test]
    fn arrivals_keep_the_rate_and_kinds_keep_their_weights() {
        let all = pods(50.0, 10_000);
        assert!(all.windows(2).all(|two| two[0].at <= two[1].at));
        // The sum of 10,000 gaps of 20 ms is 200 s; its standard deviation is 2 s.
        let end = all[9_999].at.as_secs_f64();
        assert!((192.0..208.0).contains(&end), "{end}");
        let a = all
            .iter()
            .filter(|p| p.pod.meta.labels.get("app") == Some(&"a".into()));
        // 3 of 4: 7,500 with a standard deviation of 43.
        let a = a.count();
        assert!((7_300..7_700).contains(&a), "{a}");
        assert_eq!(all[17].pod.meta.name, "work-17");
    }

    #[test]
    fn a_longer_stream_begins_like_a_shorter_one() {
        let (short, long) = (pods(50.0, 10), pods(50.0, 20));
        let ats = |pods: &[PodArrival]| pods.iter().map(|p| p.at).collect::<Vec<_>>();
        assert_eq!(ats(&short), ats(&long)[..10]);
    }
}
