//! One suite, two arms: what containers, Services and nodes do, simulated and on real processes.
//!
//! A body is a scenario and what must be true of its run. It does not know what the run runs on:
//! [`arm::World`] does. The simulated arm is a test for each body; the real arm needs Linux and
//! root, says so when it is skipped, and runs several bodies at once, since they mostly wait. Every
//! real run is also replayed from its journal, to the same digest.
//!
//! Read first: [`containers`], then [`services`], [`nodes`] and [`faults`].
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real processes take real time"
)]

mod arm;
mod containers;
mod faults;
#[cfg(target_os = "linux")]
#[path = "../support/inventory.rs"]
mod inventory;
mod nodes;
mod services;
mod text;

use arm::World;

/// A body: runs a scenario and asserts.
type Body = fn(&World);

/// Lists the bodies: each is a test of the simulated arm, and a line in the real one's table.
macro_rules! bodies {
    ($($module:ident: $($name:ident)*;)*) => {
        mod simulated {
            $($(
                #[test]
                fn $name() {
                    crate::$module::$name(&crate::World::simulated());
                }
            )*)*
        }

        const BODIES: &[(&str, Body)] = &[$($((stringify!($name), $module::$name),)*)*];
    };
}

bodies! {
    containers:
        containers_start_and_become_ready
        a_container_that_crashes_is_started_again_and_backs_off
        a_failing_liveness_probe_ends_the_container
        memory_beyond_the_limit_is_an_oom_kill
        who_ignores_sigterm_is_killed_after_the_grace_period
        sigterm_waits_for_the_pre_stop_hook
        init_containers_run_one_after_the_other_and_first
        a_sidecar_is_there_first_and_ends_last
        a_job_completes
        a_pod_is_ready_when_its_probe_says_so
        probes_ask_over_grpc_and_https_as_well
        a_startup_probe_holds_the_liveness_probe_back
        a_run_begins_without_pods_that_will_never_be_ready;
    services:
        an_autoscaler_goes_by_what_containers_use
        every_endpoint_answers
        a_service_without_endpoints_refuses
        client_ip_affinity_sticks
        node_ports_lead_to_endpoints
        a_pod_reaches_itself_through_its_service
        calls_go_through_services_and_their_failures_come_back
        an_application_fails_as_often_as_its_model_says
        a_full_queue_is_answered_503
        requests_share_a_core_and_wait_for_places
        requests_share_two_cores_that_one_could_not_serve
        retries_reach_another_endpoint
        retries_of_calls_reach_another_endpoint
        a_rollout_with_pre_stop_loses_nothing
        a_rollout_without_it_loses_little
        scaling_down_ends_pods_and_takes_them_out
        an_unready_pod_gets_no_requests;
    nodes:
        a_lost_node_is_noticed_evicted_and_replaced
        a_frozen_node_answers_when_it_thaws
        pods_serve_while_their_kubelet_is_down
        a_partition_ends_and_so_do_the_failures
        a_partition_in_one_direction_is_enough
        delay_is_felt_by_every_request
        loss_is_repaired_and_takes_time
        nobody_needs_an_api_server_to_go_on;
    faults:
        cpu_stress_in_a_container_takes_its_part
        cpu_stress_on_a_node_shares_with_its_pods
        memory_stress_beyond_the_limit_is_an_oom_kill
        memory_stress_on_a_node_evicts_a_pod
        names_that_cannot_be_looked_up_fail_calls
        names_that_lead_nowhere_take_their_time
        other_names_are_looked_up_as_before
        a_narrow_link_takes_its_time_for_large_answers
        corruption_is_repaired_and_takes_time
        what_comes_twice_is_answered_once
        delay_between_pods_of_one_node_is_felt_directly_and_through_a_service
        a_partition_between_pods_of_one_node_leaves_everything_else
        a_rate_among_other_faults_takes_its_time_for_large_answers
        a_target_by_name_is_the_pods_behind_it
        a_pod_whose_packets_are_lost_fails_its_probes
        a_pod_whose_packets_are_late_fails_its_probes
        packets_to_others_are_not_those_of_probes;
}

/// Bodies that keep a core busy, and say how long that takes: two at once would measure each other.
#[cfg(target_os = "linux")]
const COMPUTE: [&str; 4] = [
    "requests_share_a_core_and_wait_for_places",
    "requests_share_two_cores_that_one_could_not_serve",
    "cpu_stress_in_a_container_takes_its_part",
    "cpu_stress_on_a_node_shares_with_its_pods",
];

#[cfg(target_os = "linux")]
#[test]
fn on_real_processes() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: real containers need root");
        return;
    }
    let before = inventory::Inventory::take();
    for name in COMPUTE {
        let known = BODIES.iter().any(|(body, _)| *body == name);
        assert!(known, "{name} is not a body");
    }
    type Bodies = Vec<&'static (&'static str, Body)>;
    let (busy, idle): (Bodies, Bodies) =
        (BODIES.iter().rev()).partition(|(name, _)| COMPUTE.contains(name));
    let (busy, idle) = (std::sync::Mutex::new(busy), std::sync::Mutex::new(idle));
    let failed = std::sync::Mutex::new(Vec::new());
    // Scenarios mostly wait: so many at once are still punctual on two cores.
    const AT_ONCE: usize = 5;
    std::thread::scope(|scope| {
        for lane in 0..AT_ONCE {
            let next = || busy.lock().expect("a list").pop();
            let next = (lane == 0).then_some(next);
            let (idle, failed) = (&idle, &failed);
            scope.spawn(move || {
                loop {
                    let next = next.as_ref().and_then(|next| next());
                    let next = next.or_else(|| idle.lock().expect("a list").pop());
                    let Some(&(name, body)) = next else { return };
                    if !passes(name, body) {
                        failed.lock().expect("a list").push((name, body));
                    }
                }
            });
        }
    });
    // What five at once on a busy host could not hold must hold alone.
    let mut failed = failed.into_inner().expect("a list");
    failed.retain(|(name, body)| {
        println!("{name}: once more, alone");
        !passes(name, *body)
    });
    let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
    assert!(names.is_empty(), "{names:?}");
    before.is_back();
}

#[cfg(target_os = "linux")]
fn passes(name: &str, body: Body) -> bool {
    let went = std::panic::catch_unwind(|| body(&World::real()));
    println!("{name}: {}", if went.is_ok() { "ok" } else { "FAILED" });
    went.is_ok()
}
