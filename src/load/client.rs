//! A client's connections and its patience: pools, back-off, retry budgets.
//!
//! A connection is whatever the caller says it is (a type parameter); a pool only knows which are
//! idle. Requests take the connection that was idle longest, so that all of a pool's connections
//! are used alike, and a pool opens its connections one by one until it has all of them:
//! `connections: 100` is a hundred users who each keep one connection.

use std::collections::VecDeque;
use std::time::Duration;

use super::model::Client;
use crate::engine::Time;

/// A connection kept open.
#[derive(Clone, Copy, Debug)]
struct Kept<C> {
    connection: C,
    opened: Time,
}

/// The connections that one client keeps open to one Service.
#[derive(Clone, Debug)]
pub struct Pool<C> {
    kept: Vec<Option<Kept<C>>>,
    idle: VecDeque<u32>,
    turn: u32,
}

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Pool {
            kept: Vec::new(),
            idle: VecDeque::new(),
            turn: 0,
        }
    }
}

impl<C: Copy> Pool<C> {
    /// The place in the pool for a request, or none when it must open a connection for itself.
    #[inline]
    pub fn take(&mut self, client: &Client) -> Option<u32> {
        if !client.keep_alive {
            return None;
        }
        let count = u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        if count < client.connections {
            self.kept.push(None);
            return Some(count);
        }
        if client.multiplex {
            let place = self.turn;
            self.turn = (self.turn + 1) % client.connections.max(1);
            return (client.connections > 0).then_some(place);
        }
        self.idle.pop_front()
    }

    /// The open connection at a place, unless it is too old.
    #[inline]
    pub fn connection(&mut self, place: u32, client: &Client, now: Time) -> Option<C> {
        let kept = self.kept[place as usize]?;
        let old = client
            .max_connection_age
            .is_some_and(|age| now.since(kept.opened) >= age);
        if old {
            self.kept[place as usize] = None;
            return None;
        }
        Some(kept.connection)
    }

    /// A connection was opened.
    #[inline]
    pub fn opened(&mut self, place: u32, connection: C, now: Time) {
        self.kept[place as usize] = Some(Kept {
            connection,
            opened: now,
        });
    }

    /// A connection was closed.
    #[inline]
    pub fn closed(&mut self, place: u32) {
        self.kept[place as usize] = None;
    }

    /// The request that took this place is over.
    #[inline]
    pub fn put(&mut self, place: u32, client: &Client) {
        if !client.multiplex {
            self.idle.push_back(place);
        }
    }

    /// Open connections.
    pub fn connections(&self) -> impl Iterator<Item = &C> {
        self.kept.iter().flatten().map(|kept| &kept.connection)
    }
}

/// A token bucket that limits retries to a share of the requests (gRPC's retry throttling,
/// Finagle's retry budget).
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Thousandths of a retry.
    tokens: u64,
}

/// Retries that are always allowed in a row.
const RESERVE: u64 = 10_000;

impl Default for Budget {
    fn default() -> Self {
        Budget { tokens: RESERVE }
    }
}

impl Budget {
    /// A request was sent.
    #[inline]
    pub fn request(&mut self, client: &Client) {
        if let Some(permille) = client.retry_budget_permille {
            self.tokens = (self.tokens + u64::from(permille)).min(RESERVE);
        }
    }

    /// Whether one more retry is allowed; if so it is paid for.
    pub fn retry(&mut self, client: &Client) -> bool {
        if client.retry_budget_permille.is_none() {
            return true;
        }
        let allowed = self.tokens >= 1000;
        if allowed {
            self.tokens -= 1000;
        }
        allowed
    }
}

/// How long to wait before attempt number `attempt` (1 is the first retry); `unit` in [0, 1) is the
/// jitter's draw.
pub fn backoff(client: &Client, attempt: u32, unit: f64) -> Duration {
    let doubled = client
        .backoff
        .saturating_mul(1 << attempt.saturating_sub(1).min(20));
    let full = doubled.min(client.backoff_max);
    match client.jitter {
        true => Duration::from_nanos((full.as_nanos() as f64 * unit) as u64),
        false => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_opens_all_its_connections_and_then_uses_them_in_turn() {
        let client = Client {
            connections: 3,
            ..Client::default()
        };
        let mut pool: Pool<u32> = Pool::default();
        let now = Time::ZERO;
        let mut order = Vec::new();
        for n in 0..7 {
            let place = pool.take(&client).unwrap();
            if pool.connection(place, &client, now).is_none() {
                pool.opened(place, n, now);
            }
            order.push(pool.connection(place, &client, now).unwrap());
            pool.put(place, &client);
        }
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
        // all in use: one more is not kept
        let taken: Vec<_> = (0..4).map(|_| pool.take(&client).is_some()).collect();
        assert_eq!(taken, [true, true, true, false]);
    }

    #[test]
    fn multiplexed_connections_are_never_exhausted_and_old_ones_are_replaced() {
        let client = Client {
            connections: 2,
            multiplex: true,
            max_connection_age: Some(Duration::from_secs(300)),
            ..Client::default()
        };
        let mut pool: Pool<u32> = Pool::default();
        let places: Vec<_> = (0..6).map(|_| pool.take(&client).unwrap()).collect();
        assert_eq!(places, [0, 1, 0, 1, 0, 1]);
        pool.opened(0, 5, Time::ZERO);
        let at = |secs, pool: &mut Pool<u32>| pool.connection(0, &client, Time::from_secs(secs));
        assert_eq!(at(299, &mut pool), Some(5));
        assert_eq!(at(300, &mut pool), None);
        assert_eq!(pool.connections().count(), 0);
    }

    #[test]
    fn retries_are_bounded_by_back_off_and_budget() {
        let ms = Duration::from_millis;
        let mut client = Client {
            backoff: ms(100),
            backoff_max: ms(500),
            jitter: false,
            retry_budget_permille: Some(100),
            ..Client::default()
        };
        let waits: Vec<_> = (1..=5).map(|n| backoff(&client, n, 0.5)).collect();
        assert_eq!(waits, [ms(100), ms(200), ms(400), ms(500), ms(500)]);
        client.jitter = true;
        assert_eq!(backoff(&client, 2, 0.25), ms(50));

        let mut budget = Budget::default();
        // 10 in reserve, then one for ten requests
        assert_eq!((0..20).filter(|_| budget.retry(&client)).count(), 10);
        (0..30).for_each(|_| budget.request(&client));
        assert_eq!((0..20).filter(|_| budget.retry(&client)).count(), 3);
    }
}
