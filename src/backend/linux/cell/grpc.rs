//! A gRPC health check (`grpc.health.v1.Health/Check`), as the kubelet asks it
//! (`pkg/probe/grpc/grpc.go`): one HTTP/2 stream without TLS.
//!
//! No headers of the answer are read: a message that says SERVING is a success, its absence is not.
//! So header compression, the larger part of HTTP/2, is only written, in its plainest form.

use std::io;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
/// Flags of frames.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// The largest frame that may come: nobody was told that more is welcome.
const LARGEST: usize = 1 << 14;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], to: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    to.extend(&length.to_be_bytes()[1..]);
    to.extend([kind, flags]);
    to.extend(stream.to_be_bytes());
    to.extend(payload);
}

/// A text of HPACK, not compressed.
fn text(value: &str, to: &mut Vec<u8>) {
    let length = value.len();
    match u8::try_from(length) {
        Ok(short) if short < 127 => to.push(short),
        _ => {
            to.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                to.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            to.push(rest as u8);
        }
    }
    to.extend(value.as_bytes());
}

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
        while let Some((head, rest)) = incoming.split_first_chunk::<9>() {
            let length =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            if length > LARGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if rest.len() < length {
                return Ok(None);
            }
            let (kind, flags) = (head[3], head[4]);
            let payload = rest[..length].to_vec();
            incoming.drain(..9 + length);
            match kind {
                SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[], outgoing),
                PING if flags & ACK == 0 => frame(PING, ACK, 0, &payload, outgoing),
                DATA => self.body.extend(unpadded(&payload, flags)),
                RESET | GO_AWAY => return Ok(Some(false)),
                _ => {}
            }
            if let Some(serves) = self.serves() {
                return Ok(Some(serves));
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
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

fn unpadded(payload: &[u8], flags: u8) -> &[u8] {
    match payload.split_first() {
        Some((padding, rest)) if flags & PADDED != 0 => {
            &rest[..rest.len().saturating_sub(usize::from(*padding))]
        }
        _ => payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
