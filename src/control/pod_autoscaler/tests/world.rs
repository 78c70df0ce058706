//! What the tests of autoscalers stand in: a view, the controller, and what its syncs write.

use super::*;

/// A view with an autoscaler named `web`, and the controller.
pub(super) struct World {
    pub(super) view: View,
    pub(super) controller: PodAutoscaler,
    pub(super) now: Time,
    /// What the API server says to scalings.
    pub(super) refuses: Option<ApiError>,
}

pub(super) fn row(json: &Value) -> Row {
    decode_json(json, &DecodeContext::default())
        .expect("an object")
        .row
}

pub(super) fn autoscaler(name: &str, spec: &Value) -> Value {
    let mut all = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment",
        "name": name}, "minReplicas": 2, "maxReplicas": 10, "metrics": [cpu(30)]});
    for (key, value) in spec.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name}, "spec": all})
}

pub(super) fn cpu(percent: i32) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {
        "type": "Utilization", "averageUtilization": percent}}})
}

pub(super) fn qps(kind: &str) -> Value {
    let metric = json!({"name": "qps"});
    match kind {
        "External" => json!({"type": kind, "external": {"metric": {"name": "qps", "selector":
            {"matchLabels": {"q": "a"}}}, "target": {"type": "AverageValue", "averageValue": "1"}}}),
        "Object" => json!({"type": kind, "object": {"metric": metric, "describedObject":
            {"kind": "Service", "name": "web"}, "target": {"type": "Value", "value": "1"}}}),
        _ => json!({"type": kind, "pods": {"metric": metric, "target":
            {"type": "AverageValue", "averageValue": "1"}}}),
    }
}

pub(super) fn deployment(name: &str, app: &str, replicas: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": app}}, "template": {
            "metadata": {"labels": {"app": app}}, "spec": {"containers": [
                {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}}}})
}

impl World {
    /// A Deployment of so many replicas whose pods use so many thousandths of the one core that
    /// each requests.
    pub(super) fn new(spec: &Value, replicas: i32, usage: &[u64]) -> World {
        let mut world = World {
            view: View::default(),
            controller: PodAutoscaler::default(),
            now: Time::from_secs(1000),
            refuses: None,
        };
        world.put(0, row(&autoscaler("web", spec)));
        world.put(0, row(&deployment("web", "web", replicas)));
        world.use_cpu(usage);
        world
    }

    pub(super) fn put(&mut self, index: u32, row: Row) {
        let object = ObjectId {
            kind: row.kind(),
            index,
        };
        let change = Change {
            revision: self.view.revision + 1,
            time: self.now,
            object: Some(object),
            op: Op::Create,
            old: None,
            new: Some(row),
            event: None,
            cause: Cause::default(),
            renewed: None,
        };
        self.view.apply(&change);
        let mut keys = Keys::default();
        self.controller
            .keys(&change, &self.view, self.now, &mut keys);
        if object.kind == Kind::HorizontalPodAutoscaler {
            let period = Duration::from_secs(15);
            assert_eq!(keys.after, [(Id::new(index), period)], "never at once");
        }
        assert!(keys.now.is_empty());
    }

    pub(super) fn use_cpu(&mut self, usage: &[u64]) {
        let mut metrics = BTreeMap::new();
        for (n, milli) in (0u32..).zip(usage) {
            let name = format!("web-{n}");
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name,
                "labels": {"app": "web"}}, "spec": {"nodeName": "n", "containers": [{"name": "c",
                "image": "i", "resources": {"requests": {"cpu": "1"}}}]}});
            let Row::Pod(mut pod) = row(&pod) else {
                unreachable!()
            };
            let status = &mut Arc::make_mut(&mut pod).status;
            status.phase = Phase::Running;
            status.start_time = Some(Time::ZERO);
            status.conditions.push(PodCondition {
                kind: PodConditionKind::Ready,
                observed_generation: 0,
                status: Truth::True,
                since: Time::ZERO,
                reason: None,
                message: None,
            });
            self.put(n, Row::Pod(pod));
            let sample = PodMetrics {
                timestamp: self.now,
                window: Duration::from_secs(15),
                containers: vec![ContainerMetrics {
                    name: "c".into(),
                    cpu_nanos: milli * 1_000_000,
                    memory: 0,
                }],
            };
            metrics.insert(("default".into(), name.into()), sample);
        }
        self.view.pod_metrics = Some(Arc::new(metrics));
    }

    /// Syncs the autoscaler: what is told and written, line by line.
    pub(super) fn sync(&mut self) -> Vec<String> {
        let key = Key::new(0);
        let mut lines = Vec::new();
        let view = self.view.clone();
        let draws = Draws::new(1);
        let cx = SyncContext {
            now: self.now,
            view: &view,
            draws: &draws,
        };
        let plan = self.controller.sync(key, &cx);
        assert_eq!(plan.requeue_after, Some(Duration::from_secs(15)));
        assert_eq!(plan.error, None);
        self.carry_out(key, plan, &cx, &mut lines);
        let plan = self.controller.finish(key, &Outcome::default(), &cx);
        self.carry_out(key, plan, &cx, &mut lines);
        self.now += Duration::from_secs(15);
        lines
    }

    pub(super) fn carry_out(
        &mut self,
        key: Key,
        plan: Plan,
        cx: &SyncContext<'_>,
        lines: &mut Vec<String>,
    ) {
        let told = |event: &KubeEvent| {
            let kind = if event.warning { "Warning" } else { "Normal" };
            format!("{kind} {}: {}", event.reason, event.message)
        };
        for step in plan.steps {
            let write = match step {
                Step::Event(event) => {
                    lines.push(told(&event));
                    continue;
                }
                Step::One { write, .. } => write,
                other => panic!("{other:?}"),
            };
            let mut reply = Ok(Receipt {
                revision: 0,
                object: None,
                row: None,
            });
            match &write {
                Write::Patch {
                    object,
                    patch: Patch::Replicas(n),
                    ..
                } => {
                    lines.push(format!("scale {} {}", object.kind.plural(), n));
                    if let Some(error) = self.refuses.clone() {
                        reply = Err(error);
                    } else if let Some(Row::Deployment(mut row)) = self.view.row(*object) {
                        Arc::make_mut(&mut row).replicas = *n;
                        self.put(object.index, Row::Deployment(row));
                    }
                }
                Write::UpdateStatus(object, row) => {
                    let Row::HorizontalPodAutoscaler(new) = row else {
                        panic!("{row:?}")
                    };
                    lines.push(status(new));
                    self.put(object.index, row.clone());
                }
                other => panic!("{other:?}"),
            }
            let mut events = Vec::new();
            self.controller
                .on_reply(key, &write, &reply, cx, &mut events);
            lines.extend(events.iter().map(told));
        }
    }

    pub(super) fn condition(&self, kind: &str) -> String {
        let autoscaler = self.view.of::<HorizontalPodAutoscaler>().get(Id::new(0));
        let conditions = &autoscaler.expect("an autoscaler").status.conditions;
        let found = conditions.iter().find(|c| c.kind == kind);
        found.map_or(String::new(), |c| {
            format!("{} {}: {}", c.status.name(), c.reason, c.message)
        })
    }
}

/// `status 3/5 AbleToScale=True/SucceededRescale … cpu=50%`.
pub(super) fn status(autoscaler: &HorizontalPodAutoscaler) -> String {
    let status = &autoscaler.status;
    let mut words = vec![format!("status {}/{}", status.current, status.desired)];
    for condition in &status.conditions {
        let (kind, is, why) = (&condition.kind, condition.status.name(), &condition.reason);
        words.push(format!("{kind}={is}/{why}"));
    }
    for metric in &status.metrics {
        let name = metric.resource.as_ref().map_or("?", |name| name.as_str());
        let percent = metric
            .utilization
            .map_or("-".to_owned(), |n| format!("{n}%"));
        words.push(format!("{name}={percent}/{}", metric.value));
    }
    words.join(" ")
}

pub(super) fn check(world: &mut World, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).collect();
    assert_eq!(world.sync(), expected);
}
