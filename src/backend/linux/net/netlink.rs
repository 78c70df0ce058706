//! Netlink: messages, attributes, acknowledgements.
//!
//! A [`Messages`] is a buffer of requests, laid out as the kernel reads them; a [`Socket`] sends
//! the whole buffer with one system call and collects what the kernel says about each. The kernel
//! works on a request while it is being sent, so that its answers are there when the send is over:
//! nothing here ever waits for an answer.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;

use super::sys;

/// Flags of a request that makes something: acknowledged, and new.
pub const CREATE: u16 = REQUEST | (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
/// Flags of a request that makes something or changes what is there.
pub const REPLACE: u16 = REQUEST | (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
/// Flags of any request whose outcome is wanted.
pub const REQUEST: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
/// Flags of a request for everything of a kind.
pub const DUMP: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;

const HEADER: usize = 16;
const NESTED: u16 = 1 << 15;

/// Requests in the order of sending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    bytes: Vec<u8>,
    count: u32,
}

impl Messages {
    /// Adds a request: its type, its flags, the fixed header of its family and its attributes.
    /// Requests are numbered from 1.
    pub fn push(&mut self, kind: u16, flags: u16, family: &[u8], fill: impl FnOnce(&mut Attrs)) {
        let start = self.bytes.len();
        self.count += 1;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.count.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(family);
        fill(&mut Attrs {
            bytes: &mut self.bytes,
        });
        let length = u32::try_from(self.bytes.len() - start).expect("requests are short");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Asks for no acknowledgements: the kernel tells of errors all the same, and each answer that
    /// nobody needs costs a receive.
    pub fn quiet(&mut self) -> &Messages {
        let mut at = 0;
        while let Some(length) = self.bytes.get(at..at + 4) {
            let length = u32::from_ne_bytes([length[0], length[1], length[2], length[3]]);
            let flags = u16::from_ne_bytes([self.bytes[at + 6], self.bytes[at + 7]]);
            let flags = flags & !(libc::NLM_F_ACK as u16);
            self.bytes[at + 6..at + 8].copy_from_slice(&flags.to_ne_bytes());
            at += (length as usize).next_multiple_of(4);
        }
        self
    }

    /// The buffer as it is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many requests it holds.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Attributes of a request that is being made.
#[derive(Debug)]
pub struct Attrs<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attrs<'_> {
    /// An attribute of these bytes.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("attributes are short");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// A number in the machine's order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// A number in network order.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A text with its NUL.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    /// An attribute that holds others.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attrs)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(&mut Attrs { bytes: self.bytes });
        let length = u16::try_from(self.bytes.len() - start).expect("attributes are short");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// A fixed header inside an attribute, before the attributes that it holds.
    pub fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

/// Attributes of an answer.
pub fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The value of one attribute.
pub fn attr(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attrs(bytes).find(|(k, _)| *k == kind).map(|(_, v)| v)
}

/// One answer of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its type.
    pub kind: u16,
    /// The number of the request.
    pub request: u32,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl Answer {
    /// The error that it reports: 0 for an acknowledgement, none when it is something else.
    fn error(&self) -> Option<i32> {
        let code = self.body.get(..4)?.try_into().ok().map(i32::from_ne_bytes);
        (i32::from(self.kind) == libc::NLMSG_ERROR).then_some(code?)
    }
}

/// Splits what one receive returned.
pub fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut found = Vec::new();
    while let Some(header) = bytes.get(..HEADER) {
        let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| header[at + i]));
        let length = word(0) as usize;
        let Some(body) = bytes.get(HEADER..length) else {
            break;
        };
        found.push(Answer {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            request: word(8),
            body: body.to_vec(),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    found
}

/// A netlink socket; it belongs to the network namespace that it was made in.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// A socket of the calling thread's network namespace.
    pub fn new(protocol: i32) -> io::Result<Socket> {
        let fd = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
        // Acknowledgements need not repeat the request.
        sys::set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
        Ok(Socket(fd))
    }

    /// A socket for links, addresses and routes.
    pub fn route() -> io::Result<Socket> {
        Socket::new(libc::NETLINK_ROUTE)
    }

    /// A socket for packet filters and connection tracking. One batch may be large.
    pub fn netfilter() -> io::Result<Socket> {
        const ROOM: i32 = 64 << 20;
        let socket = Socket::new(libc::NETLINK_NETFILTER)?;
        // Without the privilege the default of 208 KiB stays: about 100 Services in one batch.
        let forced = sys::set_option(&socket.0, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, ROOM);
        if forced.is_err() {
            sys::set_option(&socket.0, libc::SOL_SOCKET, libc::SO_SNDBUF, ROOM)?;
        }
        Ok(socket)
    }

    /// The descriptor, to be handed to another process.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Takes over a socket that another process made.
    pub fn from_fd(fd: OwnedFd) -> Socket {
        Socket(fd)
    }

    /// Sends requests and returns the first error among the kernel's answers, with the number of
    /// the request.
    pub fn request(&self, messages: &Messages) -> Result<(), (u32, io::Error)> {
        self.request_bytes(messages.bytes())
    }

    /// As [`Socket::request`], for a buffer that another process has made.
    pub fn request_bytes(&self, bytes: &[u8]) -> Result<(), (u32, io::Error)> {
        self.send(bytes).map_err(|error| (0, error))?;
        let mut failed = None;
        loop {
            let got = self.receive().map_err(|error| (0, error))?;
            let Some(got) = got else { break };
            for answer in got {
                match answer.error() {
                    None | Some(0) => {}
                    Some(code) => {
                        let error = io::Error::from_raw_os_error(-code);
                        failed.get_or_insert((answer.request, error));
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Sends requests and returns everything that the kernel answered.
    pub fn ask(&self, messages: &Messages) -> io::Result<Vec<Answer>> {
        self.send(messages.bytes())?;
        let mut all = Vec::new();
        while let Some(got) = self.receive()? {
            for answer in got {
                match answer.error() {
                    Some(code) if code != 0 => return Err(io::Error::from_raw_os_error(-code)),
                    Some(_) => {}
                    None => all.push(answer),
                }
            }
        }
        Ok(all)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match sys::send(&self.0, bytes)? {
            Some(sent) if sent == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn receive(&self) -> io::Result<Option<Vec<Answer>>> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 << 10]);
        }
        BUFFER.with_borrow_mut(|buffer| {
            let got = sys::read(&self.0, buffer)?;
            Ok(got.map(|got| answers(&buffer[..got])))
        })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Bytes as a test writes them.
#[cfg(test)]
pub fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes
        .chunks(4)
        .map(|word| word.iter().map(|b| format!("{b:02x}")).collect())
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_numbered_padded_and_know_their_length() {
        let mut messages = Messages::default();
        messages.push(0x0a, 0x0605, &[2, 0, 0, 0], |attrs| {
            attrs.text(1, "ab");
            attrs.nest(2, |inner| inner.be32(3, 258));
        });
        messages.push(0x0b, 0x0001, &[2, 0, 0, 0], |_| {});
        // 16 header + 4 family + (4 + 3 text + 1 pad) + (4 + 4 + 4) = 40 = 0x28; then 20 = 0x14.
        let expected = "28000000 0a000506 01000000 00000000 02000000 \
                        07000100 61620000 0c000280 08000300 00000102 \
                        14000000 0b000100 02000000 00000000 02000000";
        assert_eq!(hex(messages.bytes()), expected);
        assert_eq!(messages.len(), 2);
        let read = answers(messages.bytes());
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].request), (0x0a, 1));
        let body = &read[0].body[4..];
        assert_eq!(attr(body, 1), Some(&b"ab\0"[..]));
        assert_eq!(attr(attr(body, 2).unwrap(), 3), Some(&[0, 0, 1, 2][..]));
        assert_eq!(attr(body, 9), None);
    }

    #[test]
    fn quiet_requests_keep_all_flags_but_that_of_acknowledgement() {
        let mut messages = Messages::default();
        messages.push(0x0a, CREATE, &[2, 0, 0, 0], |attrs| attrs.text(1, "a"));
        messages.push(0x0b, REPLACE, &[2, 0, 0, 0], |_| {});
        let flags = |messages: &Messages| -> Vec<u16> {
            let bytes = messages.bytes();
            // The first is 16 header + 4 family + 4 + 2 text + 2 pad = 28 bytes long.
            [6, 28 + 6]
                .map(|at| u16::from_ne_bytes([bytes[at], bytes[at + 1]]))
                .to_vec()
        };
        assert_eq!(flags(&messages), [CREATE, REPLACE]);
        let without = |flags: u16| flags & !(libc::NLM_F_ACK as u16);
        assert_eq!(flags(messages.quiet()), [without(CREATE), without(REPLACE)]);
    }

    #[test]
    fn answers_that_are_cut_short_are_not_read_past_their_end() {
        let mut messages = Messages::default();
        messages.push(1, 1, &[], |attrs| attrs.u32(1, 7));
        for end in 0..messages.bytes().len() {
            assert!(answers(&messages.bytes()[..end]).is_empty());
        }
        assert_eq!(attrs(&[3, 0, 1, 0]).count(), 0, "a length below the header");
        assert_eq!(
            attrs(&[8, 0, 1, 0, 1]).count(),
            0,
            "a value that is not there"
        );
    }
}
