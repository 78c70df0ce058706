//! The lives of pods by node: pending, pulling, starting, ready, terminating.

use super::axis::Panel;
use super::canvas::{Canvas, width};
use super::{GREEN, GREY, HAIR, INK, ORANGE, RED, SKY, bands, begin, cut, own, time_axis};
use crate::engine::Time;
use crate::record::PodLife;
use crate::report::names::Names;
use crate::report::number::count;

/// Height of a row.
const ROW: f64 = 15.0;

/// So many rows a picture has at most.
const ROWS_MAX: usize = 70;

/// Colour of a state, and its name.
const STATES: [(&str, &str); 5] = [
    ("#b8b8b8", "pending"),
    (SKY, "pulling"),
    (ORANGE, "starting or not ready"),
    (GREEN, "ready"),
    (RED, "terminating"),
];

/// The picture; `None` when no pod came, went or changed.
pub fn draw(names: &Names<'_>) -> Option<String> {
    let run = names.run;
    let begun = run.header.begun;
    let touched = |p: &&PodLife| {
        p.gone.is_none_or(|t| t > begun)
            && (p.created > begun
                || p.terminating.is_some()
                || p.restarts > 0
                || p.unready.iter().any(|t| *t > begun)
                || p.ready.is_none_or(|t| t > begun))
    };
    let mut pods: Vec<&PodLife> = run.pods.iter().filter(touched).collect();
    if pods.is_empty() {
        return None;
    }
    let all = pods.len();
    let created = pods.iter().filter(|p| p.created > begun).count() as u64;
    let restarted = pods.iter().filter(|p| p.restarts > 0).count() as u64;
    let targets = names.targets();
    pods.sort_by_key(|p| (!targets.contains(&names.app(p)), p.created));
    pods.truncate(ROWS_MAX);
    pods.sort_by_key(|p| (p.node.is_empty(), p.node.clone(), p.created, p.name.clone()));
    let restarts = match restarted {
        0 => String::new(),
        n => format!(", {} restarted", count(n, "pod")),
    };
    let headline = format!("{} came up during the run{restarts}", count(created, "pod"));
    let left_out = match all - pods.len() {
        0 => String::new(),
        n => format!(" ({n} more not shown)"),
    };
    let what = format!("pods that something happened to, by node{left_out}");
    let top = 116.0;
    let bottom = top + ROW * pods.len() as f64;
    let mut canvas = begin(names, bottom + 40.0, &headline, &what);
    let panel = Panel {
        left: 300.0,
        right: 936.0,
        top,
        bottom,
        most_x: run.header.simulated.as_secs_f64().max(1.0),
        most_y: 1.0,
    };
    states(&mut canvas);
    bands(names, &mut canvas, &panel, true);
    let mut node = None;
    for (i, pod) in pods.iter().enumerate() {
        let y = top + ROW * i as f64;
        if node != Some(&pod.node) {
            canvas.line(24.0, y, panel.right, y, HAIR, 1.0);
            let name = if pod.node.is_empty() {
                "no node"
            } else {
                &*pod.node
            };
            canvas.strong(24.0, y + 11.0, 11.0, INK, &cut(name, 14));
            node = Some(&pod.node);
        }
        canvas.end(panel.left - 8.0, y + 11.0, 10.0, GREY, &cut(&pod.name, 30));
        bars(names, &mut canvas, &panel, pod, y);
    }
    time_axis(&mut canvas, &panel);
    Some(canvas.finish())
}

/// The colours with their names, in a row.
fn states(canvas: &mut Canvas) {
    let mut x = 24.0;
    for (colour, name) in STATES {
        canvas.rect(x, 74.0, 10.0, 10.0, colour);
        canvas.text(x + 15.0, 83.0, 11.0, INK, name);
        x += 34.0 + 0.85 * width(name, 11.0);
    }
}

fn bars(names: &Names<'_>, canvas: &mut Canvas, panel: &Panel, pod: &PodLife, y: f64) {
    let end = names.run.header.begun + names.run.header.simulated;
    // When each state begins, by the number of the state.
    let mut marks: Vec<(Time, usize)> = vec![(pod.created, 0)];
    marks.extend(pod.scheduled.map(|t| (t, 1)));
    marks.extend(pod.pulled.or(pod.started).map(|t| (t, 2)));
    marks.extend(pod.ready.map(|t| (t, 3)));
    marks.extend(pod.unready.iter().map(|t| (*t, 2)));
    marks.extend(pod.ready_again.iter().map(|t| (*t, 3)));
    marks.sort();
    let over = pod.gone.unwrap_or(end).min(end);
    if let Some(at) = pod.terminating {
        marks.retain(|(t, _)| *t < at);
        marks.push((at, 4));
    }
    for (i, (from, state)) in marks.iter().enumerate() {
        let to = marks.get(i + 1).map_or(over, |(t, _)| *t).min(over);
        let (x1, x2) = (panel.x(own(names, *from)), panel.x(own(names, to)));
        // What is shorter than the line is wide can still be seen.
        if to >= names.run.header.begun && to > *from {
            canvas.rect(x1, y + 3.0, (x2 - x1).max(0.6), ROW - 6.0, STATES[*state].0);
        }
    }
}
