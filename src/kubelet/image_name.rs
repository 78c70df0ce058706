//! Names of images: which are none, and the tag that is meant where none is written.
//!
//! `pkg/util/parsers/parsers.go :: ParseImageName` with the grammar of image references behind it
//! (the OCI distribution project's `reference`): a name is a host, perhaps with a port, a path of
//! lower-case components, and a tag, a digest or both.

use std::borrow::Cow;

use crate::api::Text;

/// `applyDefaultImageTag`: an image without tag or digest is the latest.
pub(super) fn with_tag(image: &Text) -> Text {
    match tagged(image) {
        Cow::Borrowed(_) => image.clone(),
        Cow::Owned(full) => full.into(),
    }
}

/// The same, of a name that is only looked up.
pub(super) fn tagged(image: &str) -> Cow<'_, str> {
    let last = image.rsplit('/').next().unwrap_or(image);
    if image.contains('@') || last.contains(':') {
        Cow::Borrowed(image)
    } else {
        Cow::Owned(format!("{image}:latest"))
    }
}

const BAD_FORMAT: &str = "invalid reference format";

/// Why this is no name of an image (`ParseNormalizedNamed`); `None` for one that is.
pub(super) fn problem(image: &str) -> Option<String> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if image.len() == 64 && image.bytes().all(hex) {
        return Some(format!(
            "invalid repository name ({image}), cannot specify 64-byte hexadecimal strings"
        ));
    }
    let (domain, rest) = split_domain(image);
    let official = domain.is_none() && !rest.contains('/');
    let remote = rest.split(':').next().unwrap_or(rest);
    if remote.bytes().any(|byte| byte.is_ascii_uppercase()) {
        let library = if official { "library/" } else { "" };
        return Some(format!(
            "{BAD_FORMAT}: repository name ({library}{remote}) must be lowercase"
        ));
    }
    let (name, digest) = match rest.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (rest, None),
    };
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (name, None),
    };
    let good = domain.is_none_or(is_domain)
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    (!good).then(|| BAD_FORMAT.to_owned())
}

/// The host of a name, if its first part is one (`splitDockerDomain`).
fn split_domain(image: &str) -> (Option<&str>, &str) {
    match image.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, image),
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !domain.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let label = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !text.is_empty()
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    let six = |text: &str| {
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        inner
            .is_some_and(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'))
    };
    port.is_none_or(digits) && (six(host) || host.split('.').all(label))
}

/// Lower-case letters and digits, with one `.`, one or two `_`, or dashes between them.
fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separates = |between: &str| {
        matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
    };
    let mut from = 0;
    let bytes = text.as_bytes();
    if !bytes.first().copied().is_some_and(plain) || !bytes.last().copied().is_some_and(plain) {
        return false;
    }
    while from < bytes.len() {
        let same = |byte: &u8| plain(*byte) == plain(bytes[from]);
        let length = bytes[from..].iter().take_while(|byte| same(byte)).count();
        let Some(part) = text.get(from..from + length) else {
            return false;
        };
        if !plain(bytes[from]) && !separates(part) {
            return false;
        }
        from += length;
    }
    true
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = text.bytes();
    (1..=128).contains(&text.len())
        && bytes.next().is_some_and(word)
        && bytes.all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

/// An algorithm and at least 32 hexadecimal digits.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, digits)) = text.split_once(':') else {
        return false;
    };
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(part)
        && digits.len() >= 32
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_without_tag_or_digest_are_the_latest() {
        let table = [
            ("nginx", "nginx:latest"),
            ("nginx:1", "nginx:1"),
            ("registry:5000/nginx", "registry:5000/nginx:latest"),
            ("a/b@sha256:12", "a/b@sha256:12"),
        ];
        for (image, full) in table {
            assert_eq!(with_tag(&image.into()), full);
        }
    }

    /// After `parsers_test.go :: TestParseImageName` and the reference project's
    /// `normalize_test.go :: TestValidateReferenceName`.
    #[test]
    fn some_texts_are_no_names_of_images() {
        let hex = "0123456789abcdef".repeat(4);
        let digest = format!("nginx@sha256:{hex}");
        let good = [
            "nginx",
            "nginx:1.27-alpine_2",
            "docker/docker",
            "localhost/lower",
            "127.0.0.1:5000/docker/docker:tag",
            "Asdf.com/foo",
            "[2001:db8::1]:5000/foo",
            "foo--bar/a__b",
            "registry.io/foo/bar:baz",
            digest.as_str(),
        ];
        for image in good {
            assert_eq!(problem(image), None, "{image}");
        }
        let upper = |name: &str| {
            format!("invalid reference format: repository name ({name}) must be lowercase")
        };
        let table = [
            ("Nginx", upper("library/Nginx")),
            ("nginx:Tag:", BAD_FORMAT.to_owned()),
            ("docker/Docker:1", upper("docker/Docker")),
            ("-docker/docker", BAD_FORMAT.to_owned()),
            ("docker///docker", BAD_FORMAT.to_owned()),
            ("a___b", BAD_FORMAT.to_owned()),
            ("nginx:", BAD_FORMAT.to_owned()),
            ("nginx latest", BAD_FORMAT.to_owned()),
            ("nginx@sha256:12", BAD_FORMAT.to_owned()),
            (
                hex.as_str(),
                format!(
                    "invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"
                ),
            ),
        ];
        for (image, why) in table {
            assert_eq!(problem(image).as_ref(), Some(&why), "{image}");
        }
    }
}
