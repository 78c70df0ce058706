//! Command lines become verbs, or the first word that is wrong is named.

use std::sync::Arc;

use super::autoscale;
use super::resources::resource;
use super::selector::selector;
use super::verb::{DeleteFlags, DrainFlags, ParseError, ResourceKind, Rollout, Targets, Verb};
use super::words::{Word, Words, split};
use crate::api::affinity::{Taint, TaintEffect};
use crate::api::patch::PatchKind;
use crate::api::{Kind, Text};

const VERBS: &[&str] = &[
    "apply",
    "create",
    "replace",
    "delete",
    "scale",
    "autoscale",
    "set",
    "patch",
    "rollout",
    "cordon",
    "uncordon",
    "drain",
    "taint",
    "label",
    "annotate",
];

/// What to do instead of resizing a pod in its place.
const RESIZE: &str = "change the template instead, as with kubectl set resources deployment/NAME \
                      --requests=cpu=500m: a rollout replaces the pods";
/// What to do instead of an ephemeral container.
const DEBUG: &str = "kubectl exec runs a command in a container that is there; a container more \
                     belongs into the pod's template";

/// Parses a command line, with or without the word `kubectl`.
///
/// # Errors
/// The first word that kubectl, or the model, does not know.
pub fn parse(line: &str, default_namespace: &str) -> Result<Verb, ParseError> {
    let mut words = split(line)?;
    if words.first().is_some_and(|w| w.text == "kubectl") {
        words.remove(0);
    }
    // Flags may stand before the verb: `-n shop rollout …`.
    let at = first_word(&words);
    let Some(at) = at else {
        return Err(ParseError::new("no verb", 0..line.len()));
    };
    let verb = words.remove(at);
    let sub = matches!(verb.text.as_str(), "set" | "rollout")
        .then(|| first_word(&words).map(|at| words.remove(at)))
        .flatten();
    Parser {
        verb,
        sub,
        namespace: Text::from(default_namespace),
    }
    .parse(words)
}

fn first_word(words: &[Word]) -> Option<usize> {
    let mut skip = false;
    words.iter().position(|word| {
        if std::mem::take(&mut skip) {
            return false;
        }
        skip = word.text == "-n" || word.text == "--namespace";
        !word.text.starts_with('-')
    })
}

struct Parser {
    verb: Word,
    sub: Option<Word>,
    namespace: Text,
}

impl Parser {
    fn parse(self, words: Vec<Word>) -> Result<Verb, ParseError> {
        match self.verb.text.as_str() {
            "apply" => {
                let allowed = ["namespace", "filename", "recursive", "server-side"];
                let words = Words::new(words, &allowed)?;
                match words.value("server-side") {
                    Some((on, at)) if on != "false" => {
                        let mut error = ParseError::new("--server-side is not modelled", at);
                        let hint = "without it, apply merges three ways: what left the manifest \
                                    goes, what others set stays";
                        error.hint = Some(hint.to_owned());
                        Err(error)
                    }
                    _ => Ok(Verb::Apply),
                }
            }
            "create" | "replace" => self.of_files(words),
            "delete" => self.delete(words),
            "scale" => self.scale(words),
            "autoscale" => {
                let words = Words::new(words, &autoscale::FLAGS)?;
                let flags = autoscale::flags(&words)?;
                Ok(Verb::Autoscale(self.targets(&words, 0, false)?, flags))
            }
            "set" => self.set(words),
            "rollout" => self.rollout(words),
            "cordon" | "uncordon" => {
                let words = Words::new(words, &["selector"])?;
                let targets = self.nodes(&words)?;
                Ok(Verb::Cordon(targets, self.verb.text == "cordon"))
            }
            "drain" => self.drain(words),
            "taint" => self.taint(words),
            "label" | "annotate" => self.mark(words),
            "patch" => self.patch(words),
            other => {
                if other == "debug" {
                    let message = "ephemeral containers (kubectl debug) are not modelled";
                    let mut error = ParseError::new(message, self.verb.at);
                    error.hint = Some(DEBUG.to_owned());
                    return Err(error);
                }
                let near = crate::api::yaml::closest(other, VERBS.iter().copied());
                let message = format!("kubectl {other} is not a verb of timelines");
                let mut error = ParseError::new(message, self.verb.at);
                error.hint = Some(near.map_or_else(
                    || format!("verbs: {}", VERBS.join(", ")),
                    |near| format!("did you mean {near}?"),
                ));
                Err(error)
            }
        }
    }

    /// `create -f` and `replace -f`.
    fn of_files(self, words: Vec<Word>) -> Result<Verb, ParseError> {
        let creates = self.verb.text == "create";
        // `create deployment web …` and its kin make an object of their arguments.
        if let Some(word) = first_word(&words).map(|at| &words[at])
            && creates
            && !words
                .iter()
                .any(|w| w.text == "-f" || w.text.starts_with("--filename"))
        {
            let message = format!("kubectl create {} is not modelled", word.text);
            let mut error = ParseError::new(message, word.at.clone());
            error.hint = Some("write the object into a file: kubectl create -f".into());
            return Err(error);
        }
        let allowed = ["namespace", "filename", "recursive", "save-config"];
        let words = Words::new(words, &allowed)?;
        if words.value("filename").is_none() {
            return Err(ParseError::new(
                "must specify one of -f and -k",
                self.verb.at,
            ));
        }
        if words.switch("save-config", false) {
            let mut error = ParseError::new("--save-config is not modelled", self.verb.at);
            error.hint = Some("kubectl apply keeps the manifest in its annotation".into());
            return Err(error);
        }
        Ok(match creates {
            true => Verb::Create,
            false => Verb::Replace,
        })
    }

    fn delete(self, words: Vec<Word>) -> Result<Verb, ParseError> {
        let words = Words::new(
            words,
            &[
                "namespace",
                "selector",
                "all",
                "force",
                "grace-period",
                "wait",
                "cascade",
                "timeout",
                "ignore-not-found",
                "all-namespaces",
                "now",
                "filename",
                "recursive",
            ],
        )?;
        let force = words.switch("force", false);
        let now = words.switch("now", false);
        let grace = words.number("grace-period")?.filter(|g| *g >= 0);
        let grace_s = match grace {
            Some(g) => Some(u32::try_from(g).unwrap_or(u32::MAX)),
            None if force => Some(0),
            None if now => Some(1),
            None => None,
        };
        let propagation = match words.value("cascade") {
            None => crate::store::Propagation::Background,
            Some(("background" | "true", _)) => crate::store::Propagation::Background,
            Some(("foreground", _)) => crate::store::Propagation::Foreground,
            Some(("orphan" | "false", _)) => crate::store::Propagation::Orphan,
            Some((other, at)) => {
                let message = format!(
                    "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \
                     \"orphan\""
                );
                return Err(ParseError::new(message, at));
            }
        };
        let flags = DeleteFlags {
            grace_s,
            wait: words.switch("wait", !force),
            ignore_not_found: words.switch("ignore-not-found", false),
            propagation,
            timeout: words.duration("timeout")?,
            files: words.value("filename").is_some(),
        };
        let all = words.switch("all", false);
        if let (true, Some(word)) = (flags.files, words.positional.first()) {
            let message = "when paths, URLs, or stdin is provided as input, you may not specify \
                           resource arguments as well";
            return Err(ParseError::new(message, word.at.clone()));
        }
        let targets = match flags.files {
            true => Targets::default(),
            false => self.targets(&words, 0, all)?,
        };
        Ok(Verb::Delete(targets, flags))
    }

    fn scale(self, words: Vec<Word>) -> Result<Verb, ParseError> {
        let words = Words::new(
            words,
            &[
                "namespace",
                "selector",
                "replicas",
                "current-replicas",
                "timeout",
                "all",
            ],
        )?;
        let int = |n: Option<i64>| n.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
        let Some(replicas) = int(words.number("replicas")?) else {
            return Err(ParseError::new(
                "required flag(s) \"replicas\" not set",
                self.verb.at,
            ));
        };
        let current = int(words.number("current-replicas")?);
        let targets = self.targets(&words, 0, words.switch("all", false))?;
        Ok(Verb::Scale(targets, replicas, current))
    }

    fn set(self, words: Vec<Word>) -> Result<Verb, ParseError> {
        match &self.sub {
            Some(word) if word.text == "image" => {}
            other => {
                let at = other
                    .as_ref()
                    .map_or(self.verb.at.clone(), |w| w.at.clone());
                let mut error = ParseError::new("only `set image` is modelled", at);
                error.hint = Some("other fields: kubectl patch".into());
                return Err(error);
            }
        }
        let mut words = Words::new(words, &["namespace", "selector", "all"])?;
        let images: Vec<Word> = {
            let (images, rest): (Vec<Word>, Vec<Word>) = words
                .positional
                .drain(..)
                .partition(|w| w.text.contains('='));
            words.positional = rest;
            images
        };
        if images.is_empty() {
            return Err(ParseError::new(
                "at least one image update is required",
                words.end(),
            ));
        }
        let pairs = images
            .iter()
            .map(|w| {
                let (container, image) = w.text.split_once('=').unwrap_or((&w.text, ""));
                (Text::from(container), Text::from(image))
            })
            .collect();
        let targets = self.targets(&words, 0, words.switch("all", false))?;
        Ok(Verb::SetImage(targets, pairs))
    }

    fn rollout(self, words: Vec<Word>) -> Result<Verb, ParseError> {
        let Some(sub) = self.sub.clone() else {
            let message = "rollout needs restart, undo, pause, resume, status or history";
            return Err(ParseError::new(message, self.verb.at));
        };
        let words = Words::new(
            words,
            &["namespace", "selector", "to-revision", "timeout", "watch"],
        )?;
        let what = match sub.text.as_str() {
            "restart" => Rollout::Restart,
            "undo" => Rollout::Undo(words.number("to-revision")?.unwrap_or(0)),
            "pause" => Rollout::Pause,
            "resume" => Rollout::Resume,
            "status" => Rollout::Status(words.duration("timeout")?.filter(|d| !d.is_zero())),
            "history" => Rollout::History,
            other => {
                let message = format!("rollout {other} is not modelled");
                let mut error = ParseError::new(message, sub.at);
                error.hint = Some("restart, undo, pause, resume, status, history".into());
                return Err(error);
            }
        };
        let targets = self.targets(&words, 0, false)?;
        Ok(Verb::Rollout(targets, what))
    }

    fn drain(self, words: Vec<Word>) -> Result<Verb, ParseError> {
        let words = Words::new(
            words,
            &[
                "selector",
                "ignore-daemonsets",
                "delete-emptydir-data",
                "force",
                "grace-period",
                "timeout",
                "disable-eviction",
                "delete-local-data",
            ],
        )?;
        let grace = words.number("grace-period")?.filter(|g| *g >= 0);
        let flags = DrainFlags {
            ignore_daemon_sets: words.switch("ignore-daemonsets", false),
            delete_emptydir: words.switch("delete-emptydir-data", false)
                || words.switch("delete-local-data", false),
            force: words.switch("force", false),
            disable_eviction: words.switch("disable-eviction", false),
            grace_s: grace.map(|g| u32::try_from(g).unwrap_or(u32::MAX)),
            timeout: words.duration("timeout")?.filter(|d| !d.is_zero()),
        };
        let targets = self.nodes(&words)?;
        Ok(Verb::Drain(targets, flags))
    }

    fn taint(self, words: Vec<Word>) -> Result<Verb, ParseError> {
        let mut words = Words::new(words, &["selector", "overwrite", "all"])?;
        let is_taint = |w: &Word| w.text.ends_with('-') || w.text.contains(':');
        let (taints, rest): (Vec<Word>, Vec<Word>) = words.positional.drain(..).partition(is_taint);
        words.positional = rest;
        if taints.is_empty() {
            return Err(ParseError::new(
                "at least one taint update is required",
                words.end(),
            ));
        }
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        for word in &taints {
            match word.text.strip_suffix('-') {
                Some(gone) => remove.push(removed_taint(gone, word)?),
                None => add.push(added_taint(word)?),
            }
        }
        let overwrite = words.switch("overwrite", false);
        if words
            .positional
            .first()
            .is_some_and(|w| matches!(&*w.text, "node" | "nodes" | "no"))
        {
            words.positional.remove(0);
        }
        let targets = self.nodes(&words)?;
        Ok(Verb::Taint(targets, add, remove, overwrite))
    }

    fn mark(self, words: Vec<Word>) -> Result<Verb, ParseError> {
        let mut words = Words::new(
            words,
            &[
                "namespace",
                "selector",
                "overwrite",
                "all",
                "all-namespaces",
            ],
        )?;
        let is_edit = |w: &Word| w.text.contains('=') || w.text.ends_with('-');
        let (edits, rest): (Vec<Word>, Vec<Word>) = words.positional.drain(..).partition(is_edit);
        words.positional = rest;
        if edits.is_empty() {
            let what = &self.verb.text;
            let message = format!("at least one {what} update is required");
            return Err(ParseError::new(message, words.end()));
        }
        let edits = edits
            .iter()
            .map(|w| match w.text.split_once('=') {
                Some((key, value)) => (Text::from(key), Some(Text::from(value))),
                None => (Text::from(w.text.trim_end_matches('-')), None),
            })
            .collect();
        let (annotate, overwrite) = (
            self.verb.text == "annotate",
            words.switch("overwrite", false),
        );
        let targets = self.targets(&words, 0, words.switch("all", false))?;
        Ok(Verb::Mark(targets, annotate, edits, overwrite))
    }

    fn patch(self, words: Vec<Word>) -> Result<Verb, ParseError> {
        let words = Words::new(words, &["namespace", "patch", "type", "subresource"])?;
        if let Some((name, at)) = words.value("subresource") {
            let (message, hint) = match name {
                "resize" => ("in-place resize of pods is not modelled", RESIZE),
                "ephemeralcontainers" => ("ephemeral containers are not modelled", DEBUG),
                _ => (
                    "only resources themselves can be patched",
                    "leave --subresource out: what is patched is the object",
                ),
            };
            let mut error = ParseError::new(message, at);
            error.hint = Some(hint.to_owned());
            return Err(error);
        }
        let Some((text, at)) = words.value("patch") else {
            return Err(ParseError::new(
                "must specify --patch or --patch-file",
                self.verb.at,
            ));
        };
        let kind = match words.value("type") {
            None | Some(("strategic", _)) => PatchKind::Strategic,
            Some(("merge", _)) => PatchKind::Merge,
            Some(("json", _)) => PatchKind::Json,
            Some((other, at)) => {
                let message =
                    format!("--type must be one of [json merge strategic], not \"{other}\"");
                return Err(ParseError::new(message, at));
            }
        };
        let file = crate::api::yaml::FileId(u32::MAX);
        let limits = crate::api::yaml::Limits::default();
        let documents =
            crate::api::yaml::parse_documents(file, text.as_bytes(), &limits).map_err(|e| {
                ParseError::new(
                    format!("unable to parse the patch: {}", e.message),
                    at.clone(),
                )
            })?;
        let [document] = documents.as_slice() else {
            return Err(ParseError::new("the patch must be one document", at));
        };
        let value = document.to_json();
        let targets = self.targets(&words, 0, false)?;
        Ok(Verb::Patch(targets, kind, Arc::new(value)))
    }

    /// Node names without a kind, or a selector.
    fn nodes(&self, words: &Words) -> Result<Targets, ParseError> {
        let selector = selector(words)?;
        let mut named: Vec<_> = words
            .positional
            .iter()
            .map(|w| {
                let name = w
                    .text
                    .strip_prefix("node/")
                    .or(w.text.strip_prefix("nodes/"));
                let name = name.unwrap_or(&w.text);
                (ResourceKind::Typed(Kind::Node), Text::from(name))
            })
            .collect();
        if named.is_empty() && (selector.is_some() || words.switch("all", false)) {
            named.push((ResourceKind::Typed(Kind::Node), Text::default()));
        }
        if named.is_empty() {
            let message = format!("{} needs a node name or --selector", self.verb.text);
            return Err(ParseError::new(message, words.end()));
        }
        Ok(Targets {
            named,
            selector,
            namespace: Text::default(),
            all_namespaces: false,
        })
    }

    /// `TYPE/NAME …`, `TYPE NAME …`, `TYPE -l …`, `TYPE --all`.
    fn targets(&self, words: &Words, skip: usize, all: bool) -> Result<Targets, ParseError> {
        let namespace = words
            .value("namespace")
            .map_or_else(|| self.namespace.clone(), |(name, _)| Text::from(name));
        let selector = selector(words)?;
        let args = &words.positional[skip.min(words.positional.len())..];
        let Some(first) = args.first() else {
            let message = format!(
                "{} needs a resource, for example deployment/web",
                self.verb.text
            );
            return Err(ParseError::new(message, words.end()));
        };
        let mut named = Vec::new();
        if first.text.contains('/') {
            for word in args {
                let Some((kind, name)) = word.text.split_once('/') else {
                    let message = "there is no need to specify a resource type as a separate \
                                   argument when passing arguments in resource/name form";
                    return Err(ParseError::new(message, word.at.clone()));
                };
                named.push((resource(kind, &word.at)?, Text::from(name)));
            }
        } else {
            for kind in first.text.split(',') {
                let kind = resource(kind, &first.at)?;
                for word in &args[1..] {
                    named.push((kind.clone(), Text::from(word.text.as_str())));
                }
                if args.len() == 1 && (all || selector.is_some()) {
                    named.push((kind, Text::default()));
                }
            }
        }
        if named.is_empty() {
            let message = "resource(s) were provided, but no name was specified";
            let mut error = ParseError::new(message, first.at.clone());
            error.hint = Some("give a name, -l SELECTOR or --all".into());
            return Err(error);
        }
        let all_namespaces = words.switch("all-namespaces", false);
        Ok(Targets {
            named,
            selector,
            namespace,
            all_namespaces,
        })
    }
}

fn added_taint(word: &Word) -> Result<Taint, ParseError> {
    let (spec, effect) = word.text.rsplit_once(':').unwrap_or((&word.text, ""));
    let effect = taint_effect(effect, word)?;
    let (key, value) = spec.split_once('=').unwrap_or((spec, ""));
    Ok(Taint {
        key: key.into(),
        value: value.into(),
        effect,
        added: None,
    })
}

fn removed_taint(gone: &str, word: &Word) -> Result<(Text, Option<TaintEffect>), ParseError> {
    match gone.rsplit_once(':') {
        Some((spec, effect)) => {
            let key = spec.split_once('=').map_or(spec, |(key, _)| key);
            Ok((key.into(), Some(taint_effect(effect, word)?)))
        }
        None => Ok((
            gone.split_once('=').map_or(gone, |(key, _)| key).into(),
            None,
        )),
    }
}

fn taint_effect(effect: &str, word: &Word) -> Result<TaintEffect, ParseError> {
    match effect {
        "NoSchedule" => Ok(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Ok(TaintEffect::PreferNoSchedule),
        "NoExecute" => Ok(TaintEffect::NoExecute),
        other => {
            let message = format!("invalid taint effect: {other}, unsupported taint effect");
            let mut error = ParseError::new(message, word.at.clone());
            error.hint = Some("NoSchedule, PreferNoSchedule or NoExecute".into());
            Err(error)
        }
    }
}
