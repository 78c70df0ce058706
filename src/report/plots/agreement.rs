//! Times between milestones, simulated and real, on one logarithmic axis.

use super::canvas::{self, Canvas};
use super::{BLUE, GREY, HAIR, INK, RED, WIDTH};
use crate::record::agreement::Agreement;

const ROW: f64 = 26.0;
const TOP: f64 = 96.0;
/// Shorter times are drawn here; a logarithm has no zero.
const LEAST: f64 = 0.001;

/// The picture, if there are times.
pub fn draw(agreement: &Agreement) -> Option<String> {
    let points = &agreement.times;
    let values = points
        .iter()
        .flat_map(|p| p.real_s.iter().chain([&p.simulated_s]));
    let most = values.fold(LEAST * 10.0, |most, value| most.max(*value));
    if points.is_empty() {
        return None;
    }
    let labels = points.iter().map(|p| canvas::width(&p.what, 12.0));
    let left = labels.fold(120.0, f64::max) + 40.0;
    let right = WIDTH - 40.0;
    let decades = libm::log10(most / LEAST).ceil();
    let x = |seconds: f64| {
        let part = libm::log10(seconds.max(LEAST) / LEAST) / decades;
        left + part * (right - left)
    };
    let height = TOP + ROW * points.len() as f64 + 50.0;
    let headline = match agreement.agrees() {
        true => "Simulation and reality agree",
        false => "Simulation and reality differ",
    };
    let mut sheet = Canvas::new(WIDTH, height, headline);
    sheet.strong(24.0, 36.0, 20.0, INK, headline);
    let runs = agreement.runs;
    let subtitle = format!(
        "time from one milestone to the next · {} · seed {} · {runs} real runs",
        agreement.scenario, agreement.seed
    );
    sheet.text(24.0, 58.0, 13.0, GREY, &subtitle);
    sheet.rect(24.0, 71.0, 9.0, 9.0, BLUE);
    sheet.text(38.0, 80.0, 12.0, BLUE, "simulated");
    sheet.line(112.0, 70.0, 112.0, 81.0, RED, 2.0);
    sheet.text(120.0, 80.0, 12.0, RED, "each real run");
    let bottom = TOP + ROW * points.len() as f64;
    for decade in 0..=(decades as i32) {
        let seconds = LEAST * libm::pow(10.0, f64::from(decade));
        sheet.line(x(seconds), TOP, x(seconds), bottom, HAIR, 1.0);
        sheet.middle(x(seconds), bottom + 18.0, 12.0, GREY, &tick(seconds));
    }
    for (number, point) in points.iter().enumerate() {
        let y = TOP + ROW * (number as f64 + 0.5);
        sheet.end(left - 16.0, y + 4.0, 12.0, INK, &point.what);
        sheet.line(left, y, right, y, HAIR, 1.0);
        sheet.rect(x(point.simulated_s) - 5.0, y - 5.0, 10.0, 10.0, BLUE);
        for real in &point.real_s {
            sheet.line(x(*real), y - 8.0, x(*real), y + 8.0, RED, 2.0);
        }
    }
    Some(sheet.finish())
}

/// `1 ms`, `10 s`.
fn tick(seconds: f64) -> String {
    match seconds < 0.9999 {
        true => format!("{:.0} ms", seconds * 1000.0),
        false => format!("{seconds:.0} s"),
    }
}
