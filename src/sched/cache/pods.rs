//! Where each pod is, by its number.

use super::NodeIx;

/// What is kept of a pod that is on a node, in a few bytes: pods that are handled one after the other
/// have numbers close together, so that what is kept of them is too.
#[derive(Clone, Copy, Debug)]
pub(super) struct PodState {
    node: u32,
    class: u32,
    /// Bound by the scheduler's own decision, not yet seen as bound.
    pub(super) assumed: bool,
    /// Its deletion was not asked for.
    pub(super) live: bool,
}

impl PodState {
    pub(super) fn new(node: NodeIx, class: usize, assumed: bool, live: bool) -> PodState {
        let small = |number: usize| u32::try_from(number).expect("fewer than 2^32");
        PodState {
            node: small(node),
            class: small(class),
            assumed,
            live,
        }
    }

    /// Its node.
    pub(super) fn node(&self) -> NodeIx {
        self.node as usize
    }

    /// The number of its class.
    pub(super) fn class(&self) -> usize {
        self.class as usize
    }
}

/// By number of the pod.
#[derive(Debug, Default)]
pub(super) struct Pods(Vec<Option<PodState>>);

impl Pods {
    pub(super) fn get(&self, pod: u32) -> Option<&PodState> {
        self.0.get(pod as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, pod: u32) -> Option<&mut PodState> {
        self.0.get_mut(pod as usize)?.as_mut()
    }

    pub(super) fn insert(&mut self, pod: u32, state: PodState) {
        let at = pod as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, None);
        }
        self.0[at] = Some(state);
    }

    pub(super) fn remove(&mut self, pod: u32) -> Option<PodState> {
        self.0.get_mut(pod as usize)?.take()
    }
}
