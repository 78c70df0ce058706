//! The sheet that pictures are drawn on: plotters' SVG backend under it, with coordinates in
//! fractions of a pixel.
//!
//! plotters counts in whole pixels, which makes curves of many points step. So it draws a sheet that
//! is ten times as large, and the picture's own size stands in the SVG's head: one decimal for every
//! coordinate, equal bytes for equal pictures.

use plotters::prelude::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, RGBColor, ShapeStyle, TextStyle};

/// Fonts by preference; SVG embeds none.
const FONTS: &str = "Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif";

/// Units of the sheet in a pixel.
const SCALE: f64 = 10.0;

/// plotters divides the sizes of fonts by this.
const POINTS: f64 = 1.24;

/// plotters hangs text that is anchored at its top so much below (in sizes of the font).
const HANG: f64 = 0.76;

/// Which end of a text stands at its point.
#[derive(Clone, Copy, Debug)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// One thing on the sheet.
#[derive(Clone, Debug)]
enum Mark {
    Text {
        at: (f64, f64),
        size: f64,
        fill: String,
        strong: bool,
        anchor: Anchor,
        text: String,
    },
    Path {
        points: Vec<(f64, f64)>,
        stroke: String,
        width: f64,
    },
    Rect {
        from: (f64, f64),
        to: (f64, f64),
        fill: String,
    },
    Area {
        points: Vec<(f64, f64)>,
        fill: String,
    },
}

/// A picture under construction.
#[derive(Debug)]
pub struct Canvas {
    size: (f64, f64),
    title: String,
    marks: Vec<Mark>,
}

/// About how wide a text is: sans-serif letters are a little wider than half their height.
pub fn width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.56
}

/// Text as XML wants it.
fn escaped(text: &str) -> String {
    (text.replace('&', "&amp;").replace('<', "&lt;")).replace('>', "&gt;")
}

/// `#0072B2`.
fn colour(text: &str) -> RGBColor {
    let part = |at: usize| {
        let digits = text.get(at..at + 2).unwrap_or_default();
        u8::from_str_radix(digits, 16).unwrap_or(0)
    };
    RGBColor(part(1), part(3), part(5))
}

fn place((x, y): (f64, f64)) -> (i32, i32) {
    (libm::round(x * SCALE) as i32, libm::round(y * SCALE) as i32)
}

fn places(points: &[(f64, f64)]) -> Vec<(i32, i32)> {
    points.iter().copied().map(place).collect()
}

fn stroke(fill: &str, width: f64) -> ShapeStyle {
    ShapeStyle {
        color: colour(fill).to_rgba(),
        filled: false,
        stroke_width: libm::round(width * SCALE) as u32,
    }
}

impl Canvas {
    /// A white picture.
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        let mut canvas = Canvas {
            size: (width, height),
            title: title.to_owned(),
            marks: Vec::new(),
        };
        canvas.rect(0.0, 0.0, width, height, "#ffffff");
        canvas
    }

    /// The picture.
    pub fn finish(self) -> String {
        let (width, height) = place(self.size);
        let mut sheet = String::new();
        {
            let size = (width.unsigned_abs(), height.unsigned_abs());
            let mut backend = SVGBackend::with_string(&mut sheet, size);
            for mark in &self.marks {
                draw(&mut backend, mark);
            }
            backend.present().expect("written to memory");
        }
        let head = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{:.0}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n",
            self.size.0,
            self.size.1,
            escaped(&self.title)
        );
        let body = sheet.split_once(">\n").map_or("", |(_, body)| body);
        // Every label ends on its own line there, which some viewers draw as a space.
        let body = body.replace("\n</text>", "</text>");
        format!("{head}{}\n", body.trim_end())
    }

    fn label(&mut self, at: (f64, f64), size: f64, fill: &str, anchor: Anchor, text: &str) {
        self.marks.push(Mark::Text {
            at,
            size,
            fill: fill.to_owned(),
            strong: false,
            anchor,
            text: text.to_owned(),
        });
    }

    /// Text that begins at a point.
    pub fn text(&mut self, x: f64, y: f64, size: f64, fill: &str, text: &str) {
        self.label((x, y), size, fill, Anchor::Start, text);
    }

    /// Text of weight.
    pub fn strong(&mut self, x: f64, y: f64, size: f64, fill: &str, text: &str) {
        self.label((x, y), size, fill, Anchor::Start, text);
        if let Some(Mark::Text { strong, .. }) = self.marks.last_mut() {
            *strong = true;
        }
    }

    /// Text around a point.
    pub fn middle(&mut self, x: f64, y: f64, size: f64, fill: &str, text: &str) {
        self.label((x, y), size, fill, Anchor::Middle, text);
    }

    /// Text that ends at a point.
    pub fn end(&mut self, x: f64, y: f64, size: f64, fill: &str, text: &str) {
        self.label((x, y), size, fill, Anchor::End, text);
    }

    /// A straight line.
    pub fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, stroke: &str, width: f64) {
        self.path(&[(x1, y1), (x2, y2)], stroke, width);
    }

    /// A dashed horizontal line.
    pub fn dashed(&mut self, x1: f64, x2: f64, y: f64, stroke: &str) {
        let mut x = x1;
        while x < x2 {
            self.line(x, y, (x + 5.0).min(x2), y, stroke, 1.2);
            x += 9.0;
        }
    }

    /// A filled rectangle.
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        self.marks.push(Mark::Rect {
            from: (x, y),
            to: (x + width, y + height),
            fill: fill.to_owned(),
        });
    }

    /// A line through points.
    pub fn path(&mut self, points: &[(f64, f64)], stroke: &str, width: f64) {
        self.marks.push(Mark::Path {
            points: points.to_vec(),
            stroke: stroke.to_owned(),
            width,
        });
    }

    /// The area between points and a base line.
    pub fn area(&mut self, points: &[(f64, f64)], base: f64, fill: &str) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return;
        };
        let ends = [(last.0, base), (first.0, base)];
        self.marks.push(Mark::Area {
            points: points.iter().copied().chain(ends).collect(),
            fill: fill.to_owned(),
        });
    }
}

fn draw(backend: &mut SVGBackend<'_>, mark: &Mark) {
    let drawn = match mark {
        Mark::Text {
            at,
            size,
            fill,
            strong,
            anchor,
            text,
        } => {
            let style = match strong {
                true => FontStyle::Bold,
                false => FontStyle::Normal,
            };
            let font = FontDesc::new(FontFamily::Name(FONTS), size * SCALE * POINTS, style);
            let across = match anchor {
                Anchor::Start => HPos::Left,
                Anchor::Middle => HPos::Center,
                Anchor::End => HPos::Right,
            };
            let fill = colour(fill);
            let style = TextStyle::from(font).color(&fill);
            let style = style.pos(Pos::new(across, VPos::Top));
            let top = (at.0, at.1 - HANG * size);
            backend.draw_text(text, &style, place(top))
        }
        Mark::Path {
            points,
            stroke: fill,
            width,
        } => backend.draw_path(places(points), &stroke(fill, *width)),
        Mark::Rect { from, to, fill } => backend.draw_rect(
            place(*from),
            place(*to),
            &colour(fill).to_rgba().filled(),
            true,
        ),
        Mark::Area { points, fill } => {
            backend.fill_polygon(places(points), &colour(fill).to_rgba().filled())
        }
    };
    drawn.expect("written to memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_keep_a_tenth_of_a_pixel_and_names_are_escaped() {
        let mut canvas = Canvas::new(20.0, 10.0, "a < b");
        canvas.path(&[(1.04, 2.0), (3.26, 4.0)], "#0072B2", 1.5);
        canvas.text(5.0, 6.0, 10.0, "#1a1a1a", "p99 > 1");
        let svg = canvas.finish();
        assert!(
            svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"20\""),
            "{svg}"
        );
        assert!(svg.contains("viewBox=\"0 0 200 100\""), "{svg}");
        assert!(svg.contains("<title>a &lt; b</title>"), "{svg}");
        assert!(svg.contains("points=\"10,20 33,40"), "{svg}");
        assert!(svg.contains("stroke-width=\"15\""), "{svg}");
        // The baseline: 60 - 0.76 of the font's 100, hung by as much again.
        assert!(svg.contains("y=\"-16\" dy=\"0.76em\""), "{svg}");
        assert!(svg.contains("p99 &gt; 1</text>"), "{svg}");
        assert!(svg.ends_with("</svg>\n"), "{svg}");
    }
}
