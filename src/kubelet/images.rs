//! Images: which are on the node, and the queue of pulls.
//!
//! `pkg/kubelet/images/image_manager.go` and `puller.go`. By default one image is pulled at a time
//! on a node, whoever wants it, in the order of asking.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::config::KubeletConfig;
use super::host::{Cx, Host};
use super::image_name::{self, tagged, with_tag};
use super::pod_worker::PodWorker;
use super::runtime::{Call, ContainerId, PullOutcome, container_of};
use super::start::Fault;
use crate::api::container::{Container, PullPolicy};
use crate::api::{Node, Pod, Text, text};
use crate::client::Budget;
use crate::client::back_off::{BackOff, Limits};
use crate::engine::Time;

/// The images of one node.
#[derive(Debug)]
pub(super) struct Images {
    /// On the node.
    pub(super) present: Present,
    waiting: VecDeque<(ContainerId, Arc<Pod>)>,
    /// Pulls that the runtime works on, and since when.
    pulling: Vec<(ContainerId, Time)>,
    /// Of failing pulls, by pod and image as it is written.
    failing: BTreeMap<(u32, Text), Failing>,
    registry: Option<Budget>,
}

/// A few images by name with tag, with their sizes in MiB, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Present(SmallVec<[(Text, u16); 6]>);

impl Present {
    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|(known, _)| known.as_str().cmp(name))
    }

    /// Whether an image is there whose name is written like this.
    fn has(&self, image: &Text) -> bool {
        // Mostly it is the very text with which it was pulled.
        let pulled = |(name, _): &(Text, u16)| std::ptr::eq(name.as_str(), image.as_str());
        self.0.iter().any(pulled) || self.find(&tagged(image)).is_ok()
    }

    /// The size of the image with this name and tag.
    fn size(&self, name: &str) -> Option<u16> {
        self.find(name).ok().map(|at| self.0[at].1)
    }

    /// Adds an image; whether it was not there or had another size.
    fn add(&mut self, name: Text, mib: u16) -> bool {
        match self.find(&name) {
            Ok(at) => std::mem::replace(&mut self.0[at].1, mib) != mib,
            Err(at) => {
                self.0.insert(at, (name, mib));
                true
            }
        }
    }

    /// All of them in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Text, u16)> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps what `wanted` names; whether anything went.
    pub(super) fn keep(&mut self, wanted: &BTreeSet<Text>) -> bool {
        let before = self.0.len();
        self.0.retain(|(name, _)| wanted.contains(name));
        self.0.len() != before
    }
}

/// An image that could not be pulled for a pod.
#[derive(Debug, Default)]
struct Failing {
    back_off: BackOff,
    /// How the last try ended (`prevPullErrMsg`).
    why: String,
}

/// Whether a container's image can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    Pulling,
    /// It cannot, and why in words.
    Missing(Fault, String),
}

impl Images {
    /// The images that the node's row says it has.
    pub(super) fn new(config: &KubeletConfig, node: &Node) -> Images {
        let (qps, burst) = (config.registry_qps, config.registry_burst.max(1));
        let mib = |bytes: i64| u16::try_from(bytes >> 20).unwrap_or(u16::MAX);
        let shown = node.status.images.iter();
        let shown =
            shown.flat_map(|(names, size)| names.iter().map(move |name| (with_tag(name), *size)));
        let mut present = Present::default();
        for (name, bytes) in shown {
            present.add(name, mib(bytes));
        }
        Images {
            present,
            waiting: VecDeque::new(),
            pulling: Vec::new(),
            failing: BTreeMap::new(),
            registry: (qps > 0).then(|| Budget::per_second(qps, burst)),
        }
    }

    /// The pod is gone: so is what was remembered about its pulls.
    pub(super) fn forget(&mut self, pod: u32) {
        self.failing.retain(|(of, _), _| *of != pod);
    }
}

fn limits(config: &KubeletConfig) -> Limits {
    Limits {
        first: config.image_back_off,
        longest: config.image_back_off_max,
        expires: config.image_back_off_max * 2,
    }
}

impl Host {
    /// Asks for a pull, now or when it is its turn.
    pub(super) fn pull(&mut self, cx: &mut Cx<'_>, container: ContainerId, row: &Arc<Pod>) {
        self.images.waiting.push_back((container, row.clone()));
        self.pull_next(cx);
    }

    fn pull_next(&mut self, cx: &mut Cx<'_>) {
        let most = if self.config.serialize_image_pulls {
            1
        } else {
            self.config
                .max_parallel_image_pulls
                .map_or(usize::MAX, |n| n as usize)
        };
        while self.images.pulling.len() < most {
            let Some((container, row)) = self.images.waiting.pop_front() else {
                return;
            };
            let Some(image) = container_of(&row.spec, container.index).map(|c| c.image.clone())
            else {
                continue;
            };
            self.images.pulling.push((container, cx.now));
            let present = self.images.present.has(&image);
            let what = Call::PullImage {
                container,
                image,
                present,
                row,
            };
            self.ask(cx, what);
        }
    }

    /// A pull ended: the next may begin. Returns how long the runtime took; `None` when it was not
    /// asked for in this life.
    pub(super) fn pull_done(
        &mut self,
        cx: &mut Cx<'_>,
        container: ContainerId,
        image: Option<&Text>,
        outcome: PullOutcome,
        mib: u16,
    ) -> Option<Duration> {
        if outcome == PullOutcome::Ok
            && let Some(image) = image
        {
            let image = with_tag(image);
            if self.images.present.add(image, mib) {
                self.reporting.images_changed = true;
                self.wake_node_status(cx);
                self.watch_disk(cx);
            }
        }
        let pulls = &mut self.images.pulling;
        let at = pulls.iter().position(|(c, _)| *c == container)?;
        let (_, since) = pulls.remove(at);
        self.pull_next(cx);
        Some(cx.now.since(since))
    }
}

impl PodWorker {
    /// `EnsureImageExists` up to the pull itself.
    pub(super) fn ensure_image(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        container: &Container,
    ) -> Presence {
        let image = &container.image;
        let here = container.pull_policy != PullPolicy::Always && host.images.present.has(image);
        // What was pulled before has a name that can be read.
        if !here && let Some(problem) = image_name::problem(image) {
            let message = format!(
                "Failed to apply default image tag \"{image}\": couldn't parse image name \
                 \"{image}\": {problem}"
            );
            self.tell(host, cx, true, "InspectFailed", message.clone());
            return Presence::Missing(Fault::ImageName, message);
        }
        if here {
            let here = "\" already present on machine and can be accessed by the pod";
            let message = ["Container image \"", image, here].concat();
            self.tell(host, cx, false, text!("Pulled"), message);
            return Presence::Here;
        }
        if container.pull_policy == PullPolicy::Never {
            let message =
                format!("Container image \"{image}\" is not present with pull policy of Never");
            self.tell(host, cx, true, "ErrImageNeverPull", message.clone());
            return Presence::Missing(Fault::NeverPull, message);
        }
        let limits = limits(&host.config);
        let key = (self.id.0, image.clone());
        let failing = host.images.failing.get(&key);
        if let Some(failing) = failing.filter(|f| f.back_off.since_step(cx.now, limits)) {
            let message = format!("Back-off pulling image \"{image}\"");
            let why = format!("{message}: {}: {}", Fault::Pull.reason(), failing.why);
            self.tell(host, cx, false, "BackOff", message);
            return Presence::Missing(Fault::PullBackOff, why);
        }
        let message = format!("Pulling image \"{image}\"");
        self.tell(host, cx, false, "Pulling", message);
        let registry = host.images.registry.as_mut();
        if registry.is_some_and(|registry| !registry.try_take(cx.now)) {
            let why = "pull QPS exceeded".to_owned();
            self.pull_failed(host, cx, image, &why);
            return Presence::Missing(Fault::Pull, why);
        }
        Presence::Pulling
    }

    fn pull_failed(&mut self, host: &mut Host, cx: &mut Cx<'_>, image: &Text, why: &str) {
        let message = format!("Failed to pull image \"{image}\": {why}");
        self.tell(host, cx, true, "Failed", message);
        let limits = limits(&host.config);
        let key = (self.id.0, image.clone());
        let failing = host.images.failing.entry(key).or_default();
        failing.back_off.step(cx.now, cx.now, limits);
        why.clone_into(&mut failing.why);
    }

    /// The end of `pullImage`; the image is there, or why it is not.
    pub(super) fn pull_ended(
        &mut self,
        host: &mut Host,
        cx: &mut Cx<'_>,
        image: &Text,
        outcome: PullOutcome,
        took: Duration,
        waited: Duration,
    ) -> Result<(), String> {
        let full = with_tag(image);
        let why = match outcome {
            PullOutcome::Ok => {
                let mib = host.images.present.size(&full).unwrap_or(0);
                let message = format!(
                    "Successfully pulled image \"{image}\" in {} ({} including waiting). Image \
                     size: {} bytes.",
                    go_duration(took),
                    go_duration(waited),
                    u64::from(mib) << 20
                );
                self.tell(host, cx, false, "Pulled", message);
                return Ok(());
            }
            PullOutcome::NotFound => format!(
                "rpc error: code = NotFound desc = failed to pull and unpack image \"{full}\": \
                 failed to resolve reference \"{full}\": {full}: not found"
            ),
            PullOutcome::Unreachable => format!(
                "rpc error: code = Unavailable desc = failed to pull and unpack image \
                 \"{full}\": failed to resolve reference \"{full}\": failed to do request: dial \
                 tcp: i/o timeout"
            ),
        };
        self.pull_failed(host, cx, image, &why);
        Err(why)
    }
}

/// Go's `Duration.String`, cut to milliseconds.
pub(super) fn go_duration(span: Duration) -> String {
    let millis = span.as_millis();
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (secs, rest) = (millis / 1000, millis % 1000);
    let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
    let mut text = String::new();
    if h > 0 {
        text += &format!("{h}h");
    }
    if secs >= 60 {
        text += &format!("{m}m");
    }
    text += &s.to_string();
    if rest > 0 {
        text += format!(".{rest:03}").trim_end_matches('0');
    }
    text + "s"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_print_as_go_prints_them() {
        let table = [
            (0, "0s"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_230, "1.23s"),
            (60_000, "1m0s"),
            (123_500, "2m3.5s"),
            (3_600_000, "1h0m0s"),
        ];
        for (millis, text) in table {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
