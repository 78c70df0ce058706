//! Printing: data on stdout. A closed pipe (`… | head`) is no failure of anything.

use std::io::Write;

/// Prints to stdout; whether anybody still reads is not our concern.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("error: cannot write the output: {error}");
    }
}

/// As [`print()`], with a line end.
pub fn line(text: impl std::fmt::Display) {
    print(&format!("{text}\n"));
}
