//! SVG as text: coordinates with one decimal, so that equal pictures are equal bytes.

use std::fmt::Write;

/// Fonts by preference; SVG embeds none.
const FONTS: &str = "Inter, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif";

/// A picture under construction.
#[derive(Debug)]
pub struct Canvas {
    out: String,
}

/// About how wide a text is: sans-serif letters are a little wider than half their height.
pub fn width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.56
}

/// Text as XML wants it.
fn escaped(text: &str) -> String {
    (text.replace('&', "&amp;").replace('<', "&lt;")).replace('>', "&gt;")
}

impl Canvas {
    /// A white picture.
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        let out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" \
             font-family=\"{FONTS}\">\n<title>{}</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
            escaped(title)
        );
        Canvas { out }
    }

    /// The picture.
    pub fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }

    fn write(&mut self, element: std::fmt::Arguments<'_>) {
        (self.out.write_fmt(element)).expect("written to memory");
    }

    fn label(&mut self, at: (f64, f64), size: f64, fill: &str, style: &str, text: &str) {
        let (x, y) = at;
        self.write(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{fill}\"{style}>{}</text>\n",
            escaped(text)
        ));
    }

    /// Text that begins at a point.
    pub fn text(&mut self, x: f64, y: f64, size: f64, fill: &str, text: &str) {
        self.label((x, y), size, fill, "", text);
    }

    /// Text of weight.
    pub fn strong(&mut self, x: f64, y: f64, size: f64, fill: &str, text: &str) {
        self.label((x, y), size, fill, " font-weight=\"600\"", text);
    }

    /// Text around a point.
    pub fn middle(&mut self, x: f64, y: f64, size: f64, fill: &str, text: &str) {
        self.label((x, y), size, fill, " text-anchor=\"middle\"", text);
    }

    /// Text that ends at a point.
    pub fn end(&mut self, x: f64, y: f64, size: f64, fill: &str, text: &str) {
        self.label((x, y), size, fill, " text-anchor=\"end\"", text);
    }

    /// A straight line.
    pub fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, stroke: &str, width: f64) {
        self.write(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
             stroke=\"{stroke}\" stroke-width=\"{width}\"/>\n"
        ));
    }

    /// A dashed horizontal line.
    pub fn dashed(&mut self, x1: f64, x2: f64, y: f64, stroke: &str) {
        self.write(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y:.1}\" x2=\"{x2:.1}\" y2=\"{y:.1}\" \
             stroke=\"{stroke}\" stroke-width=\"1.2\" stroke-dasharray=\"5 4\"/>\n"
        ));
    }

    /// A filled rectangle.
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        self.write(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{fill}\"/>\n"
        ));
    }

    /// A line through points.
    pub fn path(&mut self, points: &[(f64, f64)], stroke: &str, width: f64) {
        let path = joined(points);
        self.write(format_args!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"{width}\" \
             stroke-linejoin=\"round\"/>\n"
        ));
    }

    /// The area between points and a base line.
    pub fn area(&mut self, points: &[(f64, f64)], base: f64, fill: &str) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return;
        };
        let path = joined(points);
        self.write(format_args!(
            "<path d=\"{path} L{:.1} {base:.1} L{:.1} {base:.1} Z\" fill=\"{fill}\"/>\n",
            last.0, first.0
        ));
    }
}

fn joined(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (i, (x, y)) in points.iter().enumerate() {
        let letter = if i == 0 { "M" } else { " L" };
        path.push_str(&format!("{letter}{x:.1} {y:.1}"));
    }
    path
}
