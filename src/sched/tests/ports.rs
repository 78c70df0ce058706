//! Host ports and disks that pods cannot share.

use super::volumes::check_verdicts;
use super::words::row;
use super::*;
use crate::sched::cache::Cache;
use crate::sched::template::HostPort;

/// `types_test.go :: TestHostPortInfo_Check`, `node_ports_test.go :: TestNodePorts`.
#[test]
fn host_ports_conflict_by_protocol_and_address() {
    let cases = "
        taken := a: node(s) didn't have free ports for the requested pod ports
        other port | node a; pod o node=a hostPort=80; pod p hostPort=81 | a: fits
        same port | node a; pod o node=a hostPort=80; pod p hostPort=80 | {taken}
        other protocol | node a; pod o node=a hostPort=80; pod p hostPort=UDP:80 | a: fits
        SCTP | node a; pod o node=a hostPort=SCTP:80; pod p hostPort=SCTP:80 | {taken}
        SCTP and UDP | node a; pod o node=a hostPort=SCTP:80; pod p hostPort=UDP:80 | a: fits
        all addresses hold one | node a; pod o node=a hostPort=80; \
            pod p hostPort=10.0.0.1/TCP:80 | {taken}
        one address holds all | node a; pod o node=a hostPort=10.0.0.1/TCP:80; \
            pod p hostPort=80 | {taken}
        all addresses, written | node a; pod o node=a hostPort=10.0.0.1/TCP:80; \
            pod p hostPort=0.0.0.0/TCP:80 | {taken}
        one address, twice | node a; pod o node=a hostPort=10.0.0.1/UDP:80; \
            pod p hostPort=10.0.0.1/UDP:80 | {taken}
        two addresses | node a; pod o node=a hostPort=10.0.0.1/TCP:80; \
            pod p hostPort=10.0.0.2/TCP:80 | a: fits
        all of the other family | node a; pod o node=a hostPort=::/TCP:80; \
            pod p hostPort=fd00--1/TCP:80 | a: fits
        the second of two | node a; pod o node=a hostPort=80 hostPort=81; \
            pod p hostPort=79 hostPort=81 | {taken}";
    check_verdicts(&SchedulerConfig::default(), &cases.replace("--", "::"));
}

/// `volume_restrictions_test.go :: Test…Conflicts`: disks that are used in place.
#[test]
fn disks_conflict_unless_both_read() {
    let cases = "
        taken := a: node(s) had no available disk
        iscsi | node a; pod o node=a iscsi=x; pod p iscsi=x | {taken}
        iscsi, one reads | node a; pod o node=a iscsi=x; pod p iscsi=x:ro | {taken}
        iscsi, both read | node a; pod o node=a iscsi=x:ro; pod p iscsi=x:ro | a: fits
        aws, both read | node a; pod o node=a aws=x:ro; pod p aws=x:ro | {taken}
        rbd, a monitor in common | node a; pod o node=a rbd=m+n/x; pod p rbd=n+o/x | {taken}
        rbd, none in common | node a; pod o node=a rbd=m+n/x; pod p rbd=o/x | a: fits
        rbd, both read | node a; pod o node=a rbd=m/x:ro; pod p rbd=m/x:ro | a: fits
        rbd, another image | node a; pod o node=a rbd=m/x; pod p rbd=m/y | a: fits";
    check_verdicts(&SchedulerConfig::default(), cases);
}

/// `HostPortInfo` is a set: of two pods with one port, whoever leaves first frees it, until the
/// cache hears of the other one again (`cacheImpl.updatePod` takes it out and puts it back).
#[test]
fn host_ports_are_a_set() {
    let mut cache = Cache::default();
    let entry = |cache: &mut Cache, id: u32, words: &str| {
        let Some(Row::Pod(pod)) = row(words) else {
            panic!("a pod")
        };
        cache.entry(id, &pod)
    };
    let node = crate::api::Text::from("n");
    let (one, two) = (
        entry(&mut cache, 1, "pod one hostPort=80 hostPort=81"),
        entry(&mut cache, 2, "pod two hostPort=80"),
    );
    cache.add_pod(one, &node, false);
    cache.add_pod(two.clone(), &node, false);
    let ports = |cache: &Cache| -> Vec<u16> {
        let ix = cache.place(&node).expect("a place");
        let held = |port: &HostPort| port.port;
        cache.node(ix).ports.iter().map(held).collect()
    };
    assert_eq!(ports(&cache), [80, 81]);
    let ix = cache.place(&node).expect("a place");
    cache.remove_pod(1);
    assert_eq!(ports(&cache), [0_u16; 0]);
    let stamp = cache.stamp(ix);
    cache.update_pod(two.clone(), &node);
    assert_eq!(ports(&cache), [80]);
    assert_ne!(cache.stamp(ix), stamp);
    let stamp = cache.stamp(ix);
    cache.update_pod(two, &node);
    assert_eq!((ports(&cache), cache.stamp(ix)), (vec![80], stamp));
}
