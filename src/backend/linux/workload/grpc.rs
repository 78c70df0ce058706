//! gRPC as the built-in server speaks it: whatever is asked on a connection that begins as HTTP/2
//! does is taken for a health check (`grpc.health.v1.Health/Check`), which a kubelet's gRPC probe
//! is, and answered for every service name.

use std::io;

use super::http::Request;
use super::http2::{
    DATA, END_HEADERS, END_STREAM, Frame, GO_AWAY, HEADERS, PREFACE, SETTINGS, frame, text,
};

/// `HealthCheckResponse.ServingStatus`.
const SERVING: u8 = 1;
/// See [`SERVING`].
const NOT_SERVING: u8 = 2;

/// A connection on which gRPC is spoken.
#[derive(Debug, Default)]
pub struct Session {
    greeted: bool,
    /// The stream whose request is in work.
    stream: u32,
}

impl Session {
    /// Whether a connection that begins with these bytes is one; none while that is open.
    pub fn begins(incoming: &[u8]) -> Option<bool> {
        match PREFACE.len() <= incoming.len() {
            true => Some(incoming.starts_with(PREFACE)),
            false if PREFACE.starts_with(incoming) => None,
            false => Some(false),
        }
    }

    /// Takes in frames from `incoming`, answers to `outgoing`; a request, once it is whole. Another
    /// one is taken when this one is answered.
    ///
    /// # Errors
    /// What has come is no HTTP/2, or the client is going.
    pub fn read(
        &mut self,
        incoming: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> io::Result<Option<Request>> {
        if !self.greeted {
            self.greeted = true;
            incoming.drain(..PREFACE.len());
            frame(SETTINGS, 0, 0, &[], outgoing);
        }
        while let Some(came) = Frame::take(incoming)? {
            came.acknowledge(outgoing);
            match came.kind {
                GO_AWAY => return Err(io::ErrorKind::ConnectionAborted.into()),
                DATA | HEADERS if came.flags & END_STREAM != 0 => {
                    self.stream = came.stream;
                    return Ok(Some(Request {
                        method: "POST".to_owned(),
                        path: "/grpc.health.v1.Health/Check".to_owned(),
                        keep_alive: true,
                        probe: true,
                        id: None,
                    }));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Answers the request in work as HTTP would with this status.
    pub fn answer(&self, status: u16, outgoing: &mut Vec<u8>) {
        // `:status: 200` by its number in the static table.
        let mut headers = vec![0x88, 0x0f, 31 - 15];
        text("application/grpc", &mut headers);
        frame(HEADERS, END_HEADERS, self.stream, &headers, outgoing);
        let serving = if status == 200 { SERVING } else { NOT_SERVING };
        // Not compressed, two bytes: field 1 is a number.
        let message = [0, 0, 0, 0, 2, 0x08, serving];
        frame(DATA, 0, self.stream, &message, outgoing);
        let mut trailers = vec![0x00];
        text("grpc-status", &mut trailers);
        text("0", &mut trailers);
        let flags = END_HEADERS | END_STREAM;
        frame(HEADERS, flags, self.stream, &trailers, outgoing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::linux::cell::grpc;

    #[test]
    fn a_connection_is_grpc_when_it_begins_as_http_2_does() {
        let table: [(&[u8], Option<bool>); 5] = [
            (b"", None),
            (b"PRI * HT", None),
            (b"GET / HTTP/1.1\r\n", Some(false)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", Some(true)),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Some(false)),
        ];
        for (bytes, expected) in table {
            assert_eq!(Session::begins(bytes), expected);
        }
    }

    #[test]
    fn a_probe_hears_whether_the_server_serves() {
        for (status, serves) in [(200, true), (503, false)] {
            let (mut session, mut out) = (Session::default(), Vec::new());
            let mut asked = grpc::request("10.0.0.1:9", "shop");
            // The last byte is late.
            let last = asked.pop().expect("a byte");
            assert!(
                session
                    .read(&mut asked, &mut out)
                    .expect("frames")
                    .is_none()
            );
            asked.push(last);
            let request = session.read(&mut asked, &mut out).expect("frames");
            assert!(request.expect("a request").probe && asked.is_empty());
            session.answer(status, &mut out);
            let heard = grpc::Answer::default().read(&mut out, &mut Vec::new());
            assert_eq!(heard.expect("frames"), Some(serves), "{status}");
        }
    }
}
