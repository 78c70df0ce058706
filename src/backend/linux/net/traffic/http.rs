//! As much of HTTP/1.1 as a client needs that asks for one thing and counts the answer.

use crate::backend::linux::workload::http::REQUEST_ID;

/// How far an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More is to come.
    More,
    /// It is complete: its status, and whether the connection can be used again.
    Done(u16, bool),
    /// It is no answer.
    Wrong,
}

/// A request for the root path; `id` says which request it is, so that it can be found in logs and
/// costs the built-in server what it costs in a simulated run.
pub fn request(host: &str, keep_alive: bool, id: &str) -> Vec<u8> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let text = format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rehearsal\r\nAccept: */*\r\n\
         {REQUEST_ID}: {id}\r\nConnection: {connection}\r\n\r\n"
    );
    text.into_bytes()
}

/// An answer that is being read. Its body is counted, not kept.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    head: Vec<u8>,
    status: u16,
    reusable: bool,
    /// Bytes of the body that are still to come; none while the head is not complete.
    left: Option<Left>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Bytes(u64),
    /// Until the connection ends.
    All,
    /// In chunks: bytes of the current one, or the start of a size.
    Chunks,
}

/// The longest head that is read.
const LONGEST: usize = 16 << 10;

impl Answer {
    /// Whether nothing has been read yet.
    pub fn is_untouched(&self) -> bool {
        self.head.is_empty() && self.left.is_none()
    }

    /// Reads on.
    pub fn take(&mut self, mut bytes: &[u8]) -> Progress {
        if self.left.is_none() {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let from = before.saturating_sub(3);
            let found = self.head[from..].windows(4).position(|w| w == b"\r\n\r\n");
            let Some(end) = found.map(|at| from + at + 4) else {
                return match self.head.len() > LONGEST {
                    true => Progress::Wrong,
                    false => Progress::More,
                };
            };
            bytes = &bytes[end - before..];
            let Some(left) = self.read_head(end) else {
                return Progress::Wrong;
            };
            if left == Left::Bytes(0) && (100..200).contains(&self.status) {
                *self = Answer::default();
                return self.take(bytes);
            }
            self.left = Some(left);
            self.head.clear();
        }
        match &mut self.left {
            Some(Left::Bytes(left)) => {
                *left = left.saturating_sub(bytes.len() as u64);
                match *left {
                    0 => Progress::Done(self.status, self.reusable),
                    _ => Progress::More,
                }
            }
            Some(Left::Chunks) => {
                // Only the end matters: the last chunk is empty, and nothing follows it.
                self.head.extend_from_slice(bytes);
                let keep = self.head.len().saturating_sub(7);
                self.head.drain(..keep);
                match self.head.ends_with(b"\r\n0\r\n\r\n") || self.head == b"0\r\n\r\n" {
                    true => Progress::Done(self.status, self.reusable),
                    false => Progress::More,
                }
            }
            _ => Progress::More,
        }
    }

    /// The connection has ended.
    pub fn end(&self) -> Progress {
        match self.left {
            Some(Left::All) => Progress::Done(self.status, false),
            _ => Progress::Wrong,
        }
    }

    fn read_head(&mut self, end: usize) -> Option<Left> {
        let text = std::str::from_utf8(&self.head[..end]).ok()?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.splitn(3, ' ');
        let version = words.next()?;
        self.status = words.next()?.parse().ok()?;
        self.reusable = version == "HTTP/1.1";
        let bodiless = matches!(self.status, 100..200 | 204 | 304);
        let mut left = if bodiless { Left::Bytes(0) } else { Left::All };
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                left = Left::Bytes(value.parse().ok()?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                left = Left::Chunks;
            } else if name.eq_ignore_ascii_case("connection") {
                self.reusable = value.eq_ignore_ascii_case("keep-alive");
            }
        }
        if left == Left::All {
            self.reusable = false;
        }
        version.starts_with("HTTP/1.").then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_their_end_however_they_arrive() {
        let table: [(&str, Progress); 7] = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                Progress::Done(200, true),
            ),
            (
                "HTTP/1.1 503 Busy\r\ncontent-length:0\r\n\r\n",
                Progress::Done(503, true),
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
                Progress::Done(200, false),
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
                Progress::Done(200, false),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
                Progress::Done(200, true),
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
                Progress::Done(204, true),
            ),
            ("SMTP ready\r\n\r\n", Progress::Wrong),
        ];
        for (text, expected) in table {
            for step in [1, 7, 1_000] {
                let mut answer = Answer::default();
                let mut last = Progress::More;
                for part in text.as_bytes().chunks(step) {
                    assert_eq!(last, Progress::More, "{text}");
                    last = answer.take(part);
                }
                assert_eq!(last, expected, "{text} in steps of {step}");
            }
        }
    }

    #[test]
    fn an_answer_without_a_length_ends_with_its_connection() {
        let mut answer = Answer::default();
        assert!(answer.is_untouched());
        assert_eq!(answer.end(), Progress::Wrong, "nothing was said");
        assert_eq!(answer.take(b"HTTP/1.1 200 OK\r\n\r\nabc"), Progress::More);
        assert_eq!(answer.end(), Progress::Done(200, false));
        let mut cut = Answer::default();
        let _ = cut.take(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        assert_eq!(cut.end(), Progress::Wrong);
    }
}
