//! Lines and the page they are printed on: columns, wrapping, colour.

use super::StoryOptions;
use crate::engine::Time;
use crate::report::names::Names;

/// One line of the timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Time,
    /// How much it matters: 0 stays, higher ones go first.
    pub rank: u8,
    /// Something broke.
    pub bad: bool,
    /// No time is printed.
    pub timeless: bool,
    /// What happened.
    pub text: String,
    /// What followed from it, in columns to the right.
    pub notes: Vec<String>,
}

impl Line {
    /// A line without notes.
    pub fn new(at: Time, rank: u8, text: String) -> Self {
        Line {
            at,
            rank,
            text,
            ..Line::default()
        }
    }

    /// The same line as one of trouble.
    pub fn bad(mut self) -> Self {
        self.bad = true;
        self
    }

    /// With one more note, unless it is empty.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        let note = note.into();
        if !note.is_empty() {
            self.notes.push(note);
        }
        self
    }
}

/// How something is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Trouble.
    Red,
    /// Well.
    Green,
    /// Of little weight.
    Dim,
}

/// The column at which notes begin when the text leaves room.
const NOTES_AT: usize = 36;

/// Text under construction.
#[derive(Debug)]
pub struct Page {
    width: usize,
    colour: bool,
    out: String,
}

/// Columns of a text; every character that is printed here is one column wide.
pub fn columns(text: &str) -> usize {
    text.chars().count()
}

impl Page {
    /// An empty page.
    pub fn new(options: &StoryOptions) -> Self {
        let width = match options.width {
            0 => usize::MAX,
            narrow => narrow.max(40),
        };
        Page {
            width,
            colour: options.colour,
            out: String::new(),
        }
    }

    /// Columns there are.
    pub fn width(&self) -> usize {
        self.width
    }

    /// What was printed.
    pub fn text(self) -> String {
        self.out
    }

    /// A line as it is: a row of a table.
    pub fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// A line, wrapped with a hanging indent of two.
    pub fn plain(&mut self, text: &str) {
        self.hanging("", text, 2);
    }

    /// A paragraph whose lines all begin at a column.
    pub fn wrapped(&mut self, indent: usize, text: &str) {
        let lead = " ".repeat(indent);
        self.hanging(&lead, text, indent);
    }

    /// `lead` and `text`; further lines begin at column `hang`. The lead may be painted.
    pub fn hanging(&mut self, lead: &str, text: &str, hang: usize) {
        self.out.push_str(lead);
        let mut at = visible(lead);
        let mut first = true;
        for (gap, word) in words(text) {
            let len = visible(word);
            if !first && at + gap + len > self.width {
                self.out.push('\n');
                self.out.push_str(&" ".repeat(hang));
                at = hang;
            } else {
                self.out.push_str(&" ".repeat(gap));
                at += gap;
            }
            self.out.push_str(word);
            at += len;
            first = false;
        }
        self.out.push('\n');
    }

    /// A text in a colour, when colours may be used.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            _ if !self.colour => return text.to_owned(),
            Paint::Red => "1;31",
            Paint::Green => "32",
            Paint::Dim => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Lines with their times.
    pub fn timeline(&mut self, names: &Names<'_>, lines: Vec<Line>) {
        let clocks: Vec<String> = lines.iter().map(|l| names.clock(l.at)).collect();
        let wide = clocks.iter().map(|c| columns(c)).max().unwrap_or(5);
        for (line, clock) in lines.iter().zip(clocks) {
            let clock = if line.timeless { String::new() } else { clock };
            let mark = match (line.timeless, line.bad) {
                (true, _) => "  ".to_owned(),
                (_, true) => self.paint(Paint::Red, "✖ "),
                (_, false) => self.paint(Paint::Dim, "▏"),
            };
            let time = self.paint(Paint::Dim, &format!("{clock:>wide$}"));
            let mut text = line.text.clone();
            if !line.notes.is_empty() {
                let pad = NOTES_AT.saturating_sub(columns(&text) + usize::from(line.bad));
                text.push_str(&" ".repeat(pad.max(3)));
                text.push_str(&line.notes.join("   "));
            }
            self.hanging(&format!("  {time}  {mark}"), &text, wide + 7);
        }
    }
}

/// Columns of a text that may be painted.
fn visible(text: &str) -> usize {
    let mut columns = 0;
    let mut escape = false;
    for c in text.chars() {
        match c {
            '\u{1b}' => escape = true,
            'm' if escape => escape = false,
            _ if escape => {}
            _ => columns += 1,
        }
    }
    columns
}

/// The words of a text, each with the spaces before it.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let trimmed = rest.trim_start_matches(' ');
        if trimmed.is_empty() {
            return None;
        }
        let gap = rest.len() - trimmed.len();
        let end = trimmed.find(' ').unwrap_or(trimmed.len());
        let (word, after) = trimmed.split_at(end);
        rest = after;
        Some((gap, word))
    })
}
