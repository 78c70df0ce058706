//! As much of HTTP/2 without TLS as a gRPC health check needs, on both sides: frames.
//!
//! What is in a block of headers is only ever written, in its plainest form: neither side needs to
//! know what the other's say, so that header compression, the larger part of HTTP/2, is left out.

use std::io;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame of a message.
pub const DATA: u8 = 0;
/// A frame of headers, or of trailers.
pub const HEADERS: u8 = 1;
/// The end of a stream before its time.
pub const RESET: u8 = 3;
/// What a side would like; acknowledged.
pub const SETTINGS: u8 = 4;
/// Answered with itself.
pub const PING: u8 = 6;
/// The end of a connection.
pub const GO_AWAY: u8 = 7;
/// A flag: an answer to settings or a ping.
pub const ACK: u8 = 1;
/// A flag: nothing follows on the stream.
pub const END_STREAM: u8 = 1;
/// A flag: the headers are whole.
pub const END_HEADERS: u8 = 4;
/// A flag: there is padding.
pub const PADDED: u8 = 8;
/// The largest frame that may come: nobody was told that more is welcome.
pub const LARGEST: usize = 1 << 14;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Takes the next frame, if it has come as a whole.
    ///
    /// # Errors
    /// What has come is no HTTP/2.
    pub fn take(incoming: &mut Vec<u8>) -> io::Result<Option<Frame>> {
        let Some((head, rest)) = incoming.split_first_chunk::<9>() else {
            return Ok(None);
        };
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if length > LARGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if rest.len() < length {
            return Ok(None);
        }
        let frame = Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
            payload: rest[..length].to_vec(),
        };
        incoming.drain(..9 + length);
        Ok(Some(frame))
    }

    /// What a frame of data carries, without its padding.
    pub fn data(&self) -> &[u8] {
        match self.payload.split_first() {
            Some((padding, rest)) if self.flags & PADDED != 0 => {
                &rest[..rest.len().saturating_sub(usize::from(*padding))]
            }
            _ => &self.payload,
        }
    }

    /// Answers what is asked of the connection itself.
    pub fn acknowledge(&self, outgoing: &mut Vec<u8>) {
        match self.kind {
            SETTINGS if self.flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[], outgoing),
            PING if self.flags & ACK == 0 => frame(PING, ACK, 0, &self.payload, outgoing),
            _ => {}
        }
    }
}

/// Writes a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], to: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    to.extend(&length.to_be_bytes()[1..]);
    to.extend([kind, flags]);
    to.extend(stream.to_be_bytes());
    to.extend(payload);
}

/// A text of HPACK, not compressed.
pub fn text(value: &str, to: &mut Vec<u8>) {
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
