//! Publishes whose header has a table or a `reply-to`: what may have to be looked at or changed before they are routed.
//!
//! A message without both never comes here; one with a table that the broker does not act on costs a look at its names.
//! Order of the checks as RabbitMQ's: exchange, properties, `reply-to`, `expiration`, `CC` and `BCC`, `user-id`.

use std::borrow::Cow;

use leveret_protocol::{PropertiesRef, ShortString, with_reply_to, without_header};

use super::publishing::{Asker, ContentRef, expiration_of};
use super::session::Session;
use crate::engine::channel::copies::{BCC, copies};
use crate::engine::directory::{Resource, Right};
use crate::engine::exchange::Routing;
use crate::engine::names::REPLY_QUEUE;
use crate::error::AmqpError;

/// The bits of the first property flags' octet that stand for a header table and a `reply-to`.
const MARKS: u8 = 0x20 | 0x02;

/// Whether a publish with these properties has to go through [`Session::publish_marked`].
#[inline]
pub(super) fn is_marked(properties: &[u8]) -> bool {
    properties.first().is_some_and(|flags| flags & MARKS != 0)
}

impl Session {
    /// A complete content whose properties are marked came on an open channel.
    pub(super) fn publish_marked(&mut self, at: usize, content: &ContentRef<'_>) -> Result<(), AmqpError> {
        let Ok(properties) = PropertiesRef::decode(content.properties) else {
            self.check_exchange(content)?;
            return Err(AmqpError::UndecodableProperties);
        };
        let copies = properties.headers.map_or(Ok(None), copies);
        let wants_reply = properties.reply_to == Some(REPLY_QUEUE);
        if !wants_reply && matches!(copies, Ok(None)) {
            let traits = self.traits_of(&properties);
            return self.route_and_accept(at, content, traits);
        }
        self.check_exchange(content)?;
        let whole = if wants_reply {
            let name = self.channels[at]
                .reply_name()
                .ok_or_else(|| AmqpError::BadArgument("fast reply consumer does not exist".to_owned()))?;
            Cow::Owned(with_reply_to(content.properties, name))
        } else {
            Cow::Borrowed(content.properties)
        };
        expiration_of(&properties)?;
        let copies = copies?;
        let traits = self.traits_of(&properties)?;
        let Some(copies) = copies else {
            let content = ContentRef { properties: &whole, body: content.body.clone(), ..*content };
            return self.route_and_accept(at, &content, Ok(traits));
        };
        let shown = if copies.has_bcc { Cow::Owned(without_header(&whole, BCC)) } else { Cow::Borrowed(&*whole) };
        let content = ContentRef { properties: &shown, body: content.body.clone(), ..*content };
        let keys: Vec<&[u8]> = std::iter::once(content.routing_key).chain(copies.keys).collect();
        let routing = Routing::new(&keys, &whole, self.registry.random());
        let message = || Some(content.to_arena(traits, self.now));
        let asker = Asker { registry: &self.registry, vhost: &self.vhost, user: &self.user, rights: &mut self.rights };
        let (targets, _) = self.routes.ask(asker, content.exchange, &routing, &message)?;
        let number = self.routes.exchanges.number(&self.vhost, content.exchange);
        self.routes.exchanges.select(number);
        self.accept(at, &content, targets, traits)
    }

    fn check_exchange(&mut self, content: &ContentRef<'_>) -> Result<(), AmqpError> {
        self.access().check(Right::Write, Resource::Exchange(content.exchange))?;
        let exchange = ShortString::try_from(content.exchange).map_err(|_| AmqpError::Internal)?;
        self.vhost.state.read().check_publish(&exchange)
    }
}
