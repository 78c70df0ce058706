//! Traces as text, problems as they are printed.

use super::*;
use crate::scenario::diagnostic::render;

fn table(text: &str, sources: &mut Sources, problems: &mut Problems) -> Option<Table> {
    let file = sources.add("t.csv");
    sources.keep_text(file, text);
    Table::parse(file, text.as_bytes(), problems)
}

/// `line:column message` of every problem.
fn problems_of(text: &str) -> Vec<String> {
    let (mut sources, mut problems) = (Sources::new(), Problems::new());
    let mut trace = Trace::default();
    if let Some(table) = table(text, &mut sources, &mut problems) {
        let specs = &mut Specs::default();
        if table.columns.iter().any(|c| c == "cpu_milli") {
            openb::read_pods(&table, specs, &mut trace, &mut problems);
        } else {
            own::read(&table, specs, &mut trace, &mut problems);
        }
        duplicates(&table, &trace, &mut problems);
    }
    let told = problems.iter().map(|p| format!("{} {}", p.span, p.message));
    told.collect()
}

fn pods(text: &str) -> Vec<TracePod> {
    let (mut sources, mut problems) = (Sources::new(), Problems::new());
    let mut trace = Trace::default();
    let table = table(text, &mut sources, &mut problems).unwrap();
    own::read(&table, &mut Specs::default(), &mut trace, &mut problems);
    assert_eq!(render(&problems, &sources, false), "");
    trace.pods
}

#[test]
fn every_column_of_the_own_form_is_read() {
    let all = pods(
        "name,namespace,arrival,duration,cpu,memory,gpu,gpu_milli,gpu_models,resources,priority,\
         labels,node_selector,tolerations\n\
         a,ml,1.5,90s,500m,1Gi,2,,A100|H100,example.com/fpga=1,7,app=web;tier=1,disk=ssd,x=y:NoSchedule\n\
         b,,1h,,1,1G,,250,,,,,,\n",
    );
    let [a, b] = all.as_slice() else {
        panic!("two pods")
    };
    assert_eq!((a.namespace.as_str(), a.name.as_str()), ("ml", "a"));
    assert_eq!(a.arrival, Duration::from_millis(1500));
    assert_eq!(a.runs, Some(Duration::from_secs(90)));
    let requests = &a.spec.requests;
    assert_eq!((requests.cpu_milli, requests.memory), (500, 1 << 30));
    assert_eq!(
        (
            requests.extended(GPU),
            requests.extended("example.com/fpga")
        ),
        (2, 1)
    );
    assert_eq!(a.spec.priority, 7);
    assert_eq!(a.labels.get("tier").map(Text::as_str), Some("1"));
    assert_eq!(
        a.spec.node_selector.get("disk").map(Text::as_str),
        Some("ssd")
    );
    // Its own toleration, and that of the GPU taint.
    assert_eq!(a.spec.tolerations.len(), 2);
    let affinity = a.spec.affinity.as_ref().unwrap();
    let terms = affinity.node_required.as_ref().unwrap();
    assert_eq!(terms[0].expressions[0].values.len(), 2);
    assert_eq!((b.namespace.as_str(), b.runs), ("default", None));
    assert_eq!(b.spec.requests.extended(GPU_MILLI), 250);
}

#[test]
fn pods_that_ask_for_the_same_share_a_spec() {
    let all = pods("arrival,cpu,memory\n0,1,1Gi\n5,1000m,1024Mi\n6,2,1Gi\n");
    assert!(Arc::ptr_eq(&all[0].spec, &all[1].spec));
    assert!(!Arc::ptr_eq(&all[0].spec, &all[2].spec));
    assert_eq!(all[2].name.as_str(), "pod-2");
}

#[test]
fn what_cannot_be_read_is_told_with_line_and_column() {
    let table = [
        (
            "arrival,memory\n0,1Gi\n",
            "1:1 the column \"cpu\" is missing",
        ),
        (
            "arrival,cpu,memory,cqu\n0,1,1Gi,2\n",
            "1:20 unknown column \"cqu\"",
        ),
        (
            "arrival,cpu,memory,cpu\n0,1,1Gi,2\n",
            "1:1 two columns are called \"cpu\"",
        ),
        (
            "arrival,cpu,memory\n0,1,1Gi\n3,one,1Gi\n",
            "3:3 Invalid value: \"one\": must be a quantity that is not negative, such as 500m, 4 or 256Mi",
        ),
        (
            "arrival,cpu,memory\n-3,1,1Gi\n",
            "2:1 Invalid value: \"-3\": must be seconds (12.5) or a duration (90s) that is not negative",
        ),
        (
            "arrival,cpu,memory\n0,1\n",
            "2:1 2 values, but there are 3 columns",
        ),
        ("arrival,cpu,memory\n0,,1Gi\n", "2:3 Required value"),
        (
            "arrival,cpu,memory,gpu\n0,1,1Gi,1.5\n",
            "2:9 Invalid value: \"1.5\": must be a whole number that is not negative",
        ),
        (
            "arrival,cpu,memory,labels\n0,1,1Gi,web\n",
            "2:9 Invalid value: \"web\": must be key=value",
        ),
        (
            "arrival,cpu,memory,name\n0,1,1Gi,a\n0,1,1Gi,a\n",
            "3:1 a second pod is called default/a",
        ),
        (
            "name,cpu_milli,memory_mib,num_gpu\np,1,1,0\n",
            "1:1 the column \"gpu_milli\" is missing",
        ),
        (
            "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,1,1,2,500\n",
            "2:9 Invalid value: 500: must be at most 1000, and 1000 for several GPUs",
        ),
        (
            "name,cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,deletion_time\np,1,1,0,0,9,5\n",
            "2:13 the pod is deleted before it is created",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(problems_of(text), [expected], "{text}");
    }
}
