//! What image names stand for: there is no registry in a real run.
//!
//! By default every image is the built-in server, driven by the container's AppModel, so that
//! manifests run unchanged. A rule says otherwise for the images that it matches:
//!
//! | Rule | Means |
//! |---|---|
//! | `builtin` | the built-in server |
//! | `host:`, `host:/usr/bin/python3 -m http.server` | programs of the host, perhaps with a command |
//! | `dir:FOLDER` | a root file system |
//! | `oci:PATH[:NAME]` | an OCI image layout |
//! | `docker-archive:FILE[:NAME]` | an archive of `docker save` |
//!
//! Rules come from `--image PATTERN=WHAT`, and then from `spec.linux.images` of the scenario.

use std::path::{Path, PathBuf};

use super::super::image::cache::{Cache, Held, usual_folder};
use super::super::image::manifest::Config;
use super::super::image::unpack::Limits;
use super::super::image::users::Users;
use super::super::image::{Form, Source, open};
use super::super::protocol::Root;
use crate::scenario::{ImageRule, LinuxSpec, image_matches};

/// What an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// The built-in server.
    BuiltIn,
    /// A root file system, and what a container takes on with it.
    Root(Root, Box<Taken>),
}

/// What a container takes on from its image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Command, environment, user …
    pub config: Config,
    /// The names of users in it.
    pub users: Users,
}

/// What image names stand for; the first match counts.
#[derive(Clone, Debug, Default)]
pub struct Images {
    rules: Vec<(String, Image)>,
    folder: Option<PathBuf>,
    /// Opened with the first image that needs it.
    cache: Option<Cache>,
    /// Images stay unpacked as long as somebody may start them.
    held: Vec<Held>,
    /// What images lack.
    notes: Vec<String>,
}

impl Images {
    /// Without rules; images are unpacked into `folder`, or into the user's usual one.
    pub fn new(folder: Option<PathBuf>) -> Images {
        Images {
            folder,
            ..Images::default()
        }
    }

    /// Adds a rule, `PATTERN=WHAT`; `*` in the pattern stands for any characters.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(&mut self, rule: &str) -> Result<(), String> {
        let (pattern, what) = rule
            .split_once('=')
            .ok_or_else(|| format!("{rule:?} is not PATTERN=WHAT"))?;
        let image = self.image(what, Path::new(""))?;
        self.rules.push((pattern.to_owned(), image));
        Ok(())
    }

    /// Adds the rules of a scenario.
    ///
    /// # Errors
    /// The rule that cannot be followed, and why.
    pub fn add_all<'s>(&mut self, spec: &'s LinuxSpec) -> Result<(), (&'s ImageRule, String)> {
        for rule in &spec.images {
            let image = self.image(&rule.from, &spec.base);
            let image = image.map_err(|why| (rule, why))?;
            self.rules.push((rule.name.clone(), image));
        }
        Ok(())
    }

    /// What is said of an image; paths count from `base`.
    fn image(&mut self, what: &str, base: &Path) -> Result<Image, String> {
        let (kind, rest) = what.split_once(':').unwrap_or((what, ""));
        match kind {
            "builtin" => Ok(Image::BuiltIn),
            "host" => {
                let command = rest.split_whitespace().map(str::to_owned).collect();
                let config = Config {
                    entrypoint: command,
                    ..Config::default()
                };
                Ok(root(Root::Host, Path::new("/"), config))
            }
            "dir" => {
                let path = base.join(rest);
                let found = path.canonicalize();
                let path = found.map_err(|error| format!("{}: {error}", path.display()))?;
                let layers = Root::Layers(vec![layer(&path)?]);
                Ok(root(layers, &path, Config::default()))
            }
            "oci" => self.unpacked(&Source::parse(Form::Oci, rest, base)?),
            "docker-archive" => self.unpacked(&Source::parse(Form::Docker, rest, base)?),
            _ => Err(format!(
                "{what:?}: known are builtin, host:, dir:, oci:, docker-archive:"
            )),
        }
    }

    fn unpacked(&mut self, source: &Source) -> Result<Image, String> {
        let cache = match &self.cache {
            Some(cache) => cache.clone(),
            None => {
                let folder = self.folder.clone().unwrap_or_else(usual_folder);
                self.cache.insert(Cache::open(&folder)?).clone()
            }
        };
        let image = open(source, &cache, Limits::default())?;
        let at = image.held.root.clone();
        let layers = Root::Layers(vec![layer(&at)?]);
        self.held.push(image.held);
        self.notes.extend(image.notes);
        Ok(root(layers, &at, image.config))
    }

    /// The first images that are programs of others.
    pub fn foreign(&self) -> Option<&str> {
        let mut rules = self.rules.iter();
        let found = rules.find(|(_, image)| *image != Image::BuiltIn);
        found.map(|(pattern, _)| pattern.as_str())
    }

    /// What images lack, for the run's header.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Folders that must stay visible in the cell.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        let layers = self.rules.iter().filter_map(|(_, image)| match image {
            Image::Root(Root::Layers(layers), _) => Some(layers),
            _ => None,
        });
        layers.flatten().map(Path::new)
    }

    /// What an image stands for.
    pub fn get(&self, name: &str) -> Image {
        let found = self
            .rules
            .iter()
            .find(|(pattern, _)| image_matches(pattern, name));
        found.map_or(Image::BuiltIn, |(_, image)| image.clone())
    }
}

fn root(root: Root, at: &Path, config: Config) -> Image {
    let users = Users::of(at);
    Image::Root(root, Box::new(Taken { config, users }))
}

/// A folder as the lower one of an overlay, whose options are a text with separators.
fn layer(path: &Path) -> Result<String, String> {
    let text = path.to_str().filter(|p| !p.contains([':', ',', '\\']));
    match text.filter(|_| path.is_dir()) {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!(
            "{}: not a folder that can be mounted",
            path.display()
        )),
    }
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
        let command = |image: &Image| match image {
            Image::BuiltIn => "built in".to_owned(),
            Image::Root(root, taken) => format!("{root:?} {:?}", taken.config.entrypoint),
        };
        let table = [
            ("shop/db:9", "built in"),
            ("shop/web:9", "Host [\"/bin/sleep\", \"5\"]"),
            ("nginx:1", "Layers([\"/\"]) []"),
            ("nginx:2", "built in"),
        ];
        for (name, expected) in table {
            assert_eq!(command(&images.get(name)), expected, "{name}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_followed_says_why() {
        let table = [
            ("nginx", "\"nginx\" is not PATTERN=WHAT"),
            (
                "nginx=docker:x",
                "\"docker:x\": known are builtin, host:, dir:, oci:, docker-archive:",
            ),
            (
                "nginx=dir:/no/such",
                "/no/such: No such file or directory (os error 2)",
            ),
            (
                "nginx=dir:/proc/self/stat",
                "not a folder that can be mounted",
            ),
            ("nginx=oci:", ": no such file or folder"),
            ("nginx=oci:/no/such:v1", "/no/such: no such file or folder"),
            (
                "nginx=docker-archive:/no/such.tar",
                "/no/such.tar: no such file or folder",
            ),
        ];
        for (rule, expected) in table {
            let error = Images::default().add(rule).expect_err(rule);
            assert!(error.ends_with(expected), "{error}");
        }
    }
}
