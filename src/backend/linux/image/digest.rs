//! Digests: the names of blobs, and readers that compute them.

use std::io::{self, BufRead, BufReader, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// Reads `sha256:…`.
    ///
    /// # Errors
    /// Another algorithm, or no digest.
    pub fn parse(text: &str) -> Result<Digest, String> {
        let (algorithm, hex) = text
            .split_once(':')
            .ok_or_else(|| format!("{text:?} is no digest"))?;
        if algorithm != "sha256" {
            return Err(format!("digest {text:?}: sha256 alone is supported"));
        }
        Digest::from_hex(hex).ok_or_else(|| format!("{text:?} is no digest"))
    }

    /// From 64 hexadecimal digits in lower case.
    pub fn from_hex(hex: &str) -> Option<Digest> {
        let digits = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        (hex.len() == 64 && hex.bytes().all(digits)).then(|| Digest(hex.to_owned()))
    }

    /// Of bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(hex(&Sha256::digest(bytes)))
    }

    /// The digits.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A reader that computes the digest of what it reads, and refuses to read more than a limit.
pub struct Hashed<R> {
    inner: R,
    state: Sha256,
    read: u64,
    limit: u64,
}

impl<R: Read> Hashed<R> {
    /// Reads at most `limit` bytes.
    pub fn new(inner: R, limit: u64) -> Self {
        Hashed {
            inner,
            state: Sha256::new(),
            read: 0,
            limit,
        }
    }

    /// Reads what is left; the digest and the number of all bytes.
    ///
    /// # Errors
    /// The reader's.
    pub fn finish(mut self) -> io::Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((Digest(hex(&self.state.finalize())), self.read))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        if self.read > self.limit {
            let text = format!("more than {} bytes", self.limit);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        self.state.update(&buffer[..count]);
        Ok(count)
    }
}

/// Decompresses what is gzip or zstd, by its first bytes; everything else is as it is.
///
/// # Errors
/// The reader's.
pub fn decompressed<'r>(inner: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut inner = inner;
    let mut head = [0u8; 4];
    let mut filled = 0;
    while filled < head.len() {
        match inner.read(&mut head[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    let start = io::Cursor::new(head[..filled].to_vec());
    let whole = BufReader::with_capacity(1 << 16, start.chain(inner));
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(Frames::new(whole)),
        [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Box::new(Frames::new(whole)),
        _ => Box::new(whole),
    })
}

/// The frames of a zstd stream, one after the other: builders write several, and some to skip.
struct Frames<R> {
    inner: R,
    decoder: FrameDecoder,
    inside: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(inner: R) -> Self {
        Frames {
            inner,
            decoder: FrameDecoder::new(),
            inside: false,
        }
    }

    /// Begins the next frame; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        while !self.inner.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.inner) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let mut frame = (&mut self.inner).take(length);
                    if io::copy(&mut frame, &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.inside && !self.advance()? {
                return Ok(0);
            }
            self.inside = true;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.inner, one);
                decoded.map_err(io::Error::other)?;
            }
            match self.decoder.read(buffer)? {
                0 if buffer.is_empty() => return Ok(0),
                0 => self.inside = false,
                count => return Ok(count),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn digests_are_sha256_and_nothing_else() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").hex(), empty);
        assert_eq!(
            Digest::parse(&format!("sha256:{empty}")),
            Ok(Digest::of(b""))
        );
        let upper = format!("sha256:{}", empty.to_uppercase());
        for wrong in [
            "",
            "sha256:",
            "sha512:00",
            "sha256:../../etc/passwd",
            &upper,
        ] {
            assert!(Digest::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_read_is_counted_digested_and_limited() {
        let read = |limit| {
            let mut reader = Hashed::new(&b"four"[..], limit);
            let mut first = [0u8; 1];
            reader.read_exact(&mut first)?;
            reader.finish()
        };
        assert_eq!(read(4).expect("four bytes"), (Digest::of(b"four"), 4));
        let error = read(3).expect_err("one too many");
        assert_eq!(error.to_string(), "more than 3 bytes");
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("written");
        encoder.finish().expect("gzip")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        ruzstd::encoding::compress_to_vec(bytes, level)
    }

    #[test]
    fn compression_is_known_by_its_first_bytes_and_pieces_are_joined() {
        let long = vec![b'x'; 300_000];
        // A frame to skip: its magic number, its length in little-endian order, its content.
        let skip = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let table: [(&str, Vec<u8>, Vec<u8>); 6] = [
            ("empty", Vec::new(), Vec::new()),
            ("short", b"ab".to_vec(), b"ab".to_vec()),
            ("gzip", gzip(&long), long.clone()),
            (
                "gzip of two",
                [gzip(b"a"), gzip(b"b")].concat(),
                b"ab".to_vec(),
            ),
            ("zstd", zstd(&long), long.clone()),
            (
                "zstd of two, with frames to skip",
                [&skip[..], &zstd(b"a"), &skip, &zstd(b"b"), &skip].concat(),
                b"ab".to_vec(),
            ),
        ];
        for (name, input, expected) in table {
            let mut output = Vec::new();
            let mut reader = decompressed(input.as_slice()).expect(name);
            reader.read_to_end(&mut output).expect(name);
            assert!(output == expected, "{name}");
        }
        for input in [&gzip(&long)[..500], &zstd(&long)[..12], &skip[..9]] {
            let read = decompressed(input).and_then(|mut r| io::copy(&mut r, &mut io::sink()));
            assert!(read.is_err(), "it was cut: {read:?}");
        }
    }
}
