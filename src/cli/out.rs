//! Printing: data on stdout. A closed pipe (`… | head`) is no failure of anything.

use std::io::Write;
use std::path::PathBuf;

use super::exit;

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

/// Writes each text to the file that was named for it; returns an exit code where one cannot be
/// written.
pub fn files<const N: usize>(texts: [(&Option<PathBuf>, String); N]) -> Option<u8> {
    let mut code = None;
    for (path, text) in texts {
        if let Some(path) = path
            && let Err(error) = std::fs::write(path, text)
        {
            eprintln!("error: cannot write {}: {error}", path.display());
            code = Some(exit::INPUT);
        }
    }
    code
}
