//! The tables of a results folder, as CSV.
//!
//! RFC 4180 with a header row and `\n`; times are seconds from the run's beginning with three
//! decimals, empty for what did not happen. Columns are only ever appended.

use crate::api::Text;
use crate::engine::Time;
use crate::record::{RunRecord, TrafficRecord, TrafficSecond};

use super::number::seconds;

/// A table: file name and bytes.
pub type Table = (&'static str, Vec<u8>);

/// Every table of a run, in the order of their names.
pub fn tables(run: &RunRecord) -> Vec<Table> {
    vec![
        ("causes.csv", causes(run)),
        ("endpoints.csv", endpoints(run)),
        ("events.csv", events(run)),
        ("nodes.csv", nodes(run)),
        ("pods.csv", pods(run)),
        ("replicas.csv", replicas(run)),
        ("requests.csv", requests(run)),
        ("rollouts.csv", rollouts(run)),
        ("timeline.csv", timeline(run)),
    ]
}

struct Sheet {
    writer: csv::Writer<Vec<u8>>,
    begun: Time,
}

impl Sheet {
    fn new(run: &RunRecord, header: &str) -> Self {
        let writer = csv::WriterBuilder::new()
            .terminator(csv::Terminator::Any(b'\n'))
            .from_writer(Vec::new());
        let begun = run.header.begun;
        let mut sheet = Sheet { writer, begun };
        let names: Vec<String> = header.split(',').map(str::to_owned).collect();
        sheet.row(&names);
        sheet
    }

    fn at(&self, time: Time) -> String {
        seconds(time, self.begun)
    }

    fn maybe(&self, time: Option<Time>) -> String {
        time.map(|t| self.at(t)).unwrap_or_default()
    }

    fn row(&mut self, cells: &[String]) {
        (self.writer.write_record(cells)).expect("rows of one length, written to memory");
    }

    fn bytes(self) -> Vec<u8> {
        self.writer.into_inner().expect("written to memory")
    }
}

fn text(text: &Text) -> String {
    text.as_str().to_owned()
}

fn events(run: &RunRecord) -> Vec<u8> {
    let mut sheet = Sheet::new(
        run,
        "time_s,kind,namespace,name,reason,message,level,source",
    );
    for e in &run.events {
        sheet.row(&[
            sheet.at(e.at),
            text(&e.kind),
            text(&e.namespace),
            text(&e.name),
            text(&e.reason),
            text(&e.message),
            text(&e.level),
            text(&e.source),
        ]);
    }
    sheet.bytes()
}

fn pods(run: &RunRecord) -> Vec<u8> {
    let mut sheet = Sheet::new(
        run,
        "namespace,name,created_s,scheduled_s,pulled_s,started_s,ready_s,terminating_s,gone_s,\
         node,restarts,reason,owner,phase,image",
    );
    for p in &run.pods {
        sheet.row(&[
            text(&p.namespace),
            text(&p.name),
            sheet.at(p.created),
            sheet.maybe(p.scheduled),
            sheet.maybe(p.pulled),
            sheet.maybe(p.started),
            sheet.maybe(p.ready),
            sheet.maybe(p.terminating),
            sheet.maybe(p.gone),
            text(&p.node),
            p.restarts.to_string(),
            text(&p.reason),
            text(&p.owner),
            p.phase.clone(),
            text(&p.image),
        ]);
    }
    sheet.bytes()
}

fn nodes(run: &RunRecord) -> Vec<u8> {
    let mut sheet = Sheet::new(run, "time_s,node,zone,what,last_lease_s");
    for n in &run.nodes {
        sheet.row(&[
            sheet.at(n.at),
            text(&n.node),
            text(&n.zone),
            n.what.name(),
            sheet.maybe(n.last_lease),
        ]);
    }
    sheet.bytes()
}

fn rollouts(run: &RunRecord) -> Vec<u8> {
    let mut sheet = Sheet::new(
        run,
        "time_s,namespace,deployment,replica_set,revision,image,from,to",
    );
    for s in &run.rollouts {
        sheet.row(&[
            sheet.at(s.at),
            text(&s.namespace),
            text(&s.deployment),
            text(&s.replica_set),
            text(&s.revision),
            text(&s.image),
            s.from.to_string(),
            s.to.to_string(),
        ]);
    }
    sheet.bytes()
}

fn causes(run: &RunRecord) -> Vec<u8> {
    let mut sheet = Sheet::new(run, "id,time_s,kind,namespace,name,what,by,rule,parent");
    for c in &run.causes {
        sheet.row(&[
            c.id.to_string(),
            sheet.at(c.at),
            text(&c.kind),
            text(&c.namespace),
            text(&c.name),
            c.what.text(run.header.begun),
            text(&c.by),
            text(&c.rule),
            c.parent.map(|p| p.to_string()).unwrap_or_default(),
        ]);
    }
    sheet.bytes()
}

fn replicas(run: &RunRecord) -> Vec<u8> {
    let mut sheet = Sheet::new(
        run,
        "time_s,deployment,want,replicas,ready,available,updated",
    );
    for (deployment, points) in &run.replicas {
        for p in points {
            let counts = [p.want, p.replicas, p.ready, p.available, p.updated];
            let mut row = vec![sheet.at(p.at), deployment.clone()];
            row.extend(counts.map(|n| n.to_string()));
            sheet.row(&row);
        }
    }
    sheet.bytes()
}

fn endpoints(run: &RunRecord) -> Vec<u8> {
    let mut sheet = Sheet::new(run, "time_s,service,ready,serving,terminating,total");
    for (service, points) in &run.endpoints {
        for p in points {
            let counts = [p.ready, p.serving, p.terminating, p.total];
            let mut row = vec![sheet.at(p.at), service.clone()];
            row.extend(counts.map(|n| n.to_string()));
            sheet.row(&row);
        }
    }
    sheet.bytes()
}

fn timeline(run: &RunRecord) -> Vec<u8> {
    let mut rows: Vec<(Time, [String; 6])> = Vec::new();
    for f in &run.faults {
        let joined = |names: &[Text]| {
            let names: Vec<&str> = names.iter().map(Text::as_str).collect();
            names.join(" ")
        };
        let what = if f.healed {
            "fault ends"
        } else {
            "fault begins"
        };
        rows.push((
            f.at,
            [
                what.to_owned(),
                text(&f.name),
                text(&f.action),
                joined(&[f.nodes.as_slice(), &f.components].concat()),
                joined(&f.pods),
                f.detail.clone(),
            ],
        ));
    }
    for c in &run.components {
        let none = String::new;
        let what = "component".to_owned();
        let cells = [
            what,
            text(&c.component),
            c.what.clone(),
            none(),
            none(),
            none(),
        ];
        rows.push((c.at, cells));
    }
    for s in &run.steps {
        let (what, outcome) = match &s.result {
            None => ("step begins", String::new()),
            Some(Ok(output)) => ("step ends", output.clone()),
            Some(Err(error)) => ("step fails", error.clone()),
        };
        let (name, none) = (format!("step {}", s.step + 1), String::new());
        let cells = [
            what.to_owned(),
            name,
            s.text.clone(),
            none.clone(),
            none,
            outcome,
        ];
        rows.push((s.at, cells));
    }
    rows.sort_by_key(|(at, _)| *at);
    let mut sheet = Sheet::new(run, "time_s,what,name,text,nodes,pods,outcome");
    for (at, cells) in rows {
        let mut row = vec![sheet.at(at)];
        row.extend(cells);
        sheet.row(&row);
    }
    sheet.bytes()
}

/// What a client can see, each with a column of its own.
const CAUSES: [&str; 8] = [
    "refused",
    "reset",
    "timeout",
    "no endpoints",
    "503",
    "500",
    "dns",
    "downstream",
];

fn requests(run: &RunRecord) -> Vec<u8> {
    let mut sheet = Sheet::new(
        run,
        "time_s,bucket_s,traffic,to,sent,ok,failed,failed_refused,failed_reset,failed_timeout,\
         failed_no_endpoints,failed_503,failed_500,failed_dns,failed_downstream,failed_other,\
         p50_ms,p90_ms,p99_ms,max_ms",
    );
    for traffic in &run.traffic {
        for second in &traffic.seconds {
            let row = request_row(&sheet, traffic, second);
            sheet.row(&row);
        }
    }
    sheet.bytes()
}

fn request_row(sheet: &Sheet, traffic: &TrafficRecord, second: &TrafficSecond) -> Vec<String> {
    let by = |cause: &str| -> u32 {
        let matching = second.failed.iter().filter(|(name, _)| name == cause);
        matching.map(|(_, n)| n).sum()
    };
    let known = CAUSES.map(by);
    let all: u32 = second.failed.iter().map(|(_, n)| n).sum();
    let mut row = vec![
        sheet.at(second.at()),
        "1".to_owned(),
        traffic.name.clone(),
        traffic.to.clone(),
        second.sent.to_string(),
        second.ok.to_string(),
        all.to_string(),
    ];
    row.extend(known.map(|n| n.to_string()));
    row.push((all - known.iter().sum::<u32>()).to_string());
    let ms = |us: u32| format!("{}.{:03}", us / 1_000, us % 1_000);
    row.extend([second.p50_us, second.p90_us, second.p99_us, second.max_us].map(ms));
    row
}
