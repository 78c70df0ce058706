//! Questions of the API server to admission webhooks: requests like any other, from the control plane
//! to the cluster address of a Service.
//!
//! The API server keeps connections open and uses them again (client-go's transports, with HTTP/1.1:
//! `staging/src/k8s.io/apiserver/pkg/util/webhook/client.go :: hookClientConfig`); each stays with the
//! endpoint that it was made to. It tries nothing twice.

use std::time::Duration;

use super::exchange::{Exchange, Origin};
use super::traffic::Sender;
use super::{DataPlane, Out};
use crate::api::Text;
use crate::engine::Time;
use crate::engine::draws::entity_key;
use crate::load::Key;
use crate::load::model::Client;
use crate::net::{End, Place};

/// `idleConnsPerHost` of client-go's transports.
const CONNECTIONS: u32 = 25;

impl DataPlane {
    /// Adds the API server's client of a Service's webhooks; returns its number.
    pub fn add_webhook_client(
        &mut self,
        (namespace, name): (&Text, &Text),
        (port, path): (u16, &Text),
        timeout: Duration,
    ) -> u32 {
        let target = self.net.cluster_target(namespace, name, port);
        let client = Client {
            connections: CONNECTIONS,
            timeout,
            retries: 0,
            addresses: 1,
            ..Client::default()
        };
        let entity = entity_key(&["webhook", namespace, name, &port.to_string()]);
        let sender = Sender::new(name.clone(), None, client, target, entity);
        self.senders.push(sender);
        let number = u32::try_from(self.senders.len() - 1).unwrap_or(u32::MAX);
        self.posts_to(number, path.clone());
        number
    }

    /// Asks a webhook; answered in [`Out::webhooks`]. `entity` is the question's, for draws.
    pub fn ask_webhook(
        &mut self,
        client: u32,
        question: Key,
        entity: u64,
        now: Time,
        out: &mut Out,
    ) {
        let from = End::from(Place::CONTROL_PLANE);
        let origin = Origin::Webhook(question);
        self.senders[client as usize].tally.send(now);
        let exchange = Exchange::new(entity, client, origin, from, now);
        let key = self.exchanges.insert(exchange);
        self.attempt(key, now, out);
    }
}
