//! A gRPC health check (`grpc.health.v1.Health/Check`), as the kubelet asks it
//! (`pkg/probe/grpc/grpc.go`): one HTTP/2 stream without TLS.
//!
//! No headers of the answer are read: a message that says SERVING is a success, its absence is not.

use std::io;

use crate::backend::linux::workload::http2::{
    DATA, END_HEADERS, END_STREAM, Frame, GO_AWAY, HEADERS, PREFACE, RESET, SETTINGS, frame, text,
};

/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u8 = 1;

/// All that is asked, for the service of this name (empty is the server as a whole).
pub fn request(authority: &str, service: &str) -> Vec<u8> {
    let mut all = PREFACE.to_vec();
    frame(SETTINGS, 0, 0, &[], &mut all);
    // `:method: POST` and `:scheme: http` by their numbers in the static table; others by the number
    // of their name, not to be remembered.
    let mut headers = vec![0x83, 0x86, 0x04];
    text("/grpc.health.v1.Health/Check", &mut headers);
    headers.push(0x01);
    text(authority, &mut headers);
    headers.extend([0x0f, 31 - 15]);
    text("application/grpc", &mut headers);
    headers.extend([0x0f, 58 - 15]);
    text("kube-probe/1.36", &mut headers);
    headers.push(0x00);
    text("te", &mut headers);
    text("trailers", &mut headers);
    frame(HEADERS, END_HEADERS, 1, &headers, &mut all);
    // Field 1 of the message is the service; without a name the message is empty.
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        text(service, &mut message);
    }
    let mut body = vec![0];
    body.extend(
        u32::try_from(message.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes(),
    );
    body.extend(message);
    frame(DATA, END_STREAM, 1, &body, &mut all);
    all
}

/// What has come of an answer.
#[derive(Debug, Default)]
pub struct Answer {
    body: Vec<u8>,
}

impl Answer {
    /// Takes in frames from `incoming`, answers to `outgoing`; whether the service serves, once
    /// that is known.
    ///
    /// # Errors
    /// What has come is no HTTP/2.
    pub fn read(
        &mut self,
        incoming: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> io::Result<Option<bool>> {
        while let Some(frame) = Frame::take(incoming)? {
            frame.acknowledge(outgoing);
            match frame.kind {
                DATA => self.body.extend(frame.data()),
                RESET | GO_AWAY => return Ok(Some(false)),
                _ => {}
            }
            if let Some(serves) = self.serves() {
                return Ok(Some(serves));
            }
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
                return Ok(Some(false));
            }
        }
        Ok(None)
    }

    /// What the message says, once it is whole.
    fn serves(&self) -> Option<bool> {
        let (head, rest) = self.body.split_first_chunk::<5>()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let message = rest.get(..length)?;
        // A compressed message was not asked for. Status is field 1, a number; 0 is left out.
        Some(head[0] == 0 && message.starts_with(&[0x08, SERVING]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::linux::workload::http2::PADDED;

    fn frames(list: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut all = Vec::new();
        for (kind, flags, payload) in list {
            frame(*kind, *flags, u32::from(*kind < 2), payload, &mut all);
        }
        all
    }

    #[test]
    fn the_request_is_a_stream_of_four_parts() {
        let asked = request("10.0.0.1:9", "shop");
        let rest = asked.strip_prefix(PREFACE).expect("the preface");
        assert_eq!(rest[..9], [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
        let body = [0, 0, 0, 0, 6, 0x0a, 4, b's', b'h', b'o', b'p'];
        let data = frames(&[(DATA, END_STREAM, &body)]);
        assert!(asked.ends_with(&data));
        assert!(request("x", "").ends_with(&frames(&[(DATA, END_STREAM, &[0; 5])])));
    }

    #[test]
    fn an_answer_serves_when_its_message_says_so() {
        let serving: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
        let not: &[u8] = &[0, 0, 0, 0, 2, 8, 2];
        let unknown: &[u8] = &[0, 0, 0, 0, 0];
        let padded: &[u8] = &[2, 0, 0, 0, 0, 2, 8, 1, 0, 0];
        let start = (SETTINGS, 0, &[][..]);
        let head = (HEADERS, END_HEADERS, &[0x88][..]);
        let table: [(&str, Vec<u8>, Option<bool>); 9] = [
            ("nothing", Vec::new(), None),
            (
                "serving",
                frames(&[start, head, (DATA, 0, serving)]),
                Some(true),
            ),
            (
                "not serving",
                frames(&[start, head, (DATA, 0, not)]),
                Some(false),
            ),
            (
                "unknown",
                frames(&[start, head, (DATA, 0, unknown)]),
                Some(false),
            ),
            (
                "padded",
                frames(&[head, (DATA, PADDED, padded)]),
                Some(true),
            ),
            (
                "in pieces",
                frames(&[head, (DATA, 0, &serving[..3]), (DATA, 0, &serving[3..])]),
                Some(true),
            ),
            // Trailers alone: no such service.
            (
                "refused",
                frames(&[(HEADERS, END_HEADERS | END_STREAM, &[0x88])]),
                Some(false),
            ),
            ("reset", frames(&[(RESET, 0, &[0; 4])]), Some(false)),
            (
                "half a message",
                frames(&[head, (DATA, 0, &serving[..6])]),
                None,
            ),
        ];
        for (name, bytes, expected) in table {
            // At once, and byte by byte.
            let (mut at_once, mut out) = (bytes.clone(), Vec::new());
            let found = Answer::default().read(&mut at_once, &mut out).expect(name);
            assert_eq!(found, expected, "{name}");
            // Settings are acknowledged.
            let settings = usize::from(bytes.starts_with(&[0, 0, 0, SETTINGS]));
            assert_eq!(out.len() / 9, settings, "{name}");
            let (mut answer, mut piece, mut found) = (Answer::default(), Vec::new(), None);
            for byte in bytes {
                piece.push(byte);
                found = found.or(answer.read(&mut piece, &mut out).expect(name));
            }
            assert_eq!(found, expected, "{name} in bytes");
        }
        let wrong = Answer::default().read(&mut b"HTTP/1.1 400 Bad".to_vec(), &mut Vec::new());
        assert!(wrong.is_err(), "another protocol");
    }
}
