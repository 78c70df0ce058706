//! The scripted runtime of a [`Machine`].

use super::*;

impl Machine {
    pub(super) fn after(&mut self, wait: Duration, event: RuntimeEvent) {
        self.queue.after(wait, Due::Runtime(event));
    }

    pub(super) fn name_of(&self, container: ContainerId) -> String {
        let row = &self.pods[&container.pod];
        runtime::container_of(&row.spec, container.index)
            .unwrap()
            .name
            .to_string()
    }

    pub(super) fn script_of(&self, container: ContainerId) -> Script {
        let name = self.name_of(container);
        self.scripts.get(&name).cloned().unwrap_or_default()
    }

    pub(super) fn ask(&mut self, request: RuntimeRequest) {
        assert_eq!(request.node, self.node);
        if self.trace {
            let at = secs(self.queue.now());
            let line = format!("{:?}", request.what);
            let end = line.find([' ', '{', '(']).unwrap_or(line.len());
            self.lines.push(format!("{at} ask {}", &line[..end]));
        }
        let ms = Duration::from_millis;
        match request.what {
            Call::StartSandbox {
                pod, attempt, row, ..
            } => {
                self.pods.insert(pod, row);
                let ok = true;
                self.after(ms(200), RuntimeEvent::SandboxReady { pod, attempt, ok });
            }
            Call::PullImage {
                container, image, ..
            } => {
                let known = self.pulls.get(image.as_str()).copied();
                let (wait, outcome) = known.unwrap_or((ms(1000), PullOutcome::Ok));
                let mib = if outcome == PullOutcome::Ok { 64 } else { 0 };
                let event = RuntimeEvent::Pulled {
                    container,
                    outcome,
                    mib,
                };
                self.after(wait, event);
            }
            Call::StartContainer { container, .. } => {
                let (wait, outcome) = self.script_of(container).start;
                self.after(wait, RuntimeEvent::Started { container, outcome });
            }
            Call::Signal { container, signal } => self.signal(container, signal),
            Call::Probe {
                container,
                which,
                n,
                ..
            } => self.probed(container, which, n),
            Call::Hook {
                container, hook, ..
            } => {
                let (wait, ok) = self.script_of(container).hook;
                let event = RuntimeEvent::HookDone {
                    container,
                    hook,
                    ok,
                };
                self.after(wait, event);
            }
            Call::RemovePod { pod } => {
                self.running.retain(|container, _| container.pod != pod);
                self.after(ms(50), RuntimeEvent::Removed { pod });
            }
            Call::WatchMemory { .. } => {
                let node = self.node;
                self.after(ms(0), RuntimeEvent::Tight { node });
            }
            Call::Stats => {
                let node = self.node;
                self.after(ms(0), RuntimeEvent::Tight { node });
                let (available_kib, pods) = self.memory.clone();
                for (pod, kib) in pods {
                    self.after(ms(1), RuntimeEvent::PodMemory { pod, kib });
                }
                for event in self.measured.clone() {
                    self.after(ms(1), event);
                }
                let event = RuntimeEvent::NodeMemory {
                    node,
                    available_kib,
                };
                self.after(ms(1), event);
            }
        }
    }

    pub(super) fn signal(&mut self, container: ContainerId, signal: Signal) {
        let at = secs(self.queue.now());
        let name = self.name_of(container);
        self.lines.push(format!("{at} {signal:?} {name}"));
        let (wait, code) = match signal {
            Signal::Kill => (Some(Duration::from_millis(1)), 137),
            Signal::Term => (self.script_of(container).on_term, 143),
        };
        if let Some(wait) = wait {
            let oom = false;
            self.after(
                wait,
                RuntimeEvent::Exited {
                    container,
                    code,
                    oom,
                },
            );
        }
    }

    pub(super) fn probed(&mut self, container: ContainerId, which: ProbeKind, n: u32) {
        let Some(since) = self.running.get(&container) else {
            return;
        };
        let age = self.queue.now().since(*since);
        let script = self.script_of(container);
        let answer = script.answers.iter().rev().find(|(from, ..)| *from <= age);
        if self.trace {
            let at = secs(self.queue.now());
            let name = self.name_of(container);
            self.lines
                .push(format!("{at} probe {name} {}", which.name()));
        }
        if let Some((_, wait, outcome)) = answer {
            let event = RuntimeEvent::Probed {
                container,
                which,
                n: n as u8,
                outcome: *outcome,
            };
            self.after(*wait, event);
        }
    }

    pub(super) fn hear(&mut self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Started {
                container,
                outcome: StartOutcome::Ok,
            } => {
                self.running.insert(container, self.queue.now());
                let name = self.name_of(container);
                self.starts.push((self.queue.now(), name));
                let exits = self.script_of(container).exits;
                let at = usize::from(container.attempt).min(exits.len().saturating_sub(1));
                if let Some(Some((wait, code))) = exits.get(at).copied() {
                    let oom = false;
                    self.after(
                        wait,
                        RuntimeEvent::Exited {
                            container,
                            code,
                            oom,
                        },
                    );
                }
            }
            RuntimeEvent::Exited { container, .. } => {
                let ran = self.running.remove(&container).is_some();
                if !ran {
                    return;
                }
            }
            _ => {}
        }
        self.with(|k, cx| k.on_runtime(event, cx));
    }
}
