//! Pictures of a run, as SVG: what users felt, replicas, the lives of pods, latency.
//!
//! Each picture is a pure function of the record and has a headline that states its finding, direct
//! labels instead of legends, hairlines instead of grids, and the colours of Okabe and Ito, which
//! colour-blind readers can tell apart. [`canvas`] knows SVG, [`axis`] picks ticks; the rest knows
//! what to draw.

mod agreement;

pub(in crate::report) mod axis;

pub(in crate::report) mod canvas;

mod latency;

mod pods;

mod replicas;

mod requests;

use super::names::Names;
use super::number::clock;
use crate::engine::Time;
use crate::record::RunRecord;
use axis::Panel;
use canvas::Canvas;

/// Width of every picture.
pub(in crate::report) const WIDTH: f64 = 960.0;

/// Text that explains.
pub(in crate::report) const GREY: &str = "#6b6b6b";
/// Text that says something.
pub(in crate::report) const INK: &str = "#1a1a1a";
/// Lines that guide the eye.
pub(in crate::report) const HAIR: &str = "#e4e4e4";
/// Behind what happens during a fault.
const BAND: &str = "#fbe9e7";
/// Behind a fault that is over at once.
const MOMENT: &str = "#eaa798";
/// Okabe and Ito's blue.
pub(in crate::report) const BLUE: &str = "#0072B2";
/// Their vermillion.
pub(in crate::report) const RED: &str = "#D55E00";
/// Their bluish green.
pub(in crate::report) const GREEN: &str = "#009E73";
/// Their orange.
pub(in crate::report) const ORANGE: &str = "#E69F00";
/// Their sky blue.
pub(in crate::report) const SKY: &str = "#56B4E9";
/// Their reddish purple.
pub(in crate::report) const PURPLE: &str = "#CC79A7";

/// Every picture that the record has something for: file name and SVG.
pub fn plots(run: &RunRecord) -> Vec<(String, String)> {
    let names = Names::new(run);
    let pictures = [
        ("latency.svg", latency::draw(&names)),
        ("pods.svg", pods::draw(&names)),
        ("replicas.svg", replicas::draw(&names)),
        ("requests.svg", requests::draw(&names)),
    ];
    (pictures.into_iter())
        .filter_map(|(name, svg)| Some((name.to_owned(), svg?)))
        .collect()
}

/// How a simulated run and real ones agree: times on one axis, if there are any.
pub fn agreement(agreement: &crate::record::agreement::Agreement) -> Option<String> {
    agreement::draw(agreement)
}

/// A canvas with headline and subtitle.
fn begin(names: &Names<'_>, height: f64, headline: &str, what: &str) -> Canvas {
    let header = &names.run.header;
    let mut canvas = Canvas::new(WIDTH, height, headline);
    canvas.strong(24.0, 36.0, 20.0, INK, headline);
    let subtitle = format!("{what} · {} · seed {}", header.scenario, header.seed);
    canvas.text(24.0, 58.0, 13.0, GREY, &subtitle);
    canvas
}

/// Seconds of the run's own time, below 0 before it.
fn own(names: &Names<'_>, at: Time) -> f64 {
    at.as_secs_f64() - names.run.header.begun.as_secs_f64()
}

/// Faults that are over when they have happened.
const MOMENTARY: [&str; 2] = ["pod-kill", "container-kill"];

/// A name in so many letters: what is left out is in the middle, since names differ at their ends.
fn cut(text: &str, most: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= most {
        return text.to_owned();
    }
    let tail = (most - 1) / 2;
    let head = most - 1 - tail;
    let start: String = letters[..head].iter().collect();
    let end: String = letters[letters.len() - tail..].iter().collect();
    format!("{start}…{end}")
}

/// Bands where faults are in force, each named at the top of the panel when `named`.
fn bands(names: &Names<'_>, canvas: &mut Canvas, panel: &Panel, named: bool) {
    let run = names.run;
    let mut free_from = panel.left;
    for fault in run.faults.iter().filter(|f| !f.healed) {
        let over = (run.faults.iter())
            .find(|f| f.healed && f.name == fault.name && f.at >= fault.at)
            .map_or(panel.most_x, |f| own(names, f.at));
        let (from, to) = (panel.x(own(names, fault.at)), panel.x(over));
        match MOMENTARY.contains(&&*fault.action) {
            true => canvas.rect(from - 0.6, panel.top, 1.2, panel.height(), MOMENT),
            false => canvas.rect(from, panel.top, (to - from).max(1.2), panel.height(), BAND),
        }
        let whom = match fault.nodes.as_slice() {
            [] => String::new(),
            [node] => format!(" {node}"),
            nodes => format!(" {} nodes", nodes.len()),
        };
        let label = format!("{}{whom}", fault.action);
        let wide = canvas::width(&label, 11.0);
        let at = (from + 4.0).min(panel.right - wide);
        if named && at >= free_from {
            canvas.text(at, panel.top - 5.0, 11.0, RED, &label);
            free_from = at + wide + 8.0;
        }
    }
}

/// The time axis below a panel.
fn time_axis(canvas: &mut Canvas, panel: &Panel) {
    for second in axis::time_ticks(panel.most_x) {
        let x = panel.x(second);
        canvas.line(x, panel.bottom, x, panel.bottom + 4.0, "#b0b0b0", 1.0);
        let label = clock(Time::from_secs(second as u64), Time::ZERO);
        canvas.middle(x, panel.bottom + 18.0, 11.0, GREY, &label);
    }
}

/// Horizontal hairlines with their values to the left.
fn value_axis(canvas: &mut Canvas, panel: &Panel, unit: impl Fn(f64) -> String) {
    for value in axis::value_ticks(panel.most_y, (panel.height() / 32.0) as usize) {
        let y = panel.y(value);
        canvas.line(panel.left, y, panel.right, y, HAIR, 1.0);
        canvas.end(panel.left - 8.0, y + 4.0, 11.0, GREY, &unit(value));
    }
}
