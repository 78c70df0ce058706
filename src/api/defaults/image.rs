//! The tag of an image reference, which decides when it is pulled by default.
//!
//! `pkg/util/parsers :: ParseImageName` on the reference grammar of the distribution project.

/// The tag: `latest` when the reference has neither tag nor digest, empty when it has a digest
/// alone or is no reference at all.
pub fn tag(image: &str) -> &str {
    parse(image).unwrap_or("")
}

fn parse(image: &str) -> Option<&str> {
    let hash = image.len() == 64
        && image
            .bytes()
            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    if hash {
        return None;
    }
    let (domain, path) = match image.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, image),
    };
    let (path, digest) = match path.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => (path, None),
    };
    let (path, tag) = match path.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    let good = domain.is_none_or(is_domain)
        && path.len() <= 255
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    if !good {
        return None;
    }
    Some(match (tag, digest) {
        (Some(tag), _) => tag,
        (None, Some(_)) => "",
        (None, None) => "latest",
    })
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label)
        && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// Lower-case letters and digits, separated by one dot, one or two underscores, or dashes.
fn is_component(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else {
        return false;
    };
    if !inner(first) || !inner(last) {
        return false;
    }
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    separators
        .filter(|s| !s.is_empty())
        .all(|s| s == "." || s == "_" || s == "__" || s.bytes().all(|b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    text.len() <= 128
        && bytes.next().is_some_and(word)
        && bytes.all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        algorithm.split(['-', '_', '+', '.']).all(part)
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::tag;

    #[test]
    fn the_tag_of_an_image_is_latest_only_when_nothing_else_is_said() {
        let digest = "sha256:".to_owned() + &"0123456789abcdef".repeat(4);
        for (image, expected) in [
            ("nginx", "latest"),
            ("nginx:latest", "latest"),
            ("nginx:1.25", "1.25"),
            ("gcr.io/a/b", "latest"),
            ("localhost:5000/a", "latest"),
            ("localhost:5000/a:v1", "v1"),
            ("Bad_Name!", ""),
            ("nginx:1 ", ""),
            ("UPPER", ""),
            ("UPPER/a", "latest"),
            ("a__b/c.d-e", "latest"),
            ("a..b", ""),
            ("", ""),
            (&format!("nginx@{digest}"), ""),
            (&format!("nginx:v2@{digest}"), "v2"),
        ] {
            assert_eq!(tag(image), expected, "{image}");
        }
    }
}
