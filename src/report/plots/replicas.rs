//! Ready replicas of the Deployments that something happened to.

use super::axis::Panel;
use super::canvas::Canvas;
use super::{BLUE, GREY, HAIR, INK, bands, begin, cut, own, time_axis};
use crate::record::ReplicaPoint;
use crate::report::names::{Names, bare};

/// Height of one Deployment's panel with what is between it and the next one.
const EACH: f64 = 104.0;

/// The picture; `None` when every Deployment stayed as it was.
pub fn draw(names: &Names<'_>) -> Option<String> {
    let run = names.run;
    let begun = run.header.begun;
    let moved = |points: &[ReplicaPoint]| points.iter().any(|p| p.at > begun && p.ready < p.want);
    let mut rows: Vec<(&String, &Vec<ReplicaPoint>)> = (run.replicas.iter())
        .filter(|(_, points)| moved(points))
        .collect();
    if rows.is_empty() {
        return None;
    }
    let targets = names.targets();
    rows.sort_by_key(|(name, _)| (!targets.contains(&bare(name)), (*name).clone()));
    let all = rows.len();
    rows.truncate(8);
    let (name, points) = rows[0];
    let low = (points.iter())
        .filter(|p| p.at > begun)
        .min_by_key(|p| (p.ready, p.at))?;
    let headline = format!(
        "{} fell to {} of {} ready pods at {}",
        bare(name),
        low.ready,
        low.want,
        names.clock(low.at)
    );
    let left_out = match all - rows.len() {
        0 => String::new(),
        n => format!(" ({n} more not shown)"),
    };
    let what = format!("ready replicas by Deployment{left_out}");
    let height = 132.0 + EACH * rows.len() as f64 - 34.0;
    let mut canvas = begin(names, height, &headline, &what);
    for (i, (name, points)) in rows.iter().enumerate() {
        let panel = deployment(names, &mut canvas, (name, points), i);
        if i == 0 {
            let y = panel.top + 46.0;
            canvas.text(panel.right + 10.0, y, 11.0, INK, "grey: wanted");
        }
        if i + 1 == rows.len() {
            time_axis(&mut canvas, &panel);
        }
    }
    Some(canvas.finish())
}

/// The panel of the `nth` Deployment.
fn deployment(
    names: &Names<'_>,
    canvas: &mut Canvas,
    (name, points): (&str, &[ReplicaPoint]),
    nth: usize,
) -> Panel {
    let run = names.run;
    let wanted = points.iter().map(|p| p.want).max().unwrap_or(1).max(1);
    let most = points.iter().map(|p| p.ready).max().unwrap_or(1);
    let top = 100.0 + EACH * nth as f64;
    let panel = Panel {
        left: 76.0,
        right: 784.0,
        top,
        bottom: top + EACH - 34.0,
        most_x: run.header.simulated.as_secs_f64().max(1.0),
        most_y: f64::from(most.max(wanted)) * 1.1,
    };
    bands(names, canvas, &panel, nth == 0);
    // What is wanted and nothing are the two values that one looks for.
    for value in [0, wanted] {
        let y = panel.y(f64::from(value));
        canvas.line(panel.left, y, panel.right, y, HAIR, 1.0);
        canvas.end(panel.left - 8.0, y + 4.0, 11.0, GREY, &value.to_string());
    }
    canvas.path(&steps(names, &panel, points, |p| p.want), "#9a9a9a", 1.0);
    canvas.path(&steps(names, &panel, points, |p| p.ready), BLUE, 2.0);
    canvas.strong(
        panel.right + 10.0,
        panel.top + 14.0,
        12.0,
        BLUE,
        &cut(bare(name), 20),
    );
    let inside = points.iter().filter(|p| p.at > run.header.begun);
    let last = points.last().map_or(0, |p| p.want);
    let least = inside.map(|p| p.ready).min().unwrap_or(last);
    let text = format!("at least {least} of {last}");
    canvas.text(panel.right + 10.0, panel.top + 30.0, 11.0, GREY, &text);
    panel
}

/// A line of steps from the beginning of the run to its end; what was before is its first value.
fn steps(
    names: &Names<'_>,
    panel: &Panel,
    points: &[ReplicaPoint],
    value: fn(&ReplicaPoint) -> i32,
) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = Vec::new();
    for point in points {
        let x = panel.x(own(names, point.at));
        let y = panel.y(f64::from(value(point)));
        if point.at <= names.run.header.begun {
            line = vec![(x, y)];
            continue;
        }
        if let Some(last) = line.last().copied() {
            line.push((x, last.1));
        }
        line.push((x, y));
    }
    let end = line.last().map(|last| (panel.right, last.1));
    line.extend(end);
    line
}
