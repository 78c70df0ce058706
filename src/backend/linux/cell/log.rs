//! Logs of containers, in the format of container runtimes.
//!
//! `2026-01-02T03:04:05.000000006Z stdout F line`: time, stream, whether the line is whole, the
//! line (`pkg/kubelet/kuberuntime/logs`). A container that floods its log loses lines, which are
//! counted, not the host its disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The longest piece of a line that is written at once, in bytes.
const LONGEST: usize = 16 << 10;
/// The largest log of one stream, in bytes.
const LARGEST: u64 = 10 << 20;

/// One stream of a container on its way to the log.
#[derive(Debug)]
pub struct Stream {
    pipe: File,
    log: File,
    name: &'static str,
    line: Vec<u8>,
    written: u64,
    dropped: u64,
}

impl Stream {
    /// From a pipe (non-blocking) to a log.
    pub fn new(pipe: OwnedFd, log: File, name: &'static str) -> Stream {
        Stream {
            pipe: pipe.into(),
            log,
            name,
            line: Vec::new(),
            written: 0,
            dropped: 0,
        }
    }

    /// Takes in what has come; false when nothing will come any more.
    pub fn copy(&mut self) -> bool {
        let mut buffer = [0u8; 16384];
        loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.end();
                    return false;
                }
                Ok(count) => self.take(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.write('F');
            } else {
                self.line.push(*byte);
                if self.line.len() == LONGEST {
                    self.write('P');
                }
            }
        }
    }

    fn write(&mut self, whole: char) {
        let line = std::mem::take(&mut self.line);
        if self.written > LARGEST {
            self.dropped += 1;
            return;
        }
        let mut text = format!("{} {} {whole} ", now(), self.name).into_bytes();
        text.extend(line);
        text.push(b'\n');
        self.written += text.len() as u64;
        // A full disk loses lines of a log, as on a node.
        if self.log.write_all(&text).is_err() {
            self.dropped += 1;
        }
    }

    fn end(&mut self) {
        if !self.line.is_empty() {
            self.write('P');
        }
        if self.dropped > 0 {
            self.written = 0;
            self.line = format!("{} lines were dropped", self.dropped).into_bytes();
            self.write('F');
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// The time of day as logs have it.
fn now() -> String {
    let now = jiff::Timestamp::now();
    format!("{now:.9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_or_partial() {
        let (reader, writer) = super::super::super::sys::pipe().expect("a pipe");
        let folder = std::env::temp_dir();
        let path = folder.join(format!("rehearsal-log-{}", std::process::id()));
        let log = File::create(&path).expect("a file");
        let mut stream = Stream::new(reader, log, "stdout");
        let mut text = b"one\ntwo".to_vec();
        text.extend(vec![b'x'; LONGEST]);
        text.extend(b"\nend");
        let mut writer = File::from(writer);
        writer.write_all(&text).expect("written");
        drop(writer);
        assert!(!stream.copy());
        let log = std::fs::read_to_string(&path).expect("a log");
        std::fs::remove_file(&path).expect("removed");
        let lines: Vec<(&str, usize)> = log
            .lines()
            .map(|line| {
                let (time, rest) = line.split_once(' ').expect("a time");
                assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
                (&rest[..8], rest.len() - 9)
            })
            .collect();
        // "two" and the x's are cut after 16 KiB
        let expected = [
            ("stdout F", 3),
            ("stdout P", LONGEST),
            ("stdout F", 3),
            ("stdout P", 3),
        ];
        assert_eq!(lines, expected);
    }
}
