//! What controllers declare to look at ([`Watches`](rehearsal::client::Watches)) saves time and
//! changes nothing: clusters whose controllers are asked about every change have the same history.

use std::path::Path;
use std::time::Duration;

use rayon::prelude::*;
use rehearsal::backend::sim::{RuntimeLatency, Simulated};
use rehearsal::cluster::api_server::digest_change;
use rehearsal::cluster::{Cluster, Event};
use rehearsal::engine::{Digest, Dispatched, Limits, Observer, Tape, Time, drive};
use rehearsal::scenario::{LoadOptions, load};
use rehearsal::store::Cursor;

/// The digest after each change, with the change's words.
#[derive(Default)]
struct History {
    cursor: u64,
    changes: Vec<(u128, String)>,
    digest: Digest,
}

impl Observer<Cluster> for History {
    fn after_event(&mut self, _: Dispatched, _: &Event, world: &Cluster) {
        let log = world.api.store.log();
        let Ok(changes) = log.since(Cursor(self.cursor)) else {
            unreachable!("the log keeps what was not observed yet");
        };
        for change in changes {
            digest_change(&mut self.digest, change, world.api.store.view());
            let name = change.new.as_ref().map(|row| row.meta().full_name());
            let words = format!(
                "{:?} {:?} of {:?} {}",
                change.time,
                change.op,
                change.kind(),
                name.unwrap_or_default()
            );
            self.changes.push((self.digest.finish128(), words));
        }
        self.cursor = log.head();
    }
}

fn history(file: &str, everybody: bool) -> Vec<(u128, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let loaded = load(&[path], &LoadOptions::default())
        .unwrap_or_else(|rejected| panic!("{}", rejected.render(false)));
    let (mut cluster, mut queue) =
        Cluster::build(&loaded.scenarios[0]).unwrap_or_else(|refused| panic!("{refused:?}"));
    if everybody {
        cluster.ask_everybody();
    }
    let mut history = History {
        cursor: cluster.api.store.log().head(),
        ..History::default()
    };
    let mut backend = Simulated::new(cluster.draws, RuntimeLatency::default());
    drive(
        &mut cluster,
        &mut queue,
        &mut backend,
        &mut Tape::Off,
        &mut history,
        Limits::until(Time::ZERO + Duration::from_secs(720)),
        &mut |_| false,
    );
    history.changes
}

/// Between them they have every controller at work.
#[test]
fn a_controller_that_is_not_asked_would_not_have_answered() {
    let files = "
        scenarios/workloads.yaml
        scenarios/self-healing.yaml
        scenarios/node-loss-during-rollout.yaml
        scenarios/gallery/G02-budget-blocks-drain.fixed.yaml
        scenarios/gallery/G14-stateful-node-loss.fixed.yaml
        scenarios/gallery/G17-dead-zone.fixed.yaml
        scenarios/gallery/G20-preemption-cascade.bad.yaml
        scenarios/gallery/G21-hpa-jvm.fixed.yaml
        scenarios/gallery/G23-quota-stalls-rollout.bad.yaml
        scenarios/gallery/G25-cronjob-piles-up.bad.yaml
        scenarios/gallery/G29-stateful-rollback.bad.yaml
        scenarios/gallery/G32-volume-in-wrong-zone.bad.yaml
        scenarios/gallery/G33-volume-rollout.bad.yaml
    ";
    let files: Vec<&str> = files.split_whitespace().collect();
    files.into_par_iter().for_each(|file| {
        let (asked, all) = (history(file, false), history(file, true));
        let parted = asked.iter().zip(&all).find(|(a, b)| a != b);
        assert_eq!(parted, None, "{file}: the histories part here");
        assert_eq!(asked.len(), all.len(), "{file}");
        assert!(asked.len() > 50, "{file}: something happened");
    });
}
