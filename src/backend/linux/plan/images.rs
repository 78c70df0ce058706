//! What image names stand for: there is no registry in a real run.
//!
//! By default every image is the built-in server, driven by the container's AppModel, so that
//! manifests run unchanged. A mapping says otherwise for the images that it matches:
//! `host:` (programs of the host; the container's own `command` and `args` say which),
//! `host:/usr/bin/python3 -m http.server` (with a command), `dir:/path/to/rootfs`.

use std::path::PathBuf;

use super::super::protocol::Root;

/// What an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// The built-in server.
    BuiltIn,
    /// A root file system, with the command that runs when the container names none.
    Root(Root, Vec<String>),
}

/// What image names stand for; the first match counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    rules: Vec<(String, Image)>,
}

impl Images {
    /// Adds a rule, `PATTERN=WHAT`; `*` in the pattern stands for any characters.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, rule: &str) -> Result<(), String> {
        let (pattern, what) = rule
            .split_once('=')
            .ok_or_else(|| format!("{rule:?} is not PATTERN=WHAT"))?;
        let (kind, rest) = what.split_once(':').unwrap_or((what, ""));
        let image = match kind {
            "builtin" => Image::BuiltIn,
            "host" => {
                let command = rest.split_whitespace().map(str::to_owned).collect();
                Image::Root(Root::Host, command)
            }
            "dir" => {
                let path = PathBuf::from(rest);
                let path = path
                    .canonicalize()
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                let text = path.to_str().filter(|p| !p.contains([':', ',', '\\']));
                let Some(text) = text.filter(|_| path.is_dir()) else {
                    return Err(format!(
                        "{}: not a folder that can be mounted",
                        path.display()
                    ));
                };
                Image::Root(Root::Layers(vec![text.to_owned()]), Vec::new())
            }
            _ => return Err(format!("{what:?}: known are builtin, host:, dir:")),
        };
        self.rules.push((pattern.to_owned(), image));
        Ok(())
    }

    /// What an image stands for.
    pub fn get(&self, name: &str) -> Image {
        let found = self
            .rules
            .iter()
            .find(|(pattern, _)| matches(pattern, name));
        found.map_or(Image::BuiltIn, |(_, image)| image.clone())
    }
}

/// Whether `name` is what `pattern` describes.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(before) else {
        return false;
    };
    (0..=rest.len())
        .filter(|at| rest.is_char_boundary(*at))
        .any(|at| matches(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_counts() {
        let mut images = Images::default();
        images.add("shop/db:*=builtin").expect("a rule");
        images.add("shop/*=host:/bin/sleep 5").expect("a rule");
        images.add("*:1=dir:/").expect("a rule");
        let host = Image::Root(Root::Host, vec!["/bin/sleep".to_owned(), "5".to_owned()]);
        let root = Image::Root(Root::Layers(vec!["/".to_owned()]), Vec::new());
        let table = [
            ("shop/db:9", Image::BuiltIn),
            ("shop/web:9", host),
            ("nginx:1", root),
            ("nginx:2", Image::BuiltIn),
        ];
        for (name, expected) in table {
            assert_eq!(images.get(name), expected, "{name}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_followed_says_why() {
        let table = [
            ("nginx", "\"nginx\" is not PATTERN=WHAT"),
            (
                "nginx=docker:x",
                "\"docker:x\": known are builtin, host:, dir:",
            ),
            (
                "nginx=dir:/no/such",
                "/no/such: No such file or directory (os error 2)",
            ),
            (
                "nginx=dir:/proc/self/stat",
                "not a folder that can be mounted",
            ),
        ];
        for (rule, expected) in table {
            let error = Images::default().add(rule).expect_err(rule);
            assert!(error.ends_with(expected), "{error}");
        }
    }
}
