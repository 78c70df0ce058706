//! The simulated runtime: how long containers take to come and go.
//!
//! It answers what a container runtime answers (sandboxes, pulls, starts, removals) after a drawn
//! latency. What happens inside a container (listening, probes, signals, memory) is the data plane's
//! business. Every draw is keyed by the pod's name and attempt, so that pod 17 starts as fast under
//! one scheduler as under another.

use std::time::Duration;

use crate::cluster::{Asked, Cluster, Event, Request};
use crate::engine::{Backend, Dist, Draws, Purpose, Sampler, Time, entity_key};
use crate::kubelet::runtime::{Call, PullOutcome, RuntimeEvent, StartOutcome};
use crate::scenario::types::LatencySpec;

const SANDBOX: Purpose = Purpose::new("runtime/sandbox");
const PULL: Purpose = Purpose::new("runtime/pull");
const START: Purpose = Purpose::new("runtime/start");
/// Every image is this large, in MiB.
const IMAGE_MIB: u16 = 100;
const REMOVE: Purpose = Purpose::new("runtime/remove");

/// How long the runtime takes; measured values come from `calibrate`.
#[derive(Clone, Debug)]
pub struct RuntimeLatency {
    /// Network namespace, addresses, pause process.
    pub sandbox: Dist,
    /// An image without an `imagePull` in its AppModel.
    pub pull: Dist,
    /// The registry is only asked whether the image on the node is the newest.
    pub resolve: Dist,
    /// Create and start one container.
    pub start: Dist,
    /// Kill what runs and take the sandbox away.
    pub remove: Dist,
}

impl Default for RuntimeLatency {
    /// The order of magnitude of containerd with a CNI plugin on an unloaded node; a registry in
    /// the same region and an image of about 100 MB.
    fn default() -> Self {
        let ms = Duration::from_millis;
        RuntimeLatency {
            sandbox: Dist::LogNormal {
                p50: ms(150),
                p99: ms(600),
            },
            pull: Dist::LogNormal {
                p50: ms(2_000),
                p99: ms(8_000),
            },
            resolve: Dist::LogNormal {
                p50: ms(400),
                p99: ms(1_500),
            },
            start: Dist::LogNormal {
                p50: ms(120),
                p99: ms(500),
            },
            remove: Dist::LogNormal {
                p50: ms(60),
                p99: ms(250),
            },
        }
    }
}

impl RuntimeLatency {
    /// With the spans that a scenario gives.
    pub fn with(self, given: &LatencySpec) -> Self {
        let or = |given: &Option<Dist>, usual| given.clone().unwrap_or(usual);
        RuntimeLatency {
            sandbox: or(&given.sandbox, self.sandbox),
            pull: or(&given.pull, self.pull),
            resolve: or(&given.resolve, self.resolve),
            start: or(&given.start, self.start),
            remove: or(&given.remove, self.remove),
        }
    }

    /// Containers that are processes of this host, started by the Linux backend: the order of
    /// magnitude of its own starts and stops (1 to 2 ms, with a long tail on a busy host). Pulls
    /// are the same draws on both sides.
    pub fn processes() -> Self {
        let us = Duration::from_micros;
        let short = |p50, p99| Dist::LogNormal {
            p50: us(p50),
            p99: us(p99),
        };
        RuntimeLatency {
            sandbox: short(1_500, 8_000),
            start: short(1_500, 8_000),
            remove: short(500, 5_000),
            ..RuntimeLatency::default()
        }
    }
}

/// The backend of a simulated run.
#[derive(Debug)]
pub struct Simulated {
    draws: Draws,
    sandbox: Sampler,
    pull: Sampler,
    resolve: Sampler,
    start: Sampler,
    remove: Sampler,
}

impl Simulated {
    /// A runtime with these latencies.
    pub fn new(draws: Draws, latency: RuntimeLatency) -> Self {
        Simulated {
            draws,
            sandbox: latency.sandbox.sampler(),
            pull: latency.pull.sampler(),
            resolve: latency.resolve.sampler(),
            start: latency.start.sampler(),
            remove: latency.remove.sampler(),
        }
    }

    /// What is answered, and after how long; nothing for what the data plane answers.
    pub fn answer(&self, request: &Asked) -> Option<(Duration, RuntimeEvent)> {
        let unit = |purpose, n| self.draws.unit(purpose, request.entity, n);
        let draw = |dist: &Sampler, purpose, n| dist.sample(unit(purpose, n));
        Some(match &request.runtime.what {
            Call::StartSandbox { pod, attempt, .. } => (
                draw(&self.sandbox, SANDBOX, u64::from(*attempt)),
                RuntimeEvent::SandboxReady {
                    pod: *pod,
                    attempt: *attempt,
                    ok: true,
                },
            ),
            Call::PullImage {
                container,
                image,
                present,
                ..
            } => {
                // All layers are there: only the manifest is fetched.
                let n = entity_key(&[image]).wrapping_add(u64::from(container.attempt));
                let (outcome, mib) = match request.missing {
                    true => (PullOutcome::NotFound, 0),
                    false => (PullOutcome::Ok, IMAGE_MIB),
                };
                let pulled = RuntimeEvent::Pulled {
                    container: *container,
                    outcome,
                    mib,
                };
                let took = match &request.pull {
                    _ if *present || request.missing => draw(&self.resolve, PULL, n),
                    Some(model) => model.sample(unit(PULL, n)),
                    None => draw(&self.pull, PULL, n),
                };
                (took, pulled)
            }
            Call::StartContainer { container, .. } => (
                draw(
                    &self.start,
                    START,
                    u64::from(container.index) << 16 | u64::from(container.attempt),
                ),
                RuntimeEvent::Started {
                    container: *container,
                    outcome: StartOutcome::Ok,
                },
            ),
            Call::RemovePod { pod } => (
                draw(&self.remove, REMOVE, 0),
                RuntimeEvent::Removed { pod: *pod },
            ),
            Call::Signal { .. }
            | Call::Probe { .. }
            | Call::Hook { .. }
            | Call::Stats
            | Call::WatchMemory { .. } => {
                return None;
            }
        })
    }
}

impl Backend<Cluster> for Simulated {
    fn submit(&mut self, now: Time, request: Request, inbox: &mut Vec<(Time, Event)>) {
        let Request::Runtime(asked) = request else {
            unreachable!("a cluster with simulated containers asks for nothing else");
        };
        if let Some((after, event)) = self.answer(&asked) {
            inbox.push((now + after, Event::Runtime(event)));
        }
    }

    /// The outside never speaks: whatever is due happens without asking again.
    fn wait(&mut self, until: Option<Time>, _: &mut Vec<(Time, Event)>) -> Option<Time> {
        until.map(|_| Time::MAX)
    }
}
