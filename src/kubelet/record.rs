//! What the runtime would report about one pod: its sandbox and its containers.
//!
//! A [`Record`] is the truth as told by [`RuntimeEvent`](super::RuntimeEvent)s. It survives the
//! kubelet's own restarts, as the runtime does, and a reboot leaves its containers exited. The
//! kubelet's decisions read what the last relist saw of it (`pkg/kubelet/pleg/generic.go`), which
//! the pod worker keeps apart while it differs.

use smallvec::SmallVec;

use super::runtime::{RuntimeEvent, StartOutcome};
use crate::api::PodSpec;
use crate::api::pod_status::{PodIp, Terminated};
use crate::api::{Text, text};
use crate::engine::Time;

/// `kubecontainer.PodStatus`, as far as decisions need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) sandbox: Sandbox,
    /// Number of the sandbox's attempt, counted from 1; 0 before the first.
    pub(super) sandboxes: u8,
    /// When the sandbox became ready.
    pub(super) since: Time,
    pub(super) ip: Option<PodIp>,
    /// By [`ContainerId::index`](super::ContainerId::index).
    pub(super) containers: SmallVec<[Slot; 1]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sandbox {
    #[default]
    None,
    Ready,
    Dead,
}

/// The two latest attempts of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    /// Attempts so far, those that were forgotten included.
    pub(super) attempts: u16,
    /// The definition that the latest was asked for with.
    pub(super) asked: u32,
    pub(super) current: Option<Attempt>,
    pub(super) previous: Option<Attempt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) number: u16,
    /// [`definition`](super::actions::definition) of what it runs.
    pub(super) definition: u32,
    pub(super) started: Time,
    pub(super) exit: Option<Exit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) at: Time,
    pub(super) code: u8,
    pub(super) why: ExitReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExitReason {
    /// By its own exit code.
    Code,
    Oom,
    /// Its first process could not be started.
    Start,
    /// The node lost power.
    Unknown,
}

impl Attempt {
    pub(super) fn running(&self) -> bool {
        self.exit.is_none()
    }

    /// The terminated state that the API shows, if it ended; whole seconds as upstream writes them.
    pub(super) fn terminated(&self) -> Option<Terminated> {
        let exit = self.exit?;
        Some(Terminated {
            exit_code: exit.code.into(),
            reason: exit.reason(),
            message: None,
            started: whole_seconds(self.started),
            finished: whole_seconds(exit.at),
        })
    }
}

impl Exit {
    /// The reasons that containerd gives.
    pub(super) fn reason(&self) -> Text {
        match self.why {
            ExitReason::Code if self.code == 0 => text!("Completed"),
            ExitReason::Code => text!("Error"),
            ExitReason::Oom => text!("OOMKilled"),
            ExitReason::Start => text!("StartError"),
            ExitReason::Unknown => text!("Unknown"),
        }
    }
}

/// The API server keeps times of statuses to the second (`status_manager.go :: normalizeStatus`).
pub(super) fn whole_seconds(at: Time) -> Time {
    Time::from_nanos(at.as_nanos() / 1_000_000_000 * 1_000_000_000)
}

impl Slot {
    pub(super) fn running(&self) -> bool {
        self.current.is_some_and(|c| c.running())
    }

    /// The exit of the current attempt, if it has ended.
    pub(super) fn exit(&self) -> Option<Exit> {
        self.current?.exit
    }

    /// The latest attempt that has ended.
    pub(super) fn last_exit(&self) -> Option<Exit> {
        self.exit().or_else(|| self.previous?.exit)
    }

    /// The runtime removed what it had of the container.
    pub(super) fn forget(&mut self) {
        (self.current, self.previous) = (None, None);
    }

    /// A start was answered: a new attempt, the one before becomes the previous. A container that
    /// could not even be created leaves no trace.
    pub(super) fn hear_start(&mut self, number: u16, outcome: StartOutcome, now: Time) {
        let exit = match outcome {
            StartOutcome::Ok => None,
            StartOutcome::CreateFailed => {
                self.attempts = number;
                return;
            }
            StartOutcome::RunFailed => Some(Exit {
                at: now,
                code: 128,
                why: ExitReason::Start,
            }),
        };
        if self.current.is_some() {
            self.previous = self.current;
        }
        self.attempts = number.wrapping_add(1);
        self.current = Some(Attempt {
            number,
            definition: self.asked,
            started: now,
            exit,
        });
    }
}

impl Record {
    pub(super) fn new(spec: &PodSpec) -> Record {
        let count = spec.init_containers.len() + spec.containers.len();
        Record {
            containers: SmallVec::from_elem(Slot::default(), count),
            ..Record::default()
        }
    }

    pub(super) fn slot(&self, index: usize) -> Slot {
        self.containers.get(index).copied().unwrap_or_default()
    }

    pub(super) fn slot_mut(&mut self, index: u16) -> Option<&mut Slot> {
        self.containers.get_mut(usize::from(index))
    }

    /// The running attempt with this number, to change.
    pub(super) fn attempt_mut(&mut self, index: u16, number: u16) -> Option<&mut Attempt> {
        let current = self.slot_mut(index)?.current.as_mut()?;
        (current.number == number).then_some(current)
    }

    pub(super) fn any_running(&self) -> bool {
        self.containers.iter().any(Slot::running)
    }

    /// Whether any ordinary container was ever created (`HasAnyRegularContainerCreated`).
    pub(super) fn any_main_created(&self, inits: usize) -> bool {
        self.containers
            .iter()
            .skip(inits)
            .any(|s| s.current.is_some())
    }

    /// Whether any ordinary container was started in the present sandbox
    /// (`HasAnyActiveRegularContainerStarted`).
    pub(super) fn any_main_active(&self, inits: usize) -> bool {
        self.sandbox == Sandbox::Ready
            && self
                .containers
                .iter()
                .skip(inits)
                .any(|s| s.current.is_some_and(|c| c.started >= self.since))
    }

    /// What the runtime tells while no kubelet listens.
    pub(super) fn hear(&mut self, event: RuntimeEvent, now: Time) {
        match event {
            RuntimeEvent::SandboxReady { attempt, ok, .. } => {
                if ok && attempt == self.sandboxes {
                    self.sandbox = Sandbox::Ready;
                    self.since = now;
                }
            }
            RuntimeEvent::Started { container, outcome } => {
                if let Some(slot) = self.slot_mut(container.index) {
                    slot.hear_start(container.attempt, outcome, now);
                }
            }
            RuntimeEvent::Exited {
                container,
                code,
                oom,
            } => {
                let attempt = self.attempt_mut(container.index, container.attempt);
                if let Some(attempt) = attempt.filter(|a| a.running()) {
                    let why = if oom {
                        ExitReason::Oom
                    } else {
                        ExitReason::Code
                    };
                    attempt.exit = Some(Exit { at: now, code, why });
                }
            }
            RuntimeEvent::Removed { .. } => self.removed(now),
            RuntimeEvent::Pulled { .. }
            | RuntimeEvent::Probed { .. }
            | RuntimeEvent::HookDone { .. }
            | RuntimeEvent::PodMemory { .. }
            | RuntimeEvent::PodDisk { .. }
            | RuntimeEvent::ContainerDisk { .. }
            | RuntimeEvent::VolumeDisk { .. }
            | RuntimeEvent::PodFiles { .. }
            | RuntimeEvent::PodProcesses { .. }
            | RuntimeEvent::Tight { .. }
            | RuntimeEvent::NodeMemory { .. } => {}
        }
    }

    /// The sandbox is gone, and with it whatever still ran in it.
    pub(super) fn removed(&mut self, now: Time) {
        if self.sandbox == Sandbox::Ready {
            self.sandbox = Sandbox::Dead;
        }
        for slot in &mut self.containers {
            if let Some(attempt) = slot.current.as_mut().filter(|a| a.running()) {
                attempt.exit = Some(Exit {
                    at: now,
                    code: 137,
                    why: ExitReason::Code,
                });
            }
        }
    }

    /// The node lost power: containers ended without telling, networks are gone.
    pub(super) fn power_off(&mut self, now: Time) {
        for slot in &mut self.containers {
            if let Some(attempt) = slot.current.as_mut().filter(|a| a.running()) {
                attempt.exit = Some(Exit {
                    at: now,
                    code: 255,
                    why: ExitReason::Unknown,
                });
            }
        }
        if self.sandbox == Sandbox::Ready {
            self.sandbox = Sandbox::Dead;
        }
    }
}
