//! Builds [`Node`]s from events with go-yaml v2's decoding rules (`decode.go`): aliases, the
//! allowed share of them, merge keys, and strict mode's refusal of a key that is set twice.
//!
//! It keeps its own stack, so nesting costs no stack space, and counts what it builds against
//! [`Limits`].

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::budget::Budget;
use super::parse::{Event, Parser};
use super::resolve::{Scalar, resolve};
use super::scan::{Mark, SyntaxError};
use super::{Entry, FileId, Map, Node, NodeValue, Span, YamlError};

/// A finished value. Scalars stay unconverted until it is known whether they are a key.
#[derive(Clone)]
enum Item {
    Scalar(Scalar),
    Tree(NodeValue),
}

/// A finished value with what the limits need to know about it.
#[derive(Clone)]
struct Built {
    item: Item,
    span: Span,
    /// go-yaml's number of decoding steps for it, aliases expanded.
    steps: u64,
    /// Levels of nesting in it.
    height: usize,
}

/// A collection under construction.
struct Frame {
    span: Span,
    anchor: usize,
    steps: u64,
    height: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    /// The list that is the value of a merge key.
    MergeList(Vec<(Map, Span)>),
    Map(Map, Next),
}

/// What the next value of a mapping is.
enum Next {
    Key,
    Value(Arc<str>, Span),
    /// The value of the merge key at this place.
    Merge(Span),
}

/// Where a document begins in its file.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) file: FileId,
    pub(super) lines_before: u32,
}

impl Place {
    fn span(self, mark: Mark) -> Span {
        let line = u32::try_from(mark.line + 1).unwrap_or(u32::MAX);
        let column = u32::try_from(mark.column + 1).unwrap_or(u32::MAX);
        Span::new(self.file, line.saturating_add(self.lines_before), column)
    }

    fn error(self, error: SyntaxError) -> YamlError {
        let hint = hint(error.message).map(str::to_owned);
        YamlError {
            message: error.message.to_owned(),
            span: self.span(error.mark),
            hint,
        }
    }
}

/// Composes the documents of one file.
pub(super) struct Composer<'b, 'l> {
    budget: &'b mut Budget<'l>,
    stack: Vec<Frame>,
    /// `None` while the anchored value is not finished: an alias to it would contain itself.
    anchors: FxHashMap<usize, Option<Built>>,
    steps: u64,
    alias_steps: u64,
}

impl<'b, 'l> Composer<'b, 'l> {
    pub(super) fn new(budget: &'b mut Budget<'l>) -> Self {
        Self {
            budget,
            stack: Vec::new(),
            anchors: FxHashMap::default(),
            steps: 0,
            alias_steps: 0,
        }
    }

    /// The first document of the events, `None` when there is none. What follows it is not read,
    /// as go-yaml's `Unmarshal` does not.
    pub(super) fn document(&mut self, text: &str, from: Place) -> Result<Option<Node>, YamlError> {
        // A byte order mark may begin each part of a file, where files were joined.
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        // The mark names the encoding; another one right after it is skipped like a blank
        // (`yaml_parser_scan_to_next_token`).
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        let mut parser = Parser::new(text);
        self.stack.clear();
        self.anchors.clear();
        self.steps = 0;
        self.alias_steps = 0;
        let mut root = None;
        loop {
            let (event, mark) = parser.next().map_err(|error| from.error(error))?;
            let span = from.span(mark);
            match event {
                Event::StreamEnd => return Ok(None),
                Event::DocumentStart => self.count(1, false, span)?,
                Event::DocumentEnd => return Ok(root),
                event => {
                    if let Some(done) = self.event(event, span)? {
                        root = Some(into_node(done)?);
                    }
                }
            }
        }
    }

    /// Takes one event; returns the root when it is complete.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<Option<Built>, YamlError> {
        match event {
            Event::Scalar {
                text,
                implicit,
                tag,
                anchor,
            } => {
                if self.takes_merge_key(&text, implicit, &tag) {
                    if let Some(Frame {
                        content: Content::Map(_, next),
                        ..
                    }) = self.stack.last_mut()
                    {
                        *next = Next::Merge(span);
                    }
                    return Ok(None);
                }
                self.count(1, false, span)?;
                let scalar = if implicit || !tag.is_empty() {
                    resolve(&tag, &text).map_err(|m| YamlError::new(m, span))?
                } else {
                    Scalar::Str(text.into())
                };
                let built = Built {
                    item: Item::Scalar(scalar),
                    span,
                    steps: 1,
                    height: 0,
                };
                self.remember(anchor, &built)?;
                self.deliver(built, false)
            }
            Event::Alias(id) => {
                self.count(1, false, span)?;
                let mut built = self.aliased(id, span)?;
                self.count(built.steps, true, span)?;
                self.budget
                    .check_depth(self.stack.len() + built.height, span)?;
                built.steps = built.steps.saturating_add(1);
                self.deliver(built, true)
            }
            Event::ListStart(anchor) => {
                let merge = self.expects_merge_value();
                let content = if merge {
                    Content::MergeList(Vec::new())
                } else {
                    Content::List(Vec::new())
                };
                self.open(content, anchor, u64::from(!merge), span)?;
                Ok(None)
            }
            Event::MapStart(anchor) => {
                self.open(Content::Map(Map::default(), Next::Key), anchor, 1, span)?;
                Ok(None)
            }
            Event::ListEnd | Event::MapEnd => self.close(),
            Event::DocumentStart | Event::DocumentEnd | Event::StreamEnd => Ok(None),
        }
    }

    /// go-yaml v2, `decode.go :: isMerge`.
    fn takes_merge_key(&self, text: &str, implicit: bool, tag: &str) -> bool {
        text == "<<"
            && (implicit || tag == "tag:yaml.org,2002:merge")
            && matches!(
                self.stack.last(),
                Some(Frame {
                    content: Content::Map(_, Next::Key),
                    ..
                })
            )
    }

    fn expects_merge_value(&self) -> bool {
        matches!(
            self.stack.last(),
            Some(Frame {
                content: Content::Map(_, Next::Merge(_)),
                ..
            })
        )
    }

    fn open(
        &mut self,
        content: Content,
        anchor: usize,
        steps: u64,
        span: Span,
    ) -> Result<(), YamlError> {
        self.count(steps, false, span)?;
        self.budget.check_depth(self.stack.len() + 1, span)?;
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        self.stack.push(Frame {
            span,
            anchor,
            steps,
            height: 0,
            content,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<Option<Built>, YamlError> {
        let Some(frame) = self.stack.pop() else {
            return Ok(None);
        };
        let Frame {
            span,
            anchor,
            steps,
            height,
            content,
        } = frame;
        let value = match content {
            Content::List(items) => NodeValue::List(items),
            Content::Map(map, _) => NodeValue::Map(map),
            Content::MergeList(maps) => {
                if let Some(parent) = self.stack.last_mut() {
                    parent.steps = parent.steps.saturating_add(steps);
                    parent.height = parent.height.max(height);
                    // Backwards, as earlier mappings take precedence.
                    for (map, span) in maps.into_iter().rev() {
                        merge_into(parent, map, span)?;
                    }
                    finish_value(parent);
                }
                return Ok(None);
            }
        };
        let built = Built {
            item: Item::Tree(value),
            span,
            steps,
            height: height + 1,
        };
        self.remember(anchor, &built)?;
        self.deliver(built, false)
    }

    fn remember(&mut self, anchor: usize, built: &Built) -> Result<(), YamlError> {
        if anchor != 0 {
            self.budget.grow(built.steps, built.span)?;
            self.anchors.insert(anchor, Some(built.clone()));
        }
        Ok(())
    }

    fn aliased(&self, id: usize, span: Span) -> Result<Built, YamlError> {
        match self.anchors.get(&id) {
            Some(Some(built)) => Ok(built.clone()),
            Some(None) => Err(YamlError::new("the anchored value contains itself", span)),
            None => Err(YamlError::new("unknown anchor referenced", span)),
        }
    }

    /// Hands a finished value to the collection around it, or out when it is the root.
    fn deliver(&mut self, built: Built, alias: bool) -> Result<Option<Built>, YamlError> {
        let Some(frame) = self.stack.last_mut() else {
            return Ok(Some(built));
        };
        frame.steps = frame.steps.saturating_add(built.steps);
        frame.height = frame.height.max(built.height);
        let span = built.span;
        match &mut frame.content {
            Content::List(items) => items.push(into_node(built)?),
            Content::MergeList(maps) => match built.item {
                Item::Tree(NodeValue::Map(map)) => maps.push((map, span)),
                _ => return Err(wants_map(span)),
            },
            Content::Map(map, next) => match next {
                Next::Merge(at) => {
                    let at = if alias { *at } else { span };
                    let Item::Tree(NodeValue::Map(merged)) = built.item else {
                        return Err(wants_map(span));
                    };
                    merge_into(frame, merged, at)?;
                    finish_value(frame);
                }
                Next::Key => {
                    let key = self.intern(built)?;
                    if let Some(Frame {
                        content: Content::Map(_, next),
                        ..
                    }) = self.stack.last_mut()
                    {
                        *next = Next::Value(key, span);
                    }
                }
                Next::Value(key, key_span) => {
                    let (key, key_span) = (key.clone(), *key_span);
                    insert(
                        map,
                        key,
                        Entry {
                            key_span,
                            node: into_node(built)?,
                        },
                        key_span,
                    )?;
                    finish_value(frame);
                }
            },
        }
        Ok(None)
    }

    /// The text of a key, one allocation per distinct short key of the file.
    fn intern(&mut self, built: Built) -> Result<Arc<str>, YamlError> {
        let key = match built.item {
            Item::Scalar(scalar) => scalar
                .into_key()
                .map_err(|message| YamlError::new(message, built.span))?,
            Item::Tree(value) => {
                let message = format!("invalid map key: {} cannot be a key", value);
                return Err(YamlError::new(message, built.span).hint(
                    "a template such as {{ .Values.x }} must be rendered first, or be quoted",
                ));
            }
        };
        Ok(self.budget.share(key))
    }

    /// go-yaml v2, `decode.go :: unmarshal`: counts decoding steps and stops documents that
    /// consist of aliases. The checks can only fail more as steps are added, so one check after
    /// several steps decides as go-yaml's one per step.
    fn count(&mut self, steps: u64, aliased: bool, span: Span) -> Result<(), YamlError> {
        self.steps = self.steps.saturating_add(steps);
        if aliased {
            self.alias_steps = self.alias_steps.saturating_add(steps);
        }
        if self.alias_steps > 100
            && self.steps > 1000
            && ratio(self.alias_steps, self.steps) > allowed_alias_ratio(self.steps)
        {
            return Err(YamlError::new("document contains excessive aliasing", span));
        }
        self.budget.grow(steps, span)
    }
}

fn finish_value(frame: &mut Frame) {
    if let Content::Map(_, next) = &mut frame.content {
        *next = Next::Key;
    }
}

fn merge_into(frame: &mut Frame, merged: Map, at: Span) -> Result<(), YamlError> {
    if let Content::Map(map, _) = &mut frame.content {
        for (key, entry) in merged {
            insert(map, key, entry, at)?;
        }
    }
    Ok(())
}

/// go-yaml v2, `decode.go :: setMapIndex`, strict: a key that is there already is an error, even
/// when one of the two came through a merge key.
fn insert(map: &mut Map, key: Arc<str>, entry: Entry, at: Span) -> Result<(), YamlError> {
    match map.entry(key) {
        indexmap::map::Entry::Vacant(vacant) => {
            vacant.insert(entry);
            Ok(())
        }
        indexmap::map::Entry::Occupied(old) => {
            Err(YamlError::key_twice(old.key(), old.get().key_span, at))
        }
    }
}

fn into_node(built: Built) -> Result<Node, YamlError> {
    let value = match built.item {
        Item::Tree(value) => value,
        Item::Scalar(scalar) => scalar
            .into_value()
            .map_err(|message| YamlError::new(message, built.span))?,
    };
    Ok(Node::new(value, built.span))
}

fn wants_map(span: Span) -> YamlError {
    YamlError::new(
        "map merge requires map or sequence of maps as the value",
        span,
    )
}

#[expect(clippy::cast_precision_loss, reason = "go-yaml divides floats, too")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// go-yaml v2, `decode.go :: allowedAliasRatio`: 99 % of the steps of a small document may come
/// from aliases, 10 % of a large one.
fn allowed_alias_ratio(steps: u64) -> f64 {
    const LOW: u64 = 400_000;
    const HIGH: u64 = 4_000_000;
    match steps {
        ..=LOW => 0.99,
        HIGH.. => 0.10,
        _ => 0.99 - 0.89 * ratio(steps - LOW, HIGH - LOW),
    }
}

/// What usually lies behind a syntax error.
fn hint(message: &str) -> Option<&'static str> {
    Some(match message {
        "mapping values are not allowed in this context" => {
            "quote a value that contains `: `, or check the indentation"
        }
        "did not find expected key" | "did not find expected '-' indicator" => {
            "check the indentation of this line and of those above it"
        }
        "could not find expected ':'" => "a key is followed by `: `; check the indentation",
        "found character that cannot start any token" => {
            "indent with spaces, not tabs; quote a value that begins with @, ` or %"
        }
        "found unexpected end of stream" => "a quote is not closed",
        "unknown anchor referenced" | "did not find expected alphabetic or numeric character" => {
            "quote a value that begins with * or &"
        }
        "found unknown escape character" => "in double quotes write \\\\ for a backslash",
        "did not find expected <document start>" => {
            "kubectl reads no directives and one document per `---`"
        }
        "found incompatible YAML document" => "kubectl reads %YAML 1.1 only",
        _ => return None,
    })
}
