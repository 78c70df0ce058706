//! Proxies that HTTPChaos puts before pods: requests and answers that are aborted, held up, or given
//! another status.
//!
//! What a request asks for is known as far as it goes: users and calls send `GET /`, the API server
//! posts to the paths of webhooks, HTTP probes get theirs. A status is that of what came of the
//! request: 200, 500, 503 (the queue was full), 502 (a call that it needed failed); whoever reads an
//! answer takes every other status from 400 on for an error of the application. Probes pass the
//! proxy too, and feel what is done to requests when they are answered.

use std::collections::BTreeSet;
use std::time::Duration;

use super::exchange::{Exchange, Origin, Stage, Status};
use super::{DataPlane, Event, Out};
use crate::api::Text;
use crate::engine::Time;
use crate::fault::HttpFault;
use crate::load::Key;
use crate::load::tally::{Cause, Class};

/// Proxies in force, and what is known of paths.
#[derive(Debug, Default)]
pub struct Proxies {
    rules: Vec<(u32, BTreeSet<u32>, HttpFault)>,
    next: u32,
    /// Paths of probes; an exchange has its number, from 1.
    paths: Vec<Text>,
    /// And of webhooks, by the number of their client.
    posts: Vec<(u32, Text)>,
}

impl Proxies {
    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Method and path of what an exchange asks for; none where it is not HTTP.
    fn asks(&self, exchange: &Exchange) -> Option<(&'static str, &str)> {
        match exchange.origin {
            Origin::User(_) | Origin::Call(_) => Some(("GET", "/")),
            Origin::Webhook(_) => {
                let mut posts = self.posts.iter();
                let path = posts.find(|(client, _)| *client == exchange.sender);
                Some(("POST", path.map_or("/", |(_, path)| path)))
            }
            Origin::Probe(..) | Origin::Hook(_) => {
                let number = usize::try_from(exchange.address).ok()?.checked_sub(1)?;
                Some(("GET", self.paths.get(number)?))
            }
        }
    }

    /// The rules of a target that an exchange meets.
    fn met<'a>(
        &'a self,
        exchange: &Exchange,
        response: bool,
    ) -> impl Iterator<Item = &'a HttpFault> + use<'a> {
        let asks = self.asks(exchange);
        let (pod, port) = (exchange.pod, exchange.port);
        self.rules.iter().filter_map(move |(_, pods, what)| {
            let (method, path) = asks?;
            let taken = |pattern: &Text| crate::net::dns::matches(pattern, path);
            let meets = what.response == response
                && what.port == port
                && pods.contains(&pod)
                && what.method.as_ref().is_none_or(|wanted| *wanted == *method)
                && what.path.as_ref().is_none_or(taken);
            meets.then_some(what)
        })
    }
}

/// The status of an answer; none where there is no HTTP answer at all.
fn code(status: Status) -> Option<u16> {
    match status {
        Status::Ok => Some(200),
        Status::Failed(Cause::Error, _) => Some(500),
        Status::Failed(Cause::Unavailable, _) => Some(503),
        Status::Failed(Cause::Downstream, _) => Some(502),
        Status::Failed(..) => None,
    }
}

/// What whoever reads an answer of this status makes of it.
fn status(code: u16) -> Status {
    match code {
        0..400 => Status::Ok,
        503 => Status::Failed(Cause::Unavailable, Class::Network),
        502 | 504 => Status::Failed(Cause::Downstream, Class::Network),
        _ => Status::Failed(Cause::Error, Class::Network),
    }
}

const ABORTED: Status = Status::Failed(Cause::Reset, Class::Network);

impl DataPlane {
    /// Puts a proxy before some pods; returns its number.
    pub fn add_http_fault(&mut self, pods: BTreeSet<u32>, what: HttpFault) -> u32 {
        let number = self.http.next;
        self.http.next += 1;
        self.http.rules.push((number, pods, what));
        number
    }

    /// Takes it away.
    pub fn remove_http_fault(&mut self, number: u32) {
        self.http.rules.retain(|(known, ..)| *known != number);
    }

    /// Notes what a client of webhooks posts to.
    pub(super) fn posts_to(&mut self, client: u32, path: Text) {
        self.http.posts.push((client, path));
    }

    /// The number of a probe's path.
    pub(super) fn http_path(&mut self, path: &Text) -> u64 {
        let paths = &mut self.http.paths;
        let at = paths.iter().position(|known| known == path);
        let at = at.unwrap_or_else(|| {
            paths.push(path.clone());
            paths.len() - 1
        });
        at as u64 + 1
    }

    /// A request arrives at a pod: whether a proxy keeps it from the process for now, or for good.
    pub(super) fn request_is_held(&mut self, key: Key, now: Time, out: &mut Out) -> bool {
        let exchange = &self.exchanges[key];
        if exchange.proxied {
            return false;
        }
        let (mut delay, mut abort) = (Duration::ZERO, false);
        for what in self.http.met(exchange, false) {
            delay += what.delay;
            abort |= what.abort;
        }
        if abort {
            self.answer(key, ABORTED, now, out);
        } else if !delay.is_zero() {
            self.exchanges[key].proxied = true;
            out.at(now + delay, Event::Deliver(key));
        }
        abort || !delay.is_zero()
    }

    /// What proxies make of an answer; none while one of them holds it up.
    pub(super) fn proxied_answer(
        &mut self,
        key: Key,
        said: Status,
        now: Time,
        out: &mut Out,
    ) -> Option<Status> {
        let exchange = &self.exchanges[key];
        let probe = matches!(exchange.origin, Origin::Probe(..) | Origin::Hook(_));
        let Some(mut shown) = code(said) else {
            return Some(said);
        };
        let (mut delay, mut abort, mut changed) = (Duration::ZERO, false, false);
        let requests = self.http.met(exchange, false).filter(|_| probe);
        let answers = self.http.met(exchange, true);
        for what in requests.chain(answers) {
            if what.code.is_some_and(|wanted| wanted != shown) {
                continue;
            }
            delay += what.delay;
            abort |= what.abort;
            if let Some(code) = what.replace_code {
                (shown, changed) = (code, true);
            }
        }
        if !delay.is_zero() && !exchange.answer_held {
            let exchange = &mut self.exchanges[key];
            exchange.answer_held = true;
            exchange.stage = Stage::Answering(said);
            out.at(now + delay, Event::Resend(key));
            return None;
        }
        Some(match (abort, changed) {
            (true, _) => ABORTED,
            (false, true) => status(shown),
            (false, false) => said,
        })
    }
}
