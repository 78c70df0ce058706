//! What every benchmark of the project shares: arguments, measuring, printing.
//!
//! `cargo bench --bench NAME -- [--json] [--quick] [--only WORKLOAD]`. With `--json` each workload
//! is one JSON object on a line of its own; otherwise a small table. `--quick` runs a tenth. CPU
//! seconds are of the whole process, by getrusage. Every workload verifies its own result before it
//! prints.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use rehearsal::backend::linux::allocator::Allocator;
use serde_json::{Value, json};

/// As in the program.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// What the command line asked for.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// One JSON object per workload instead of a table.
    pub json: bool,
    /// Run a tenth.
    pub quick: bool,
    /// Run a thousandth: `cargo test --benches`, which gives no `--bench`, only wants to see it work.
    pub smoke: bool,
    /// Only workloads whose name contains this.
    pub only: Option<String>,
}

impl Args {
    /// Reads the command line; an argument that is not known ends the process with code 2.
    pub fn read() -> Args {
        // As in the program.
        #[cfg(target_os = "linux")]
        {
            rehearsal::backend::linux::allocator::keep_freed_pages();
            rehearsal::backend::linux::allocator::keep_blocks();
        }
        let mut args = Args {
            smoke: true,
            ..Args::default()
        };
        let mut given = std::env::args().skip(1);
        while let Some(arg) = given.next() {
            match arg.as_str() {
                // Added by `cargo bench`.
                "--bench" => args.smoke = false,
                "--json" => args.json = true,
                "--quick" => args.quick = true,
                "--only" => args.only = given.next(),
                other => {
                    eprintln!("error: unknown argument: {other}");
                    eprintln!("usage: cargo bench --bench NAME -- [--json] [--quick] [--only W]");
                    std::process::exit(2);
                }
            }
        }
        args
    }

    /// `count`, or less when quick.
    pub fn scaled(&self, count: u64) -> u64 {
        let part = match self {
            Args { smoke: true, .. } => 1_000,
            Args { quick: true, .. } => 10,
            _ => 1,
        };
        (count / part).max(1)
    }

    /// Whether the workload is to be run.
    pub fn wants(&self, workload: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|part| workload.contains(part.as_str()))
    }
}

/// What a workload cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// CPU seconds of the process, user and system.
    pub cpu_s: f64,
    /// Seconds that passed.
    pub wall_s: f64,
    /// The process's largest resident memory meanwhile, in MiB.
    pub peak_mib: f64,
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage of this process");
    let span = |time: nix::sys::time::TimeVal| {
        let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros(micros.unsigned_abs())
    };
    span(usage.user_time()) + span(usage.system_time())
}

/// The largest resident memory since [`reset_peak`], in MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|n| n.parse().ok());
    kib.unwrap_or_else(|| {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage of this process");
        usage.max_rss() as f64
    }) / 1024.0
}

/// Makes Linux forget the peak of earlier workloads; where that is not allowed the peak is that of
/// the process so far.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Runs `work` once and measures it.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark reads clocks"
)]
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Cost) {
    reset_peak();
    let (wall, before) = (std::time::Instant::now(), cpu());
    let result = work();
    let cost = Cost {
        cpu_s: (cpu() - before).as_secs_f64(),
        wall_s: wall.elapsed().as_secs_f64(),
        peak_mib: peak_mib(),
    };
    (result, cost)
}

/// Prints one workload: `count` units of work at `cost`. `params` is a JSON object.
pub fn print(args: &Args, workload: &str, count: u64, cost: Cost, params: Value) {
    let per_s = count as f64 / cost.cpu_s.max(1e-9);
    if args.json {
        let round = |x: f64, digits: f64| (x * digits).round() / digits;
        let object = json!({
            "workload": workload,
            "count": count,
            "cpu_s": round(cost.cpu_s, 1e6),
            "wall_s": round(cost.wall_s, 1e6),
            "peak_mib": round(cost.peak_mib, 10.0),
            "per_s": round(per_s, 1.0),
            "params": params,
        });
        say(format_args!("{object}"));
    } else {
        row(
            workload,
            count,
            format!("{:.3}", cost.cpu_s),
            format!("{:.3}", cost.wall_s),
            format!("{:.1}", cost.peak_mib),
            format!("{per_s:.0}"),
        );
    }
}

/// Prints the head of the table, unless JSON is wanted.
pub fn head(args: &Args) {
    if !args.json {
        row(
            "workload",
            "count",
            "cpu s",
            "wall s",
            "peak MiB",
            "per cpu s",
        );
    }
}

fn row(
    workload: &str,
    count: impl Display,
    cpu: impl Display,
    wall: impl Display,
    peak: impl Display,
    per_s: impl Display,
) {
    say(format_args!(
        "{workload:<28} {count:>11} {cpu:>8} {wall:>8} {peak:>9} {per_s:>12}"
    ));
}

/// Prints a line; a reader that has seen enough, as `head`, is no error.
fn say(line: std::fmt::Arguments<'_>) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
        std::process::exit(0);
    }
}
