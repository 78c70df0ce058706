//! The same tests where cgroups are laid out in other ways than on this host: in small virtual
//! machines, one with v2 alone and one with v1 alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::bench::Bench;
use super::{alone, possible, program};

/// What runs in a machine: groups are made, limited, frozen, killed and removed, and nothing is left
/// of a cell that is killed.
const BODIES: [&str; 4] = [
    "containers::",
    "vm::this_machine",
    "leaks::a_cell",
    "failures::a_cell_killed",
];

/// Where contrib/vm/kernel has put a kernel.
fn kernel() -> PathBuf {
    std::env::var_os("REHEARSAL_VM_KERNEL").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm-kernel"),
        PathBuf::from,
    )
}

fn boot(layout: &str) -> Output {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/vm/run"))
        .arg(layout)
        .arg(kernel())
        .arg(std::env::current_exe().expect("this program"))
        .arg(program())
        .args(BODIES)
        .stdin(Stdio::null())
        .output()
        .expect("bash")
}

#[test]
fn layouts_of_cgroups_that_this_host_does_not_have_work_in_a_machine_that_has_them() {
    let _alone = alone();
    let machines = ["unified", "legacy"].map(|layout| {
        let machine = std::thread::spawn(move || boot(layout));
        (layout, machine)
    });
    for (layout, machine) in machines {
        let output = machine.join().expect("a thread");
        let said = String::from_utf8_lossy(&output.stdout);
        let missing = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(3) && std::env::var_os("REHEARSAL_VM_TESTS").is_none() {
            println!("skipped: {missing}");
            continue;
        }
        assert!(output.status.success(), "{layout}: {said}{missing}");
        for body in BODIES {
            let ran = said
                .lines()
                .any(|line| line.starts_with(&format!("test {body}")) && line.ends_with("... ok"));
            assert!(ran, "{layout}: {body}: {said}");
        }
    }
}

#[test]
fn this_machines_layout_is_found() {
    let Some(layout) = std::env::var_os("REHEARSAL_LAYOUT") else {
        println!("skipped: nobody says which layout this machine has");
        return;
    };
    if !possible() {
        return;
    }
    let _alone = alone();
    let bench = Bench::new();
    assert_eq!(bench.cell.layout.name(), layout);
    let lost = bench.cell.lost.join("\n");
    match bench.cell.layout.name() {
        "legacy" => assert!(lost.contains("nodes cannot be frozen"), "{lost}"),
        _ => assert_eq!(lost, ""),
    }
}
