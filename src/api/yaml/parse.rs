//! Tokens to events: the grammar of YAML, as go-yaml v2's parser (`parserc.go`) walks it.
//!
//! A state machine with its own stack of states; each call returns one event. Tags are resolved
//! and anchors numbered here, so that `compose` sees neither directives nor names.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use super::scan::{Kind, Mark, Scanner, SyntaxError};

/// One step of a document. Anchors are numbers above 0; 0 means none.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event<'a> {
    DocumentStart,
    DocumentEnd,
    StreamEnd,
    Alias(usize),
    Scalar {
        text: Cow<'a, str>,
        /// go-yaml's `implicit`: plain style without a tag, or the tag `!`.
        implicit: bool,
        /// The full tag, empty when there is none.
        tag: String,
        anchor: usize,
    },
    ListStart(usize),
    MapStart(usize),
    ListEnd,
    MapEnd,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    ImplicitDocumentStart,
    DocumentStart,
    DocumentContent,
    DocumentEnd,
    BlockNode,
    BlockListFirst,
    BlockListEntry,
    IndentlessEntry,
    BlockMapFirst,
    BlockMapKey,
    BlockMapValue,
    FlowListFirst,
    FlowListEntry,
    /// The three steps of `key: value` written as an item of a flow list.
    PairKey,
    PairValue,
    PairEnd,
    FlowMapFirst,
    FlowMapKey,
    FlowMapValue,
    FlowMapEmptyValue,
    End,
}

type Step<'a> = Result<(Event<'a>, Mark), SyntaxError>;

/// Produces the events of a text.
#[derive(Debug)]
pub(super) struct Parser<'a> {
    scanner: Scanner<'a>,
    state: State,
    states: Vec<State>,
    /// Handle and prefix of each `%TAG` of the document, the two defaults last.
    tag_directives: Vec<(String, String)>,
    anchors: FxHashMap<&'a str, usize>,
    anchors_seen: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            scanner: Scanner::new(text),
            state: State::ImplicitDocumentStart,
            states: Vec::new(),
            tag_directives: Vec::new(),
            anchors: FxHashMap::default(),
            anchors_seen: 0,
        }
    }

    /// The next event and where it begins.
    pub(super) fn next(&mut self) -> Step<'a> {
        match self.state {
            State::ImplicitDocumentStart => self.document_start(true),
            State::DocumentStart => self.document_start(false),
            State::DocumentContent => self.document_content(),
            State::DocumentEnd => self.document_end(),
            State::BlockNode => self.node(true, false),
            State::BlockListFirst => {
                self.scanner.take()?;
                self.block_list_entry()
            }
            State::BlockListEntry => self.block_list_entry(),
            State::IndentlessEntry => self.indentless_entry(),
            State::BlockMapFirst => {
                self.scanner.take()?;
                self.block_map_key()
            }
            State::BlockMapKey => self.block_map_key(),
            State::BlockMapValue => self.block_map_value(),
            State::FlowListFirst => {
                self.scanner.take()?;
                self.flow_list_entry(true)
            }
            State::FlowListEntry => self.flow_list_entry(false),
            State::PairKey => self.pair_key(),
            State::PairValue => self.pair_value(),
            State::PairEnd => {
                self.state = State::FlowListEntry;
                Ok((Event::MapEnd, self.scanner.peek()?.start))
            }
            State::FlowMapFirst => {
                self.scanner.take()?;
                self.flow_map_key(true)
            }
            State::FlowMapKey => self.flow_map_key(false),
            State::FlowMapValue => self.flow_map_value(),
            State::FlowMapEmptyValue => {
                self.state = State::FlowMapKey;
                let mark = self.scanner.peek()?.start;
                Ok(empty_scalar(mark))
            }
            State::End => Ok((Event::StreamEnd, Mark::default())),
        }
    }

    fn next_is(&mut self, kinds: &[Kind<'_>]) -> Result<bool, SyntaxError> {
        let kind = &self.scanner.peek()?.kind;
        Ok(kinds.contains(kind))
    }

    fn pop_state(&mut self) {
        self.state = self.states.pop().unwrap_or(State::End);
    }

    fn error<T>(&mut self, message: &'static str) -> Result<T, SyntaxError> {
        Err(SyntaxError {
            message,
            mark: self.scanner.peek()?.start,
        })
    }

    fn document_start(&mut self, implicit: bool) -> Step<'a> {
        if !implicit {
            while self.next_is(&[Kind::DocumentEnd])? {
                self.scanner.take()?;
            }
        }
        let token = self.scanner.peek()?;
        let mark = token.start;
        match token.kind {
            Kind::StreamEnd => {
                self.scanner.take()?;
                self.state = State::End;
                return Ok((Event::StreamEnd, mark));
            }
            Kind::Version(..) | Kind::TagDirective { .. } | Kind::DocumentStart => {
                self.process_directives()?;
                if !self.next_is(&[Kind::DocumentStart])? {
                    return self.error("did not find expected <document start>");
                }
                self.scanner.take()?;
                self.state = State::DocumentContent;
            }
            _ if implicit => {
                self.process_directives()?;
                self.state = State::BlockNode;
            }
            _ => return self.error("did not find expected <document start>"),
        }
        self.states.push(State::DocumentEnd);
        self.anchors.clear();
        Ok((Event::DocumentStart, mark))
    }

    fn process_directives(&mut self) -> Result<(), SyntaxError> {
        let mut version_seen = false;
        while matches!(
            self.scanner.peek()?.kind,
            Kind::Version(..) | Kind::TagDirective { .. }
        ) {
            let token = self.scanner.take()?;
            let error = |message| {
                Err(SyntaxError {
                    message,
                    mark: token.start,
                })
            };
            match token.kind {
                Kind::Version(..) if version_seen => {
                    return error("found duplicate %YAML directive");
                }
                Kind::Version(1, 1) => version_seen = true,
                Kind::Version(..) => return error("found incompatible YAML document"),
                Kind::TagDirective { handle, prefix } => {
                    if self.tag_prefix(&handle).is_some() {
                        return error("found duplicate %TAG directive");
                    }
                    self.tag_directives.push((handle, prefix));
                }
                _ => {}
            }
        }
        for (handle, prefix) in [("!", "!"), ("!!", "tag:yaml.org,2002:")] {
            if self.tag_prefix(handle).is_none() {
                self.tag_directives
                    .push((handle.to_owned(), prefix.to_owned()));
            }
        }
        Ok(())
    }

    fn tag_prefix(&self, handle: &str) -> Option<&str> {
        let mut directives = self.tag_directives.iter();
        directives
            .find(|(known, _)| known == handle)
            .map(|(_, prefix)| prefix.as_str())
    }

    fn document_content(&mut self) -> Step<'a> {
        let token = self.scanner.peek()?;
        let empty = matches!(
            token.kind,
            Kind::Version(..)
                | Kind::TagDirective { .. }
                | Kind::DocumentStart
                | Kind::DocumentEnd
                | Kind::StreamEnd
        );
        if empty {
            let mark = token.start;
            self.pop_state();
            return Ok(empty_scalar(mark));
        }
        self.node(true, false)
    }

    fn document_end(&mut self) -> Step<'a> {
        let mark = self.scanner.peek()?.start;
        if self.next_is(&[Kind::DocumentEnd])? {
            self.scanner.take()?;
        }
        self.tag_directives.clear();
        self.state = State::DocumentStart;
        Ok((Event::DocumentEnd, mark))
    }

    /// `parserc.go :: yaml_parser_parse_node`.
    fn node(&mut self, block: bool, indentless_list: bool) -> Step<'a> {
        if let Kind::Alias(name) = self.scanner.peek()?.kind {
            let mark = self.scanner.take()?.start;
            self.pop_state();
            return match self.anchors.get(name) {
                Some(id) => Ok((Event::Alias(*id), mark)),
                None => Err(SyntaxError {
                    message: "unknown anchor referenced",
                    mark,
                }),
            };
        }
        let (start, anchor, tag) = self.properties()?;
        let has_properties = anchor != 0 || !tag.is_empty();
        let kind = &self.scanner.peek()?.kind;
        let (state, event) = match kind {
            Kind::BlockEntry if indentless_list => {
                (State::IndentlessEntry, Event::ListStart(anchor))
            }
            Kind::Scalar { .. } => return self.scalar(start, anchor, tag),
            Kind::FlowListStart => (State::FlowListFirst, Event::ListStart(anchor)),
            Kind::FlowMapStart => (State::FlowMapFirst, Event::MapStart(anchor)),
            Kind::BlockListStart if block => (State::BlockListFirst, Event::ListStart(anchor)),
            Kind::BlockMapStart if block => (State::BlockMapFirst, Event::MapStart(anchor)),
            _ if has_properties => {
                self.pop_state();
                let implicit = tag.is_empty();
                return Ok((
                    Event::Scalar {
                        text: "".into(),
                        implicit,
                        tag,
                        anchor,
                    },
                    start,
                ));
            }
            _ => return self.error("did not find expected node content"),
        };
        self.state = state;
        Ok((event, start))
    }

    fn scalar(&mut self, start: Mark, anchor: usize, tag: String) -> Step<'a> {
        let token = self.scanner.take()?;
        self.pop_state();
        let (text, plain) = match token.kind {
            Kind::Scalar { text, plain } => (text, plain),
            _ => (Cow::default(), true),
        };
        let implicit = tag == "!" || plain && tag.is_empty();
        Ok((
            Event::Scalar {
                text,
                implicit,
                tag,
                anchor,
            },
            start,
        ))
    }

    /// The anchor and tag in front of a node, in either order, and where the node begins.
    fn properties(&mut self) -> Result<(Mark, usize, String), SyntaxError> {
        let start = self.scanner.peek()?.start;
        let mut anchor = None;
        let mut tag = None;
        loop {
            match &self.scanner.peek()?.kind {
                Kind::Anchor(name) if anchor.is_none() => anchor = Some(*name),
                Kind::Tag { .. } if tag.is_none() => {}
                _ => break,
            }
            if let Kind::Tag { handle, suffix } = self.scanner.take()?.kind {
                tag = Some((handle, suffix));
            }
        }
        let tag = match tag {
            None => String::new(),
            Some((handle, suffix)) if handle.is_empty() => suffix,
            Some((handle, suffix)) => match self.tag_prefix(&handle) {
                Some(prefix) => format!("{prefix}{suffix}"),
                None => {
                    return Err(SyntaxError {
                        message: "found undefined tag handle",
                        mark: start,
                    });
                }
            },
        };
        let anchor = anchor.map_or(0, |name| {
            self.anchors_seen += 1;
            self.anchors.insert(name, self.anchors_seen);
            self.anchors_seen
        });
        Ok((start, anchor, tag))
    }

    /// Reads a node that comes back to `after`.
    fn node_then(&mut self, after: State, block: bool, indentless_list: bool) -> Step<'a> {
        self.states.push(after);
        self.node(block, indentless_list)
    }

    fn empty_then(&mut self, after: State, mark: Mark) -> Step<'a> {
        self.state = after;
        Ok(empty_scalar(mark))
    }

    fn end(&mut self, event: Event<'a>) -> Step<'a> {
        let mark = self.scanner.take()?.start;
        self.pop_state();
        Ok((event, mark))
    }

    fn block_list_entry(&mut self) -> Step<'a> {
        if self.next_is(&[Kind::BlockEntry])? {
            let mark = self.scanner.take()?.end;
            if self.next_is(&[Kind::BlockEntry, Kind::BlockEnd])? {
                return self.empty_then(State::BlockListEntry, mark);
            }
            return self.node_then(State::BlockListEntry, true, false);
        }
        if self.next_is(&[Kind::BlockEnd])? {
            return self.end(Event::ListEnd);
        }
        self.error("did not find expected '-' indicator")
    }

    /// The items of a list that is indented no deeper than its key.
    fn indentless_entry(&mut self) -> Step<'a> {
        if self.next_is(&[Kind::BlockEntry])? {
            let mark = self.scanner.take()?.end;
            if self.next_is(&[Kind::BlockEntry, Kind::Key, Kind::Value, Kind::BlockEnd])? {
                return self.empty_then(State::IndentlessEntry, mark);
            }
            return self.node_then(State::IndentlessEntry, true, false);
        }
        let mark = self.scanner.peek()?.start;
        self.pop_state();
        Ok((Event::ListEnd, mark))
    }

    fn block_map_key(&mut self) -> Step<'a> {
        if self.next_is(&[Kind::Key])? {
            let mark = self.scanner.take()?.end;
            if self.next_is(&[Kind::Key, Kind::Value, Kind::BlockEnd])? {
                return self.empty_then(State::BlockMapValue, mark);
            }
            return self.node_then(State::BlockMapValue, true, true);
        }
        if self.next_is(&[Kind::BlockEnd])? {
            return self.end(Event::MapEnd);
        }
        self.error("did not find expected key")
    }

    fn block_map_value(&mut self) -> Step<'a> {
        if self.next_is(&[Kind::Value])? {
            let mark = self.scanner.take()?.end;
            if self.next_is(&[Kind::Key, Kind::Value, Kind::BlockEnd])? {
                return self.empty_then(State::BlockMapKey, mark);
            }
            return self.node_then(State::BlockMapKey, true, true);
        }
        let mark = self.scanner.peek()?.start;
        self.empty_then(State::BlockMapKey, mark)
    }

    fn flow_list_entry(&mut self, first: bool) -> Step<'a> {
        if !first && !self.next_is(&[Kind::FlowListEnd])? {
            if !self.next_is(&[Kind::FlowEntry])? {
                return self.error("did not find expected ',' or ']'");
            }
            self.scanner.take()?;
        }
        if self.next_is(&[Kind::FlowListEnd])? {
            return self.end(Event::ListEnd);
        }
        if self.next_is(&[Kind::Key])? {
            let mark = self.scanner.take()?.start;
            self.state = State::PairKey;
            return Ok((Event::MapStart(0), mark));
        }
        self.node_then(State::FlowListEntry, false, false)
    }

    fn pair_key(&mut self) -> Step<'a> {
        if self.next_is(&[Kind::Value, Kind::FlowEntry, Kind::FlowListEnd])? {
            // The token goes with the empty key, as in go-yaml.
            let mark = self.scanner.take()?.end;
            return self.empty_then(State::PairValue, mark);
        }
        self.node_then(State::PairValue, false, false)
    }

    fn pair_value(&mut self) -> Step<'a> {
        let mark = self.scanner.peek()?.start;
        if self.next_is(&[Kind::Value])? {
            self.scanner.take()?;
            if !self.next_is(&[Kind::FlowEntry, Kind::FlowListEnd])? {
                return self.node_then(State::PairEnd, false, false);
            }
        }
        self.empty_then(State::PairEnd, mark)
    }

    fn flow_map_key(&mut self, first: bool) -> Step<'a> {
        if !first && !self.next_is(&[Kind::FlowMapEnd])? {
            if !self.next_is(&[Kind::FlowEntry])? {
                return self.error("did not find expected ',' or '}'");
            }
            self.scanner.take()?;
        }
        if self.next_is(&[Kind::FlowMapEnd])? {
            return self.end(Event::MapEnd);
        }
        if self.next_is(&[Kind::Key])? {
            self.scanner.take()?;
            if self.next_is(&[Kind::Value, Kind::FlowEntry, Kind::FlowMapEnd])? {
                let mark = self.scanner.peek()?.start;
                return self.empty_then(State::FlowMapValue, mark);
            }
            return self.node_then(State::FlowMapValue, false, false);
        }
        self.node_then(State::FlowMapEmptyValue, false, false)
    }

    fn flow_map_value(&mut self) -> Step<'a> {
        let mark = self.scanner.peek()?.start;
        if self.next_is(&[Kind::Value])? {
            self.scanner.take()?;
            if !self.next_is(&[Kind::FlowEntry, Kind::FlowMapEnd])? {
                return self.node_then(State::FlowMapKey, false, false);
            }
        }
        self.empty_then(State::FlowMapKey, mark)
    }
}

fn empty_scalar<'a>(mark: Mark) -> (Event<'a>, Mark) {
    let scalar = Event::Scalar {
        text: Cow::default(),
        implicit: true,
        tag: String::new(),
        anchor: 0,
    };
    (scalar, mark)
}
