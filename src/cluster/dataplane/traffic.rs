//! Where requests of users begin, and what every kind of client has in common.

use std::sync::Arc;

use super::client::Line;
use super::exchange::{Exchange, NONE, Origin};
use super::{DataPlane, Event, Out};
use crate::api::Text;
use crate::engine::Time;
use crate::engine::draws::{Purpose, entity_key};
use crate::load::arrivals::Arrivals;
use crate::load::client::{Budget, Pool};
use crate::load::model::{Call, Client, Executor, Traffic};
use crate::load::{Key, Tally};
use crate::net::{End, Place, Target};

/// Identity of a request of a sender.
const REQUEST: Purpose = Purpose::new("load/request");

/// A kind of client: a Traffic, or a call of an AppModel (whose pools belong to the processes).
#[derive(Debug)]
pub struct Sender {
    /// Name of the Traffic, or of the Service that is called.
    pub name: Text,
    /// The calling model; none for a Traffic.
    pub caller: Option<Text>,
    /// Key for draws.
    pub entity: u64,
    /// How it behaves.
    pub client: Arc<Client>,
    /// What it connects to.
    pub target: Target,
    /// Where a Traffic comes from; none is the edge.
    pub from: Option<Text>,
    /// What came of it.
    pub tally: Tally,
    /// A Traffic's connections.
    pub pool: Pool<Line>,
    /// Retries allowed.
    pub budget: Budget,
    /// Attempts that wait for an answer, oldest first: they run out of time in this order.
    pub oldest: Key,
    /// See `oldest`.
    pub newest: Key,
    /// Whether an [`Event::Expire`] is pending.
    pub watched: bool,
    /// Arrivals of an arrival-rate executor, and the request that comes next.
    arrivals: Option<Arrivals>,
    next: u64,
    /// Users of a closed executor: until when, and how long they pause.
    closed: Option<(Time, std::time::Duration)>,
}

impl Sender {
    pub(super) fn new(
        name: Text,
        caller: Option<Text>,
        client: Client,
        target: Target,
        entity: u64,
    ) -> Self {
        Sender {
            name,
            caller,
            entity,
            client: Arc::new(client),
            target,
            from: None,
            tally: Tally::default(),
            pool: Pool::default(),
            budget: Budget::default(),
            oldest: Key::NONE,
            newest: Key::NONE,
            watched: false,
            arrivals: None,
            next: 0,
            closed: None,
        }
    }
}

impl DataPlane {
    /// Adds a Traffic; its start is counted from `now`, the beginning of the run's own time. Returns
    /// its number, as [`DataPlane::tallies`] counts.
    pub fn add_traffic(&mut self, traffic: &Traffic, now: Time, out: &mut Out) -> usize {
        let target = self.net.target(&traffic.to, &traffic.namespace);
        let entity = entity_key(&["traffic", &traffic.namespace, &traffic.name]);
        let name = traffic.name.clone();
        let mut sender = Sender::new(name, None, traffic.client.clone(), target, entity);
        sender.from = traffic.from.clone();
        let start = now + traffic.start;
        sender.arrivals = Arrivals::new(traffic, start);
        let number = u32::try_from(self.senders.len()).unwrap_or(u32::MAX);
        if let Executor::ConstantVus {
            vus,
            duration,
            pause,
        } = traffic.executor
        {
            sender.closed = Some((start + duration, pause));
            for user in 0..vus {
                let sender = number;
                out.at(start, Event::User { sender, user });
            }
        }
        self.senders.push(sender);
        self.traffics.push(number);
        self.schedule_arrival(number, out);
        self.traffics.len() - 1
    }

    /// Adds the client of a model's call; returns its number.
    pub(super) fn add_call(
        &mut self,
        model: &Text,
        namespace: &Text,
        n: usize,
        call: &Call,
    ) -> u32 {
        let target = self.net.target(&call.service, namespace);
        let entity = entity_key(&["call", namespace, model, &call.service, &n.to_string()]);
        let caller = Some(model.clone());
        let client = call.client.clone();
        let sender = Sender::new(call.service.clone(), caller, client, target, entity);
        self.senders.push(sender);
        u32::try_from(self.senders.len() - 1).unwrap_or(u32::MAX)
    }

    fn schedule_arrival(&mut self, number: u32, out: &mut Out) {
        let draws = &self.draws;
        let sender = &mut self.senders[number as usize];
        let Some(arrivals) = &mut sender.arrivals else {
            return;
        };
        if let Some((n, at)) = arrivals.next(draws, sender.entity) {
            sender.next = n;
            out.at(at, Event::Arrive(number));
        }
    }

    /// A request of an arrival-rate executor.
    pub(super) fn arrive(&mut self, number: u32, now: Time, out: &mut Out) {
        let n = self.senders[number as usize].next;
        self.schedule_arrival(number, out);
        self.send_for_user(number, n, NONE, now, out);
    }

    /// A user of a closed executor sends the next request.
    pub(super) fn user(&mut self, number: u32, user: u32, now: Time, out: &mut Out) {
        let sender = &mut self.senders[number as usize];
        if sender.closed.is_none_or(|(end, _)| now >= end) {
            return;
        }
        let n = sender.next;
        sender.next += 1;
        self.send_for_user(number, n, user, now, out);
    }

    fn send_for_user(&mut self, number: u32, n: u64, user: u32, now: Time, out: &mut Out) {
        let sender = &mut self.senders[number as usize];
        sender.tally.send(now);
        let entity = self.draws.u64(REQUEST, sender.entity, n);
        let place = sender.from.as_ref().and_then(|node| self.net.place(node));
        let from = End::from(place.unwrap_or(Place::EDGE));
        let mut exchange = Exchange::new(entity, number, Origin::User(user), from, now);
        exchange.address = match sender.client.addresses {
            0 => n,
            count => n % u64::from(count),
        };
        let key = self.exchanges.insert(exchange);
        self.attempt(key, now, out);
    }

    /// After a request of a closed executor ended at `at`, its user goes on.
    pub(super) fn next_of_user(&self, number: u32, user: u32, at: Time, out: &mut Out) {
        if user == NONE {
            return;
        }
        if let Some((end, pause)) = self.senders[number as usize].closed
            && at + pause < end
        {
            let sender = number;
            out.at(at + pause, Event::User { sender, user });
        }
    }
}
