//! Pictures of an experiment: paired differences, allocation and fragmentation along the axis, how
//! long pods waited.

use super::stats::{Cell, compare};
use crate::record::trials::{Axis, Better, Metric, Point, Trials, Unit};
use crate::report::number::count;
use crate::report::plots::axis::{self, Panel};
use crate::report::plots::canvas::Canvas;
use crate::report::plots::{BLUE, GREEN, GREY, HAIR, INK, ORANGE, PURPLE, RED, SKY, WIDTH};

/// A colour for each variant, in order; later ones begin again.
const COLOURS: [&str; 7] = [BLUE, ORANGE, GREEN, PURPLE, SKY, INK, RED];
/// Height of one metric of one variant in the picture of differences.
const LINE: f64 = 26.0;
/// Height of the axis below a metric there.
const AXIS: f64 = 34.0;

/// Every picture that the trials have something for: file name and SVG.
pub fn plots(trials: &Trials) -> Vec<(String, String)> {
    let allocated = |point: &Point| point.allocated;
    let fragmented = |point: &Point| point.fragmented;
    let pictures = [
        ("allocation.svg", along(trials, "allocated", allocated)),
        ("differences.svg", differences(trials)),
        (
            "fragmentation.svg",
            along(trials, "of idle GPUs fragmented", fragmented),
        ),
        ("waits.svg", waits(trials)),
    ];
    (pictures.into_iter())
        .filter_map(|(name, svg)| Some((name.to_owned(), svg?)))
        .collect()
}

fn colour(variant: usize) -> &'static str {
    COLOURS[variant % COLOURS.len()]
}

fn begin(trials: &Trials, height: f64, headline: &str, what: &str) -> Canvas {
    let mut canvas = Canvas::new(WIDTH, height, headline);
    canvas.strong(24.0, 36.0, 20.0, INK, headline);
    let seeds = count(trials.rows.len() as u64, "seed");
    let subtitle = format!("{what} · {} · {seeds}", trials.head.experiment);
    canvas.text(24.0, 58.0, 13.0, GREY, &subtitle);
    canvas
}

/// A difference as its unit is printed.
fn amount(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Share => format!("{:+.2} points", value * 100.0),
        Unit::Seconds => format!("{value:+.2}s"),
        Unit::Count => format!("{value:+.1}"),
        Unit::Number => format!("{value:+.4}"),
    }
}

/// A tick of an axis of differences.
fn mark(unit: Unit, value: f64) -> String {
    let number = match unit {
        Unit::Share => format!("{:+.4}", value * 100.0),
        _ => format!("{value:+.4}"),
    };
    match number.trim_end_matches('0').trim_end_matches('.') {
        "+0" | "-0" => "0".to_owned(),
        number => number.to_owned(),
    }
}

fn differences(trials: &Trials) -> Option<String> {
    if trials.head.variants.len() < 2 || trials.rows.len() < 2 {
        return None;
    }
    let compared = compare(trials);
    let shown: Vec<&(&Metric, Vec<Cell>)> = compared.iter().filter(|(m, _)| m.shown).collect();
    let lines: usize = shown.iter().map(|(_, cells)| cells.len()).sum();
    let height = 110.0 + LINE * lines as f64 + AXIS * shown.len() as f64;
    let first = &trials.head.variants[0];
    let headline = format!("Differences from {first}, seed by seed");
    let what = "each dot one seed; bar: 95% interval of the mean; blue better, red worse";
    let mut canvas = begin(trials, height, &headline, what);
    let mut y = 96.0;
    for (metric, cells) in shown {
        canvas.strong(24.0, y, 13.0, INK, &metric.name);
        y += 22.0;
        let all = cells.iter().flat_map(|cell| &cell.differences);
        let most = all.map(|d| d.abs()).fold(0.0, f64::max).max(1e-12);
        let (middle, half) = (500.0, 240.0);
        let x = |value: f64| middle + value / most * half;
        let bottom = y - 14.0 + LINE * (cells.len() - 1) as f64;
        let ticks = axis::value_ticks(most, 2);
        for tick in ticks.iter().skip(1).map(|tick| -tick).chain(ticks.clone()) {
            canvas.line(x(tick), y - 16.0, x(tick), bottom, HAIR, 1.0);
            canvas.middle(x(tick), bottom + 13.0, 11.0, GREY, &mark(metric.unit, tick));
        }
        canvas.line(middle, y - 16.0, middle, bottom, "#b0b0b0", 1.0);
        for cell in cells.iter().filter(|cell| cell.variant > 0) {
            let name = &trials.head.variants[cell.variant];
            canvas.end(230.0, y + 4.0, 12.0, INK, name);
            canvas.line(250.0, y, 750.0, y, HAIR, 1.0);
            for value in &cell.differences {
                canvas.rect(x(*value) - 1.5, y - 1.5, 3.0, 3.0, "#b0b0b0");
            }
            if let Some(difference) = &cell.difference {
                let e = &difference.estimate;
                let better = match metric.better {
                    _ if difference.p_holm >= 0.05 => GREY,
                    Better::Neither => INK,
                    Better::Higher if e.mean > 0.0 => BLUE,
                    Better::Lower if e.mean < 0.0 => BLUE,
                    Better::Higher | Better::Lower => RED,
                };
                canvas.line(x(e.mean - e.half), y, x(e.mean + e.half), y, better, 3.0);
                canvas.rect(x(e.mean) - 3.0, y - 5.0, 6.0, 10.0, better);
                let p = match difference.p_holm {
                    p if p < 0.001 => "p<.001".to_owned(),
                    p => format!("p={p:.3}"),
                };
                let words = format!("{}  {p}", amount(metric.unit, e.mean));
                canvas.text(766.0, y + 4.0, 12.0, better, &words);
            }
            y += LINE;
        }
        y += AXIS;
    }
    Some(canvas.finish())
}

/// Where axes begin and end.
struct Frame {
    panel: Panel,
    low: f64,
}

impl Frame {
    /// A frame with room for these labels on its right.
    fn new(least: f64, most: f64, most_x: f64, labels: &[(usize, String)]) -> Frame {
        let longest = labels.iter().map(|(_, label)| label.chars().count()).max();
        let room = WIDTH - 24.0 - 7.8 * longest.unwrap_or(0) as f64;
        let ticks = axis::value_ticks((most - least).max(1e-9), 6);
        let step = ticks.get(1).copied().unwrap_or(1.0);
        let low = (libm::floor(least / step) * step).max(0.0);
        let panel = Panel {
            left: 76.0,
            right: room.clamp(400.0, 770.0),
            top: 90.0,
            bottom: 420.0,
            most_x,
            most_y: (libm::ceil(most / step) * step - low).max(step),
        };
        Frame { panel, low }
    }

    fn y(&self, value: f64) -> f64 {
        self.panel.y(value - self.low)
    }

    fn draw(&self, canvas: &mut Canvas) {
        for value in axis::value_ticks(self.panel.most_y, 6) {
            let y = self.panel.y(value);
            canvas.line(self.panel.left, y, self.panel.right, y, HAIR, 1.0);
            let label = format!("{:.4}", (value + self.low) * 100.0);
            let label = label.trim_end_matches('0').trim_end_matches('.');
            canvas.end(
                self.panel.left - 8.0,
                y + 4.0,
                11.0,
                GREY,
                &format!("{label}%"),
            );
        }
    }
}

/// A label at the end of each line, pushed apart where they meet.
fn labels(canvas: &mut Canvas, x: f64, mut ends: Vec<(f64, usize, String)>) {
    ends.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut free = 0.0;
    for (y, variant, text) in ends {
        let at = f64::max(y + 4.0, free);
        canvas.strong(x, at, 12.0, colour(variant), &text);
        free = at + 15.0;
    }
}

/// The mean over seeds of a variant's series: every seed has the same number of points, or the point
/// nearest in place is taken.
fn mean_series(trials: &Trials, variant: usize, of: fn(&Point) -> f64) -> Vec<(f64, f64)> {
    let all: Vec<&[Point]> = (trials.rows.iter())
        .map(|row| row.trials[variant].series.as_slice())
        .filter(|series| !series.is_empty())
        .collect();
    let length = all.iter().map(|series| series.len()).min().unwrap_or(0);
    (0..length)
        .map(|at| {
            let points = || all.iter().map(|series| &series[at]);
            let n = all.len() as f64;
            let x = points().map(|point| point.at).sum::<f64>() / n;
            (x, points().map(of).sum::<f64>() / n)
        })
        .collect()
}

/// The horizontal axis, which begins at `from`.
fn ticks(canvas: &mut Canvas, panel: &Panel, along: Axis, from: f64) {
    match along {
        Axis::Load => {
            for tick in axis::value_ticks(panel.most_x, 8) {
                let x = panel.x(tick);
                canvas.line(x, panel.bottom, x, panel.bottom + 4.0, "#b0b0b0", 1.0);
                let label = format!("{:.0}%", (tick + from) * 100.0);
                canvas.middle(x, panel.bottom + 18.0, 11.0, GREY, &label);
            }
        }
        Axis::Time | Axis::None => {
            for second in axis::time_ticks(panel.most_x) {
                let x = panel.x(second);
                canvas.line(x, panel.bottom, x, panel.bottom + 4.0, "#b0b0b0", 1.0);
                let label = crate::engine::Time::from_secs(second as u64).clock();
                canvas.middle(x, panel.bottom + 18.0, 11.0, GREY, &label);
            }
        }
    }
}

fn along(trials: &Trials, what: &str, of: fn(&Point) -> f64) -> Option<String> {
    let variants = &trials.head.variants;
    let lines: Vec<Vec<(f64, f64)>> = (0..variants.len())
        .map(|variant| mean_series(trials, variant, of))
        .collect();
    let points = || lines.iter().flatten();
    let most_x = points().map(|(x, _)| *x).fold(0.0, f64::max);
    let most = points().map(|(_, y)| *y).fold(0.0, f64::max);
    if most_x <= 0.0 || most <= 0.0 {
        return None;
    }
    let ends: Vec<f64> = lines
        .iter()
        .filter_map(|l| l.last())
        .map(|(_, y)| *y)
        .collect();
    let best = ends.iter().copied().fold(0.0, f64::max);
    let worst = ends.iter().copied().fold(1.0, f64::min);
    let headline = match trials.head.axis {
        Axis::Load => format!(
            "{:.1}% to {:.1}% {what} once {:.0}% has arrived",
            worst * 100.0,
            best * 100.0,
            most_x * 100.0
        ),
        Axis::Time | Axis::None => format!("Up to {:.1}% {what}", most * 100.0),
    };
    let subtitle = match trials.head.axis {
        Axis::Load => "against arrived GPU requests, in % of capacity; mean over seeds",
        Axis::Time | Axis::None => "over time; mean over seeds",
    };
    let mut canvas = begin(trials, 470.0, &headline, subtitle);
    // By load everything happens at the end: the first half is a straight line.
    let from = if trials.head.axis == Axis::Load {
        libm::floor(most_x * 6.0) / 10.0
    } else {
        0.0
    };
    let visible = || points().filter(|(x, _)| *x >= from);
    let least = visible().map(|(_, y)| *y).fold(most, f64::min);
    let named: Vec<(usize, String)> = (lines.iter().enumerate())
        .filter_map(|(variant, line)| {
            let (_, value) = line.last()?;
            Some((
                variant,
                format!("{} {:.1}%", variants[variant], value * 100.0),
            ))
        })
        .collect();
    let frame = Frame::new(least, most, most_x - from, &named);
    frame.draw(&mut canvas);
    let panel = frame.panel;
    ticks(&mut canvas, &panel, trials.head.axis, from);
    let mut ends = Vec::new();
    for (variant, label) in named {
        let visible = lines[variant].iter().filter(|(x, _)| *x >= from);
        let path: Vec<(f64, f64)> = visible
            .map(|(x, y)| (panel.x(x - from), frame.y(*y)))
            .collect();
        canvas.path(&path, colour(variant), 2.0);
        if let Some((_, y)) = path.last() {
            ends.push((*y, variant, label));
        }
    }
    labels(&mut canvas, panel.right + 10.0, ends);
    Some(canvas.finish())
}

/// The percentiles of a variant's waiting times in seconds: the mean of each over seeds.
fn mean_waits(trials: &Trials, variant: usize) -> Vec<f64> {
    let all: Vec<&Vec<f64>> = (trials.rows.iter())
        .map(|row| &row.trials[variant].waits)
        .filter(|waits| waits.len() == 101)
        .collect();
    let n = all.len().max(1) as f64;
    (0..=100)
        .map(|at| all.iter().map(|w| w[at]).sum::<f64>() / n)
        .collect()
}

/// The share of pods that waited at most so long: the mean of each percentile over seeds.
fn waits(trials: &Trials) -> Option<String> {
    let variants = &trials.head.variants;
    let lines: Vec<Vec<f64>> = (0..variants.len()).map(|v| mean_waits(trials, v)).collect();
    let most = lines.iter().flatten().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let slowest = |line: &Vec<f64>| {
        let millis = (line[99] * 1e3) as u64;
        crate::report::number::span(std::time::Duration::from_millis(millis))
    };
    let headline = format!(
        "99% of pods waited at most {} with {}",
        slowest(&lines[0]),
        variants[0]
    );
    let what = "pods that waited at most so long for a node; percentiles, mean over seeds";
    let mut canvas = begin(trials, 470.0, &headline, what);
    // Waits span magnitudes: the axis is log(1 + seconds).
    let scale = |seconds: f64| libm::log1p(seconds);
    let named: Vec<(usize, String)> = (lines.iter().enumerate())
        .map(|(variant, line)| {
            (
                variant,
                format!("{} p99 {}", variants[variant], slowest(line)),
            )
        })
        .collect();
    // Those that did not wait at all need no room.
    let at_once = |line: &Vec<f64>| line.iter().filter(|seconds| **seconds <= 0.0).count();
    let fewest = lines.iter().map(at_once).min().unwrap_or(0);
    let low = fewest.saturating_sub(6) / 10 * 10;
    let frame = Frame::new(low as f64 / 100.0, 1.0, scale(most), &named);
    frame.draw(&mut canvas);
    let panel = frame.panel;
    let mut last = f64::NEG_INFINITY;
    for tick in [
        0.0, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 604_800.0,
    ] {
        let x = panel.x(scale(tick));
        if tick > most || x - last < 40.0 {
            continue;
        }
        last = x;
        canvas.line(x, panel.bottom, x, panel.bottom + 4.0, "#b0b0b0", 1.0);
        let label = crate::report::number::duration(std::time::Duration::from_secs(tick as u64));
        canvas.middle(x, panel.bottom + 18.0, 11.0, GREY, &label);
    }
    let mut ends = Vec::new();
    for (variant, label) in named {
        let mut path = Vec::new();
        for (percent, seconds) in lines[variant].iter().enumerate().skip(low) {
            path.push((panel.x(scale(*seconds)), frame.y(percent as f64 / 100.0)));
        }
        canvas.path(&path, colour(variant), 2.0);
        ends.push((panel.top + 15.0 * variant as f64, variant, label));
    }
    labels(&mut canvas, panel.right + 10.0, ends);
    Some(canvas.finish())
}
