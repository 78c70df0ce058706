//! As much of HTTP/1.1 as the built-in server, its calls and HTTP probes need.

/// The longest head of a message that is read, in bytes.
const LONGEST_HEAD: usize = 16 << 10;

/// The header by which users say which request this is: its identity in hex, a dot, the attempt.
/// With it a request costs as much here as in a simulated run.
pub const REQUEST_ID: &str = "Rehearsal-Request";

/// What is known of a message so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// More bytes are needed.
    Partial,
    /// The head, and how many bytes the whole message takes.
    Done(T, usize),
    /// This is no such message.
    Wrong,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
    /// Whether a kubelet's probe says that it is one.
    pub probe: bool,
    /// Identity and attempt, where the client says them.
    pub id: Option<(u64, u32)>,
}

/// The head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
}

struct Head<'a> {
    first: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    length: usize,
}

fn head(bytes: &[u8]) -> Parsed<Head<'_>> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let Some(end) = end else {
        return match bytes.len() > LONGEST_HEAD {
            true => Parsed::Wrong,
            false => Parsed::Partial,
        };
    };
    let Ok(text) = std::str::from_utf8(&bytes[..end]) else {
        return Parsed::Wrong;
    };
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut headers = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return Parsed::Wrong;
        };
        headers.push((name, value.trim()));
    }
    let length = end + 4;
    Parsed::Done(
        Head {
            first,
            headers,
            length,
        },
        length,
    )
}

impl Head<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter();
        found
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    fn keep_alive(&self, version: &str) -> bool {
        match self.get("connection") {
            Some(value) if value.eq_ignore_ascii_case("close") => false,
            Some(value) if value.eq_ignore_ascii_case("keep-alive") => true,
            _ => version == "HTTP/1.1",
        }
    }

    /// Head and body, if the body has a length that is believed.
    fn whole(&self) -> Option<usize> {
        const LONGEST: usize = 16 << 20;
        if self.get("transfer-encoding").is_some() {
            return None;
        }
        let body = match self.get("content-length") {
            None => 0,
            Some(text) => text.parse().ok().filter(|n| *n <= LONGEST)?,
        };
        Some(self.length + body)
    }
}

/// Reads a request.
pub fn request(bytes: &[u8]) -> Parsed<Request> {
    let head = match head(bytes) {
        Parsed::Partial => return Parsed::Partial,
        Parsed::Wrong => return Parsed::Wrong,
        Parsed::Done(head, _) => head,
    };
    let mut words = head.first.split(' ');
    let (Some(method), Some(path), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Parsed::Wrong;
    };
    if !version.starts_with("HTTP/1.") {
        return Parsed::Wrong;
    }
    let Some(whole) = head.whole() else {
        return Parsed::Wrong;
    };
    if bytes.len() < whole {
        return Parsed::Partial;
    }
    let agent = head.get("user-agent").unwrap_or_default();
    let request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        keep_alive: head.keep_alive(version),
        probe: agent.starts_with("kube-probe/"),
        id: head.get(REQUEST_ID).and_then(identity),
    };
    Parsed::Done(request, whole)
}

/// `1f3a.0`.
fn identity(text: &str) -> Option<(u64, u32)> {
    let (entity, attempt) = text.split_once('.')?;
    Some((u64::from_str_radix(entity, 16).ok()?, attempt.parse().ok()?))
}

/// Reads a response. One whose length is not said ends with the connection: its head is enough, and
/// the connection is not used again.
pub fn response(bytes: &[u8]) -> Parsed<Response> {
    let head = match head(bytes) {
        Parsed::Partial => return Parsed::Partial,
        Parsed::Wrong => return Parsed::Wrong,
        Parsed::Done(head, _) => head,
    };
    let mut words = head.first.splitn(3, ' ');
    let (Some(version), Some(status)) = (words.next(), words.next()) else {
        return Parsed::Wrong;
    };
    let Ok(status) = status.parse::<u16>() else {
        return Parsed::Wrong;
    };
    if !version.starts_with("HTTP/1.") || !(100..=999).contains(&status) {
        return Parsed::Wrong;
    }
    let sized = head.get("content-length").is_some() || status == 204 || status == 304;
    let (whole, keep_alive) = match head.whole() {
        Some(whole) if sized => (whole, head.keep_alive(version)),
        _ => (head.length, false),
    };
    if bytes.len() < whole {
        return Parsed::Partial;
    }
    Parsed::Done(Response { status, keep_alive }, whole)
}

/// A GET request as bytes.
pub fn get(path: &str, host: &str, agent: &str, headers: &[(String, String)]) -> Vec<u8> {
    let path = if path.starts_with('/') { "" } else { "/" }.to_owned() + path;
    let mut text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// A response as bytes; its body is at least so long.
pub fn answer(status: u16, who: &str, keep_alive: bool, least: usize) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Unknown",
    };
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let body = format!("{who}\n");
    let length = body.len().max(least);
    let mut bytes = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: {connection}\r\nX-Rehearsal-Pod: {who}\r\n\r\n{body}"
    )
    .into_bytes();
    bytes.resize(bytes.len() + length - body.len(), b'.');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_when_they_are_whole() {
        let done = |path: &str, keep_alive, probe, n| {
            let (method, path) = ("GET".to_owned(), path.to_owned());
            let request = Request {
                method,
                path,
                keep_alive,
                probe,
                id: None,
            };
            Parsed::Done(request, n)
        };
        let table: &[(&str, Parsed<Request>)] = &[
            ("GET / HT", Parsed::Partial),
            (
                "GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
                done("/a", true, false, 28),
            ),
            ("GET /a HTTP/1.0\r\n\r\n", done("/a", false, false, 19)),
            (
                "GET /a HTTP/1.1\r\nconnection: CLOSE\r\n\r\n",
                done("/a", false, false, 38),
            ),
            (
                "GET / HTTP/1.1\r\nUser-Agent: kube-probe/1.36\r\n\r\nGET /",
                done("/", true, true, 47),
            ),
            (
                "GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab",
                Parsed::Partial,
            ),
            (
                "GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
                done("/", true, false, 40),
            ),
            (
                "GET / HTTP/1.1\r\nContent-Length: -3\r\n\r\n",
                Parsed::Wrong,
            ),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Parsed::Wrong,
            ),
            ("\x16\x03\x01\r\n\r\n", Parsed::Wrong),
            ("GET /a b HTTP/1.1\r\n\r\n", Parsed::Wrong),
        ];
        for (text, expected) in table {
            assert_eq!(request(text.as_bytes()), *expected, "{text:?}");
        }
        assert_eq!(request(&vec![b'a'; LONGEST_HEAD + 1]), Parsed::Wrong);
    }

    #[test]
    fn what_is_written_can_be_read() {
        for (status, keep_alive) in [(200, true), (503, false)] {
            let bytes = answer(status, "default/web-1", keep_alive, 0);
            let expected = Response { status, keep_alive };
            assert_eq!(response(&bytes), Parsed::Done(expected, bytes.len()));
            assert_eq!(response(&bytes[..bytes.len() - 1]), Parsed::Partial);
        }
        let bytes = get("ready", "10.0.0.1:80", "kube-probe/1.36", &[]);
        let Parsed::Done(read, _) = request(&bytes) else {
            panic!("not a request");
        };
        assert_eq!((read.path.as_str(), read.probe), ("/ready", true));
        let closing = Response {
            status: 200,
            keep_alive: false,
        };
        let unsized_body = b"HTTP/1.1 200 OK\r\n\r\nhello";
        assert_eq!(response(unsized_body), Parsed::Done(closing, 19));
        assert_eq!(response(b"SSH-2.0-x\r\n\r\n"), Parsed::Wrong);
    }
}
