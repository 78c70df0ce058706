//! What a configuration is refused for, in upstream's words
//! (`pkg/scheduler/apis/config/validation`: `validation_test.go`, `validation_pluginargs_test.go`).

use super::*;
use crate::api::yaml::parse_documents;

pub(super) fn read(text: &str) -> Result<SchedulerConfig, Vec<String>> {
    let text = format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n{text}\n"
    );
    let mut sources = crate::api::yaml::Sources::new();
    let file = sources.add("config.yaml".to_owned());
    let documents = parse_documents(file, text.as_bytes(), &Default::default());
    let documents = documents.unwrap_or_else(|e| panic!("{text}: {}", e.message));
    let config = SchedulerConfig::from_json(&documents[0].to_json());
    config.map_err(|all| all.0.iter().map(|m| m.to_string()).collect())
}

/// Blocks of lines: the text; what is said of it, each after `- `. A line that ends with `…` is the
/// beginning of what is said, one that begins with `+ ` goes on with the one before.
#[track_caller]
fn refuses(wrap: impl Fn(&str) -> String, path: &str, cases: &str) {
    let mut blocks: Vec<(&str, Vec<String>)> = Vec::new();
    for line in cases.trim().lines().map(str::trim) {
        match (line.strip_prefix("- "), line.strip_prefix("+ ")) {
            (Some(said), _) => {
                let block = blocks.last_mut().expect("a text comes first");
                block.1.push(format!("{path}{said}"));
            }
            (None, Some(more)) => {
                let said = blocks.last_mut().and_then(|block| block.1.last_mut());
                let said = said.expect("something goes on");
                said.push(' ');
                said.push_str(more);
            }
            _ => blocks.push((line, Vec::new())),
        }
    }
    for (text, expected) in blocks {
        let said = read(&wrap(text)).expect_err(text);
        assert_eq!(said.len(), expected.len(), "{text}: {said:#?}");
        for (said, expected) in said.iter().zip(&expected) {
            match expected.strip_suffix('…') {
                Some(start) => assert!(said.starts_with(start), "{text}: {said}"),
                None => assert_eq!(said, expected, "{text}"),
            }
        }
    }
}

#[test]
fn the_configuration_itself() {
    let cases = r#"
        parallelism: 0
        - parallelism: Invalid value: 0: should be an integer value greater than zero
        percentageOfNodesToScore: 101
        - percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]
        podInitialBackoffSeconds: 0
        - podInitialBackoffSeconds: Invalid value: 0: must be greater than 0
        podMaxBackoffSeconds: 0
        - podMaxBackoffSeconds: Invalid value: 0: must be greater than or equal to
        + PodInitialBackoffSeconds
        clientConnection: {burst: -1}
        - clientConnection.burst: Invalid value: -1: must be non-negative
        leaderElection: {leaderElect: true, resourceLock: configmap}
        - leaderElection.resourceLock: Invalid value: "configmap": resourceLock value must be
        + "leases"
        extenders: [{urlPrefix: "http://a"}, {urlPrefix: "http://b"}]
        - extenders[0]: scheduler extenders are not modelled: "http://a"
        - extenders[1]: scheduler extenders are not modelled: "http://b"
        nonsense: 1
        - KubeSchedulerConfiguration: unknown field `nonsense`, expected one of…
    "#;
    refuses(str::to_owned, "", cases);
    let both = "podInitialBackoffSeconds: -5\npercentageOfNodesToScore: -1";
    assert_eq!(read(both).expect_err("twice wrong").len(), 2);
}

#[test]
fn profiles_and_their_plugins() {
    let cases = r#"
        [{schedulerName: a}, {plugins: {}}]
        - profiles[1].schedulerName: Required value
        [{schedulerName: ""}]
        - profiles[0].schedulerName: Required value
        [{schedulerName: a}, {schedulerName: a}]
        - profiles[1].schedulerName: Duplicate value: "a"
        [{percentageOfNodesToScore: -1}]
        - profiles[0].percentageOfNodesToScore: Invalid value: -1: not in valid range [0-100]
        [{plugins: {score: {enabled: [{name: NodePorts}]}}}]
        - profiles[0].plugins.score.enabled[0]: plugin "NodePorts" does not extend ScorePlugin
        + plugin
        [{plugins: {preBind: {enabled: [{name: VolumeBinding}, {name: DefaultBinder}]}}}]
        - profiles[0].plugins.preBind.enabled[1]: plugin "DefaultBinder" does not extend
        + PreBindPlugin plugin
        [{plugins: {nowhere: {enabled: [{name: ImageLocality}]}}}]
        - profiles[0].plugins.nowhere: unknown field
        [{plugins: {score: {enabled: [{name: Nope}, {name: ImageLocality, weight: -2}]}}}]
        - profiles[0].plugins.score.enabled[0]: plugin "Nope" does not exist
        - profiles[0].plugins.score.enabled[1].weight: Invalid value: -2: must not be negative
        [{plugins: {score: {disabled: [{name: Nope}]}}}]
        - profiles[0].plugins.score.disabled[0]: plugin "Nope" does not exist
        [{plugins: {score: {enabled: [{name: ImageLocality}, {name: ImageLocality}]}}}]
        - profiles[0].plugins.score.enabled[1]: plugin "ImageLocality" already registered
        [{plugins: {multiPoint: {enabled: [{name: GangScheduling}]}}}]
        - profiles[0].plugins.multiPoint.enabled[0]: plugin "GangScheduling" is not modelled
        [{plugins: {filter: {enabled: [{name: EBSLimits}]}}}]
        - profiles[0].plugins.filter.enabled[0]: Invalid value: "EBSLimits": was invalid in version
        + "kubescheduler.config.k8s.io/v1" (KubeSchedulerConfiguration is version
        + "kubescheduler.config.k8s.io/v1")
        [{plugins: {queueSort: {disabled: [{name: "*"}]}}}]
        - profiles[0].plugins: only one queue sort plugin required for profile with scheduler name
        + "default-scheduler", but got 0
        [{schedulerName: a, plugins: {bind: {disabled: [{name: DefaultBinder}]}}}]
        - profiles[0].plugins: at least one bind plugin is needed for profile with scheduler name "a"
        [{pluginConfig: [{name: InterPodAffinity}, {name: InterPodAffinity}]}]
        - profiles[0].pluginConfig[1]: Duplicate value: "InterPodAffinity"
        [{pluginConfig: [{name: DynamicResources, args: {timeout: 1s}}]}]
        - profiles[0].pluginConfig[0].args: DynamicResources takes no arguments
        [{pluginConfig: [{name: ImageLocality, args: {size: 1}}]}]
        - profiles[0].pluginConfig[0].args: ImageLocality takes no arguments
        [{pluginConfig: [{name: InterPodAffinity, args: {kind: NodeAffinityArgs}}]}]
        - profiles[0].pluginConfig[0].args: has to match plugin args
    "#;
    refuses(|text| format!("profiles: {text}"), "", cases);
    // What is not there anyway may be switched off.
    let off = "profiles: [{plugins: {multiPoint: {disabled: [{name: GangScheduling}]}}}]";
    assert!(read(off).is_ok());
}

#[track_caller]
fn refuses_args(plugin: &str, cases: &str) {
    let wrap =
        |text: &str| format!("profiles: [{{pluginConfig: [{{name: {plugin}, args: {text}}}]}}]");
    refuses(wrap, "profiles[0].pluginConfig[0].args", cases);
}

#[test]
fn arguments_of_resources() {
    let cases = r#"
        {ignoredResources: ["a/b/c"]}
        - .ignoredResources[0]: Invalid value: "a/b/c": a valid label key must consist of…
        {ignoredResourceGroups: ["example.com/gpu"]}
        - .ignoredResourceGroups[0]: Invalid value: "example.com/gpu": resource group name can't
        + contain '/'
        {scoringStrategy: {type: Fullest}}
        - .scoringStrategy.type: Unsupported value: "Fullest": supported values: "LeastAllocated",
        + "MostAllocated", "RequestedToCapacityRatio"
        {scoringStrategy: {resources: [{name: cpu, weight: 101}, {name: memory, weight: -1}]}}
        - .scoringStrategy.resources[0].weight: Invalid value: 101: resource weight of cpu not in
        + valid range (0, 100]
        - .scoringStrategy.resources[1].weight: Invalid value: -1: resource weight of memory not in
        + valid range (0, 100]
        {scoringStrategy: {type: RequestedToCapacityRatio}}
        - .scoringStrategy.requestedToCapacityRatio: Required value: must be specified when type is
        + RequestedToCapacityRatio
        {scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape: []}}}
        - .scoringStrategy.requestedToCapacityRatio.shape: Required value: at least one point must be
        + specified
        {scoringStrategy: {requestedToCapacityRatio: {shape: [{utilization: 0, score: 0}]}}}
        - .scoringStrategy.requestedToCapacityRatio: Forbidden: must be nil when type is not
        + RequestedToCapacityRatio
    "#;
    refuses_args("NodeResourcesFit", cases);
    let shape = |points: &str| {
        format!(
            "profiles: [{{pluginConfig: [{{name: NodeResourcesFit, args: {{scoringStrategy: \
             {{type: RequestedToCapacityRatio, requestedToCapacityRatio: \
             {{shape: {points}}}}}}}}}]}}]"
        )
    };
    let path = "profiles[0].pluginConfig[0].args.scoringStrategy.requestedToCapacityRatio.shape";
    let cases = r#"
        [{utilization: 50, score: 0}, {utilization: 50, score: 10}]
        - [1].utilization: Invalid value: 50: values must be sorted in increasing order
        [{utilization: -1, score: 0}, {utilization: 101, score: 11}]
        - [0].utilization: Invalid value: -1: not in valid range [0, 100]
        - [1].utilization: Invalid value: 101: not in valid range [0, 100]
        - [1].score: Invalid value: 11: not in valid range [0, 10]
    "#;
    refuses(shape, path, cases);
    let cases = r#"
        {resources: [{name: cpu, weight: 2}, {name: cpu}]}
        - .resources[0].weight: Invalid value: 2: must be 1
        - .resources[1].name: Duplicate value: "cpu"
    "#;
    refuses_args("NodeResourcesBalancedAllocation", cases);
}

#[test]
fn arguments_of_spread_and_affinity() {
    let cases = r#"
        {defaultingType: Never}
        - .defaultingType: Unsupported value: "Never": supported values: "System", "List"
        {defaultConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule}]}
        - .defaultingType: Invalid value: "System": when .defaultConstraints are not empty
        {defaultingType: List, defaultConstraints: [{whenUnsatisfiable: Never}]}
        - .defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)
        - .defaultConstraints[0].topologyKey: Required value: can not be empty
        - .defaultConstraints[0].whenUnsatisfiable: Unsupported value: "Never": supported values:
        + "DoNotSchedule", "ScheduleAnyway"
        {defaultingType: List, defaultConstraints: [{maxSkew: 1, topologyKey: a, labelSelector: {}}]}
        - .defaultConstraints[0].whenUnsatisfiable: Required value: can not be empty
        - .defaultConstraints[0].labelSelector: Forbidden: constraint must not define a selector, as
        + they deduced for each pod
    "#;
    refuses_args("PodTopologySpread", cases);
    let twice = |when: &str| {
        let one = format!("{{maxSkew: 1, topologyKey: a, whenUnsatisfiable: {when}}}");
        let args = format!("{{defaultingType: List, defaultConstraints: [{one}, {one}]}}");
        format!("profiles: [{{pluginConfig: [{{name: PodTopologySpread, args: {args}}}]}}]")
    };
    let cases = r#"
        ScheduleAnyway
        - .defaultConstraints[1]: Duplicate value: "{a, ScheduleAnyway}"
    "#;
    refuses(twice, "profiles[0].pluginConfig[0].args", cases);
    let cases = r#"
        {hardPodAffinityWeight: 101}
        - .hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]
        {hardPodAffinityWeight: 1.5}
        - : invalid type: floating point `1.5`, expected i32
    "#;
    refuses_args("InterPodAffinity", cases);
}

#[test]
fn arguments_of_the_other_plugins() {
    let cases = r#"
        {minCandidateNodesPercentage: 101, minCandidateNodesAbsolute: -1}
        - .minCandidateNodesPercentage: Invalid value: 101: not in valid range [0, 100]
        - .minCandidateNodesAbsolute: Invalid value: -1: not in valid range [0, inf)
        {minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}
        - .minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as
        + minCandidateNodesAbsolute
        - .minCandidateNodesAbsolute: Invalid value: 0: cannot be zero at the same time as
        + minCandidateNodesPercentage
    "#;
    refuses_args("DefaultPreemption", cases);
    let cases = r#"
        {bindTimeoutSeconds: -1}
        - .bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a
        + negative value
        {shape: [{utilization: 0, score: 0}]}
        - .shape: Invalid value: [{"utilization":0,"score":0}]: unexpected field `shape`, remove it
        + or turn on the feature gate StorageCapacityScoring
    "#;
    refuses_args("VolumeBinding", cases);
    let cases = r#"
        {gpuSelMethod: roundest}
        - .gpuSelMethod: Unsupported value: "roundest"
        {weight: 3}
        - : unknown field `weight`…
    "#;
    refuses_args("GpuShare", cases);
    let added = |operator: &str| {
        let term = format!("{{matchExpressions: [{{key: a, operator: {operator}}}]}}");
        let required = format!(
            "{{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{term}]}}}}"
        );
        format!(
            "profiles: [{{pluginConfig: [{{name: NodeAffinity, args: {{addedAffinity: \
             {required}}}}}]}}]"
        )
    };
    let path = "profiles[0].pluginConfig[0].args.addedAffinity\
                .requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]\
                .matchExpressions[0]";
    let cases = r#"
        Near
        - .operator: Invalid value: "Near": not a valid selector operator
        In
        - .values: Required value: must be specified when `operator` is 'In' or 'NotIn'
    "#;
    refuses(added, path, cases);
}
