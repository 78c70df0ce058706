//! Ready replicas of the Deployments that something happened to.

use super::axis::Panel;
use super::{BLUE, GREY, INK, bands, begin, own, time_axis, value_axis};
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
    let height = 128.0 + EACH * rows.len() as f64;
    let mut canvas = begin(names, height, &headline, &what);
    for (i, (name, points)) in rows.iter().enumerate() {
        let want = points
            .iter()
            .map(|p| p.want.max(p.ready))
            .max()
            .unwrap_or(1);
        let top = 100.0 + EACH * i as f64;
        let panel = Panel {
            left: 76.0,
            right: 812.0,
            top,
            bottom: top + EACH - 34.0,
            most_x: run.header.simulated.as_secs_f64().max(1.0),
            most_y: f64::from(want) * 1.1,
        };
        bands(names, &mut canvas, &panel, i == 0);
        value_axis(&mut canvas, &panel, |v| {
            if v == f64::from(v as u32) {
                format!("{v:.0}")
            } else {
                String::new()
            }
        });
        let steps = |value: fn(&ReplicaPoint) -> i32| -> Vec<(f64, f64)> {
            let mut line: Vec<(f64, f64)> = Vec::new();
            for point in points.iter() {
                let x = panel.x(own(names, point.at));
                let y = panel.y(f64::from(value(point)));
                if let Some(last) = line.last().copied() {
                    line.push((x, last.1));
                }
                line.push((x, y));
            }
            let end = line.last().map(|last| (panel.right, last.1));
            line.extend(end);
            line
        };
        canvas.path(&steps(|p| p.want), "#9a9a9a", 1.0);
        canvas.path(&steps(|p| p.ready), BLUE, 2.0);
        canvas.strong(panel.right + 10.0, panel.top + 14.0, 12.0, BLUE, bare(name));
        let least = (points.iter())
            .filter(|p| p.at > begun)
            .map(|p| p.ready)
            .min();
        let last = points.last().map_or(0, |p| p.want);
        let text = format!("at least {} of {last}", least.unwrap_or(last));
        canvas.text(panel.right + 10.0, panel.top + 30.0, 11.0, GREY, &text);
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
