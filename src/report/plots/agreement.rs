//! A simulated run and real ones in one picture: what users met and what served them over time, and
//! the times between milestones on a logarithmic axis with what each tolerates.

use super::axis::{Panel, round_up};
use super::canvas::{self, Canvas};
use super::{BLUE, GREY, HAIR, INK, RED, WIDTH};
use crate::record::agreement::{Agreement, AgreementPoint, AgreementSeries, Verdict};

const LEFT: f64 = 64.0;
const RIGHT: f64 = 936.0;
/// Where the first panel's space begins, below headline, subtitle and key.
const TOP: f64 = 92.0;
/// Height of a row of labels of marks.
const MARK: f64 = 14.0;
/// Height of a panel, and with what is below it.
const PANEL: f64 = 110.0;
const EACH: f64 = 158.0;
/// Height of a row of times.
const ROW: f64 = 21.0;
/// Shorter times are drawn here; a logarithm has no zero.
const LEAST: f64 = 0.001;
/// Behind what is tolerated.
const TOLERATED: &str = "#e8eef3";
/// Below the simulated line.
const SHADE: &str = "#dbe9f4";

/// The picture, if there is something to draw.
pub fn draw(agreement: &Agreement) -> Option<String> {
    if agreement.times.is_empty() && agreement.series.is_empty() {
        return None;
    }
    let marks = place_marks(agreement);
    let rows = marks.iter().map(|(_, _, row)| row + 1).max().unwrap_or(0);
    let over_time = match agreement.series.len() {
        0 => 0.0,
        count => rows as f64 * MARK + 18.0 + EACH * count as f64,
    };
    let times = match agreement.times.len() {
        0 => 0.0,
        count => 62.0 + ROW * count as f64,
    };
    let headline = headline(agreement);
    let mut sheet = Canvas::new(WIDTH, TOP + over_time + times + 12.0, &headline);
    heading(&mut sheet, agreement, &headline);
    let mut top = TOP + rows as f64 * MARK + 18.0;
    let first = top;
    for series in &agreement.series {
        panel(&mut sheet, agreement, series, top);
        top += EACH;
    }
    if let Some(last) = agreement.series.len().checked_sub(1) {
        let bottom = first + EACH * last as f64 + PANEL;
        draw_marks(&mut sheet, agreement, &marks, (first, bottom));
    }
    dots(&mut sheet, &agreement.times, TOP + over_time);
    Some(sheet.finish())
}

fn headline(agreement: &Agreement) -> String {
    let apart = agreement.rows.iter();
    let apart = apart.filter(|r| r.verdict == Verdict::Differs).count();
    match apart {
        0 => "Simulation and reality agree".to_owned(),
        1 => "Simulation and reality differ in one row".to_owned(),
        n => format!("Simulation and reality differ in {n} rows"),
    }
}

fn heading(sheet: &mut Canvas, agreement: &Agreement, headline: &str) {
    sheet.strong(24.0, 36.0, 20.0, INK, headline);
    let decisions = agreement.rows.iter().find(|r| r.group == "decisions");
    let decisions = decisions.map(|r| {
        let (same, all) = (&r.real, &r.simulated);
        format!(" · {same} of {all} objects with the same decisions")
    });
    let runs = match agreement.runs {
        1 => "one real run".to_owned(),
        n => format!("{n} real runs"),
    };
    let subtitle = format!(
        "{} · seed {} · {runs}{}",
        agreement.scenario,
        agreement.seed,
        decisions.unwrap_or_default()
    );
    sheet.text(24.0, 58.0, 13.0, GREY, &subtitle);
    sheet.rect(24.0, 71.0, 9.0, 9.0, BLUE);
    sheet.text(38.0, 80.0, 12.0, BLUE, "simulated");
    sheet.line(112.0, 75.5, 126.0, 75.5, RED, 1.6);
    sheet.text(132.0, 80.0, 12.0, RED, "on real processes");
}

fn frame(agreement: &Agreement, most: f64, top: f64) -> Panel {
    Panel {
        left: LEFT,
        right: RIGHT,
        top,
        bottom: top + PANEL,
        most_x: agreement.seconds.max(1.0),
        most_y: round_up(most.max(1.0)),
    }
}

fn panel(sheet: &mut Canvas, agreement: &Agreement, series: &AgreementSeries, top: f64) {
    let lines = series.real.iter().chain([&series.simulated]);
    let most = lines.flatten().map(|p| p.1).fold(0.0, f64::max);
    let panel = frame(agreement, most * 1.08, top);
    super::value_axis(sheet, &panel, |value| format!("{value:.0}"));
    super::time_axis(sheet, &panel);
    let line = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        let points = match series.holds {
            true => held(points, agreement.seconds),
            false => by_second(points, agreement.seconds),
        };
        let place = |(x, y): &(f64, f64)| (panel.x(*x), panel.y(*y));
        points.iter().map(place).collect()
    };
    let simulated = line(&series.simulated);
    if !series.holds {
        sheet.area(&simulated, panel.bottom, SHADE);
    }
    sheet.path(&simulated, BLUE, 2.4);
    for real in &series.real {
        sheet.path(&line(real), RED, 1.1);
    }
    sheet.strong(LEFT, top - 6.0, 12.0, INK, &series.what);
}

/// Corners of a line whose values hold.
fn held(points: &[(f64, f64)], end: f64) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    let mut value = None;
    for (at, new) in points {
        out.extend(value.map(|old| (*at, old)));
        out.push((*at, *new));
        value = Some(*new);
    }
    out.extend(value.map(|value| (end, value)));
    out
}

/// Points in the middle of each second, at zero where nothing is said.
fn by_second(points: &[(f64, f64)], end: f64) -> Vec<(f64, f64)> {
    let mut values = vec![0.0; libm::ceil(end) as usize];
    for (at, value) in points {
        if let Some(slot) = values.get_mut(*at as usize) {
            *slot = *value;
        }
    }
    let each = values.into_iter().enumerate();
    each.map(|(second, value)| (second as f64 + 0.5, value))
        .collect()
}

/// Which marks are named, where, and in which row.
fn place_marks(agreement: &Agreement) -> Vec<(f64, String, usize)> {
    if agreement.series.is_empty() {
        return Vec::new();
    }
    let panel = frame(agreement, 1.0, 0.0);
    let mut ends: Vec<f64> = Vec::new();
    let mut placed = Vec::new();
    for mark in &agreement.marks {
        let x = panel.x(mark.at_s);
        let row = ends.iter().position(|end| *end <= x);
        let row = row.unwrap_or(ends.len());
        let end = x + canvas::width(&mark.what, 11.0) + 12.0;
        match ends.get_mut(row) {
            Some(slot) => *slot = end,
            None => ends.push(end),
        }
        placed.push((x, mark.what.clone(), row));
    }
    placed
}

fn draw_marks(
    sheet: &mut Canvas,
    agreement: &Agreement,
    marks: &[(f64, String, usize)],
    (top, bottom): (f64, f64),
) {
    let right = frame(agreement, 1.0, 0.0).right;
    for (x, what, row) in marks {
        let y = TOP + MARK * (*row as f64) + 10.0;
        sheet.line(*x, y - 8.0, *x, top - 20.0, HAIR, 1.0);
        sheet.line(*x, top, *x, bottom, "#c9c9c9", 0.8);
        let wide = canvas::width(what, 11.0);
        match x + 4.0 + wide > right + 20.0 {
            true => sheet.end(x - 4.0, y, 11.0, GREY, what),
            false => sheet.text(x + 4.0, y, 11.0, GREY, what),
        }
    }
}

/// Times between milestones.
fn dots(sheet: &mut Canvas, points: &[AgreementPoint], top: f64) {
    if points.is_empty() {
        return;
    }
    let values = points
        .iter()
        .flat_map(|p| p.real_s.iter().chain([&p.simulated_s]));
    let most = values.fold(LEAST * 10.0, |most, value| most.max(*value));
    let labels = points.iter().map(|p| canvas::width(&p.what, 11.0));
    let left = 24.0 + labels.fold(120.0, f64::max) + 16.0;
    let right = RIGHT - 118.0;
    let decades = libm::ceil(libm::log10(most / LEAST));
    let x = |seconds: f64| {
        let part = libm::log10(seconds.max(LEAST) / LEAST) / decades;
        left + part.min(1.0) * (right - left)
    };
    sheet.strong(
        24.0,
        top + 14.0,
        12.0,
        INK,
        "from one milestone to the next",
    );
    sheet.end(RIGHT - 58.0, top + 14.0, 11.0, BLUE, "simulated");
    sheet.end(RIGHT, top + 14.0, 11.0, RED, "real");
    let top = top + 24.0;
    let bottom = top + ROW * points.len() as f64;
    for (number, point) in points.iter().enumerate() {
        let (y, tolerated) = (top + ROW * number as f64, point.tolerated_s);
        let (from, to) = (
            x(point.simulated_s - tolerated),
            x(point.simulated_s + tolerated),
        );
        sheet.rect(from, y + 3.0, (to - from).max(2.0), ROW - 6.0, TOLERATED);
    }
    for decade in 0..=(decades as i32) {
        let seconds = LEAST * libm::pow(10.0, f64::from(decade));
        sheet.line(x(seconds), top, x(seconds), bottom, HAIR, 1.0);
        sheet.middle(x(seconds), bottom + 16.0, 11.0, GREY, &tick(seconds));
    }
    for (number, point) in points.iter().enumerate() {
        let y = top + ROW * (number as f64 + 0.5);
        sheet.end(left - 16.0, y + 4.0, 11.0, INK, &point.what);
        sheet.rect(x(point.simulated_s) - 4.0, y - 4.0, 8.0, 8.0, BLUE);
        for real in &point.real_s {
            sheet.line(x(*real), y - 7.0, x(*real), y + 7.0, RED, 1.8);
        }
        let median = median(&point.real_s);
        sheet.end(RIGHT - 58.0, y + 4.0, 11.0, BLUE, &span(point.simulated_s));
        sheet.end(RIGHT, y + 4.0, 11.0, RED, &span(median));
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len().is_multiple_of(2)) {
        (Some(upper), true) => f64::midpoint(sorted[middle - 1], *upper),
        (Some(value), false) => *value,
        (None, _) => 0.0,
    }
}

/// `958 ms`, `12.30 s`.
fn span(seconds: f64) -> String {
    match seconds < 1.0 {
        true => format!("{:.0} ms", seconds * 1000.0),
        false => format!("{seconds:.2} s"),
    }
}

/// `1 ms`, `10 s`.
fn tick(seconds: f64) -> String {
    match seconds < 0.9999 {
        true => format!("{:.0} ms", seconds * 1000.0),
        false => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::agreement::AgreementMark;

    #[test]
    fn values_hold_until_the_next_one_or_fill_their_second() {
        let points = [(0.0, 4.0), (2.0, 3.0)];
        let corners = [(0.0, 4.0), (2.0, 4.0), (2.0, 3.0), (5.0, 3.0)];
        assert_eq!(held(&points, 5.0), corners);
        let seconds = [(0.5, 4.0), (1.5, 0.0), (2.5, 3.0)];
        assert_eq!(by_second(&points, 3.0), seconds);
    }

    #[test]
    fn marks_that_would_touch_are_in_rows_of_their_own() {
        let mark = |at_s, what: &str| AgreementMark {
            at_s,
            what: what.to_owned(),
        };
        let agreement = Agreement {
            series: vec![AgreementSeries::default()],
            seconds: 100.0,
            marks: vec![
                mark(10.0, "set image"),
                mark(11.0, "power-off"),
                mark(60.0, "Ready"),
            ],
            ..Agreement::default()
        };
        let rows: Vec<usize> = place_marks(&agreement).into_iter().map(|m| m.2).collect();
        assert_eq!(rows, [0, 1, 0]);
    }
}
