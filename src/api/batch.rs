//! Jobs and CronJobs.

use std::sync::Arc;

use serde_json::Value;

use super::pod_status::{PodConditionKind, Truth};
use super::selector::LabelSelector;
use super::workload::WorkloadCondition;
use super::{Labels, Meta, PodTemplate, Text, Uid};
use crate::engine::Time;

/// Holds a pod back until its end was counted.
pub const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label: which of an Indexed Job's completions a pod works on.
pub const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Label of a Job's pods that its selector asks for.
pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
/// The name of the built-in controller in `spec.managedBy`.
pub const JOB_CONTROLLER: &str = "kubernetes.io/job-controller";

/// A Job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Job {
    /// Metadata.
    pub meta: Meta,
    /// The specification.
    pub spec: JobSpec,
    /// Status.
    pub status: JobStatus,
}

/// `spec` of a Job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    /// `parallelism`, default 1.
    pub parallelism: i32,
    /// `completions`; none means that one success ends the Job.
    pub completions: Option<i32>,
    /// `completionMode: Indexed`.
    pub indexed: bool,
    /// `activeDeadlineSeconds`.
    pub active_deadline_s: Option<i64>,
    /// `backoffLimit`, default 6.
    pub backoff_limit: i32,
    /// `backoffLimitPerIndex`.
    pub backoff_limit_per_index: Option<i32>,
    /// `maxFailedIndexes`.
    pub max_failed_indexes: Option<i32>,
    /// `podFailurePolicy.rules`.
    pub failure_policy: Option<Arc<[FailureRule]>>,
    /// `successPolicy.rules`.
    pub success_policy: Option<Arc<[SuccessRule]>>,
    /// `suspend`.
    pub suspend: bool,
    /// `ttlSecondsAfterFinished`.
    pub ttl_s: Option<i32>,
    /// `podReplacementPolicy: Failed`: a pod that is being deleted is replaced when it has ended.
    pub replace_failed_only: bool,
    /// `managedBy`, where somebody else's controller looks after the Job.
    pub managed_by: Option<Text>,
    /// `manualSelector`.
    pub manual_selector: bool,
    /// `selector`; generated at creation unless `manual_selector`.
    pub selector: LabelSelector,
    /// `template`.
    pub template: Arc<PodTemplate>,
    /// The spec as defaulted JSON, for patches and printing; typed fields win over it.
    pub source: Arc<Value>,
}

impl Default for JobSpec {
    fn default() -> Self {
        JobSpec {
            parallelism: 1,
            completions: None,
            indexed: false,
            active_deadline_s: None,
            backoff_limit: 6,
            backoff_limit_per_index: None,
            max_failed_indexes: None,
            failure_policy: None,
            success_policy: None,
            suspend: false,
            ttl_s: None,
            replace_failed_only: false,
            managed_by: None,
            manual_selector: false,
            selector: LabelSelector::nothing(),
            template: Arc::default(),
            source: Arc::default(),
        }
    }
}

/// A rule of `podFailurePolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRule {
    /// What happens when it fits.
    pub action: FailureAction,
    /// When it fits.
    pub when: FailureMatch,
}

/// `action` of a rule of `podFailurePolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureAction {
    /// The Job fails.
    FailJob,
    /// The index fails.
    FailIndex,
    /// The failure does not count.
    Ignore,
    /// The failure counts as any.
    Count,
}

/// When a rule of `podFailurePolicy` fits a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureMatch {
    /// `onExitCodes`: a container ended with one of these codes (or with none of them, but not
    /// with 0).
    ExitCodes {
        /// Only this container.
        container: Option<Text>,
        /// `NotIn`.
        not_in: bool,
        /// The codes.
        codes: Vec<i32>,
    },
    /// `onPodConditions`: one of these conditions.
    Conditions(Vec<(PodConditionKind, Truth)>),
}

/// A rule of `successPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessRule {
    /// `succeededIndexes`, as written.
    pub indexes: Option<Text>,
    /// `succeededCount`.
    pub count: Option<i32>,
}

/// `status` of a Job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct JobStatus {
    /// Conditions; `updated` is `lastProbeTime`.
    pub conditions: Vec<WorkloadCondition>,
    /// `startTime`.
    pub start: Option<Time>,
    /// `completionTime`.
    pub completion: Option<Time>,
    /// `active`.
    pub active: i32,
    /// `succeeded`.
    pub succeeded: i32,
    /// `failed`.
    pub failed: i32,
    /// `terminating`.
    pub terminating: Option<i32>,
    /// `ready`.
    pub ready: Option<i32>,
    /// `completedIndexes`, as `1,3-5`.
    pub completed_indexes: Text,
    /// `failedIndexes`.
    pub failed_indexes: Option<Text>,
    /// `uncountedTerminatedPods.succeeded`.
    pub uncounted_succeeded: Vec<Uid>,
    /// `uncountedTerminatedPods.failed`.
    pub uncounted_failed: Vec<Uid>,
}

impl Job {
    /// Labels of its pods, and the selector that finds them by one of these: generated unless
    /// `manualSelector` (`pkg/registry/batch/job/strategy.go :: generateSelector`).
    pub fn generate_selector(&mut self) {
        if self.spec.manual_selector {
            return;
        }
        let uid = Text::from(self.meta.uid.to_string());
        let name = self.meta.name.clone();
        let generated = [
            ("job-name", &name),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            (CONTROLLER_UID, &uid),
        ];
        let template = Arc::make_mut(&mut self.spec.template);
        let mut json = Value::clone(&template.source);
        for (key, value) in generated {
            if !template.labels.contains(key) {
                template.labels = template.labels.with(key, value.clone());
                json["metadata"]["labels"][key] = value.as_str().into();
            }
        }
        let spec = Arc::make_mut(&mut self.spec.source);
        if self.spec.selector.nothing {
            self.spec.selector = LabelSelector::equals([(&Text::from(CONTROLLER_UID), &uid)]);
            spec["selector"]["matchLabels"][CONTROLLER_UID] = uid.as_str().into();
        }
        spec["template"] = json.clone();
        template.source = Arc::new(json);
    }
}

impl JobStatus {
    /// The condition of this type.
    pub fn condition(&self, kind: &str) -> Option<&WorkloadCondition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }

    /// `Complete` or `Failed` when one of them is true (`jobutil.FinishedCondition`).
    pub fn finished(&self) -> Option<&WorkloadCondition> {
        let ends = |c: &&WorkloadCondition| matches!(&*c.kind, "Complete" | "Failed");
        let mut all = self.conditions.iter().filter(ends);
        all.find(|c| c.status == Truth::True)
    }

    /// Whether `Complete` is true.
    pub fn complete(&self) -> bool {
        self.finished().is_some_and(|c| c.kind == "Complete")
    }
}

/// A CronJob.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CronJob {
    /// Metadata.
    pub meta: Meta,
    /// `spec.schedule`.
    pub schedule: Text,
    /// `spec.timeZone`.
    pub time_zone: Option<Text>,
    /// `spec.startingDeadlineSeconds`.
    pub starting_deadline_s: Option<i64>,
    /// `spec.concurrencyPolicy`.
    pub concurrency: Concurrency,
    /// `spec.suspend`.
    pub suspend: bool,
    /// `spec.jobTemplate`.
    pub template: Arc<JobTemplate>,
    /// `spec.successfulJobsHistoryLimit`, default 3.
    pub successful_limit: Option<i32>,
    /// `spec.failedJobsHistoryLimit`, default 1.
    pub failed_limit: Option<i32>,
    /// The spec as defaulted JSON; typed fields win over it.
    pub source: Arc<Value>,
    /// Status.
    pub status: CronJobStatus,
}

/// `spec.jobTemplate` of a CronJob.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobTemplate {
    /// Labels of the Jobs.
    pub labels: Labels,
    /// Annotations of the Jobs.
    pub annotations: Labels,
    /// Their specification.
    pub spec: JobSpec,
}

/// `spec.concurrencyPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Concurrency {
    /// Jobs may overlap.
    #[default]
    Allow,
    /// A start is left out while a Job runs.
    Forbid,
    /// A Job that still runs is deleted at the next start.
    Replace,
}

/// `status` of a CronJob.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CronJobStatus {
    /// `active`: names and uids of Jobs that run.
    pub active: Vec<(Text, Uid)>,
    /// `lastScheduleTime`.
    pub last_schedule: Option<Time>,
    /// `lastSuccessfulTime`.
    pub last_successful: Option<Time>,
}
