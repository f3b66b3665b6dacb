//! Class basic: publishing, delivering, acknowledging (spec §1.8, with RabbitMQ's nack).
//!
//! For the two methods that make up nearly all traffic there are forms that borrow their strings, [`PublishRef`] and
//! [`DeliverRef`].

use crate::encode::{begin_frame, end_frame, put_short_string, put_u64};
use crate::error::DecodeError;
use crate::frame::FrameKind;
use crate::ids::{ChannelId, DeliveryTag, ReplyCode};
use crate::method::put_ids;
use crate::string::ShortString;
use crate::value::FieldTable;
use crate::wire::{FieldError, Reader, Writer};

method! {
    /// Limits what is delivered before it is acknowledged (spec §1.8.3.1).
    Qos(60, 10, "basic.qos")[] {
        /// The limit in octets; 0 is none.
        prefetch_size: u32,
        /// The limit in messages; 0 is none.
        prefetch_count: u16,
        /// Whether the limit is the channel's, not that of each consumer (RabbitMQ's reading).
        global: bool,
    }
}

method! {
    /// The limits hold (spec §1.8.3.2).
    QosOk(60, 11, "basic.qos-ok")[server]
}

method! {
    /// Starts a consumer (spec §1.8.3.3).
    Consume(60, 20, "basic.consume")[ticket] {
        /// The queue; empty for the one last declared.
        queue: ShortString,
        /// The consumer's name; empty to have the server choose one.
        consumer_tag: ShortString,
        /// Whether to leave out messages published on this connection.
        no_local: bool,
        /// Whether a delivery counts as acknowledged at once.
        no_ack: bool,
        /// Whether it shall be the queue's only consumer.
        exclusive: bool,
        /// Whether the client wants no reply.
        no_wait: bool,
        /// Arguments of the consumer.
        arguments: FieldTable,
    }
}

method! {
    /// The consumer is there (spec §1.8.3.4).
    ConsumeOk(60, 21, "basic.consume-ok")[server] {
        /// Its name.
        consumer_tag: ShortString,
    }
}

method! {
    /// Ends a consumer (spec §1.8.3.5); sent by a server that cannot go on delivering to it (RabbitMQ).
    Cancel(60, 30, "basic.cancel")[] {
        /// Its name.
        consumer_tag: ShortString,
        /// Whether the sender wants no reply.
        no_wait: bool,
    }
}

method! {
    /// The consumer has ended (spec §1.8.3.6).
    CancelOk(60, 31, "basic.cancel-ok")[] {
        /// Its name.
        consumer_tag: ShortString,
    }
}

method! {
    /// Publishes a message (spec §1.8.3.7).
    Publish(60, 40, "basic.publish")[ticket, content] {
        /// The exchange; empty for the default one.
        exchange: ShortString,
        /// The routing key.
        routing_key: ShortString,
        /// Whether to return the message if no queue gets it.
        mandatory: bool,
        /// Whether to return the message if no consumer can have it at once.
        immediate: bool,
    }
}

method! {
    /// Returns a message that could not be routed (spec §1.8.3.8).
    Return(60, 50, "basic.return")[server, content] {
        /// Why.
        reply_code: ReplyCode,
        /// Why, in words.
        reply_text: ShortString,
        /// The exchange it was published to.
        exchange: ShortString,
        /// The routing key it was published with.
        routing_key: ShortString,
    }
}

method! {
    /// Delivers a message to a consumer (spec §1.8.3.9).
    Deliver(60, 60, "basic.deliver")[server, content] {
        /// The consumer.
        consumer_tag: ShortString,
        /// The number of the delivery on its channel.
        delivery_tag: DeliveryTag,
        /// Whether it may have been delivered before.
        redelivered: bool,
        /// The exchange it was published to.
        exchange: ShortString,
        /// The routing key it was published with.
        routing_key: ShortString,
    }
}

method! {
    /// Asks for one message (spec §1.8.3.10).
    Get(60, 70, "basic.get")[ticket] {
        /// The queue; empty for the one last declared.
        queue: ShortString,
        /// Whether the message counts as acknowledged at once.
        no_ack: bool,
    }
}

method! {
    /// Hands over a message (spec §1.8.3.11).
    GetOk(60, 71, "basic.get-ok")[server, content] {
        /// The number of the delivery on its channel.
        delivery_tag: DeliveryTag,
        /// Whether it may have been delivered before.
        redelivered: bool,
        /// The exchange it was published to.
        exchange: ShortString,
        /// The routing key it was published with.
        routing_key: ShortString,
        /// The number of messages still ready.
        message_count: u32,
    }
}

method! {
    /// There is no message (spec §1.8.3.12).
    GetEmpty(60, 72, "basic.get-empty")[server] {
        /// Reserved.
        cluster_id: ShortString,
    }
}

method! {
    /// Acknowledges deliveries (spec §1.8.3.13); from the server it confirms publishes (RabbitMQ).
    Ack(60, 80, "basic.ack")[] {
        /// Which; with `multiple`, 0 means all so far.
        delivery_tag: DeliveryTag,
        /// Whether all up to this one are meant.
        multiple: bool,
    }
}

method! {
    /// Refuses a delivery (spec §1.8.3.14).
    Reject(60, 90, "basic.reject")[] {
        /// Which.
        delivery_tag: DeliveryTag,
        /// Whether the message goes back to its queue.
        requeue: bool,
    }
}

method! {
    /// As [`Recover`], without a reply (spec §1.8.3.15).
    RecoverAsync(60, 100, "basic.recover-async")[] {
        /// Whether the messages go back to their queue.
        requeue: bool,
    }
}

method! {
    /// Asks for the channel's unacked messages once more (spec §1.8.3.16).
    Recover(60, 110, "basic.recover")[] {
        /// Whether the messages go back to their queue.
        requeue: bool,
    }
}

method! {
    /// The messages are on their way (spec §1.8.3.17).
    RecoverOk(60, 111, "basic.recover-ok")[server]
}

method! {
    /// Refuses deliveries; from the server it reports publishes that failed (RabbitMQ).
    Nack(60, 120, "basic.nack")[] {
        /// Which; with `multiple`, 0 means all so far.
        delivery_tag: DeliveryTag,
        /// Whether all up to this one are meant.
        multiple: bool,
        /// Whether the messages go back to their queue.
        requeue: bool,
    }
}

/// A [`Publish`] that borrows its strings from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishRef<'a> {
    /// The exchange; empty for the default one.
    pub exchange: &'a [u8],
    /// The routing key.
    pub routing_key: &'a [u8],
    /// Whether to return the message if no queue gets it.
    pub mandatory: bool,
    /// Whether to return the message if no consumer can have it at once.
    pub immediate: bool,
}

impl<'a> PublishRef<'a> {
    /// Decodes the octets after the ids, all of which must belong to the arguments.
    #[inline]
    pub fn decode(arguments: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(arguments).map_err(|error| error.of(Publish::CLASS, Publish::METHOD, arguments))
    }

    #[inline]
    fn read(arguments: &'a [u8]) -> Result<Self, FieldError> {
        let mut reader = Reader::new(arguments, false);
        let _ticket: u16 = reader.read()?;
        let publish = Self {
            exchange: reader.short_octets()?,
            routing_key: reader.short_octets()?,
            mandatory: reader.read()?,
            immediate: reader.read()?,
        };
        reader.finish()?;
        Ok(publish)
    }
}

/// A [`Deliver`] that borrows its strings, each of at most 255 octets, from wherever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverRef<'a> {
    /// The consumer.
    pub consumer_tag: &'a [u8],
    /// The number of the delivery on its channel.
    pub delivery_tag: DeliveryTag,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// The exchange it was published to.
    pub exchange: &'a [u8],
    /// The routing key it was published with.
    pub routing_key: &'a [u8],
}

impl DeliverRef<'_> {
    /// Appends the whole method frame.
    #[inline]
    pub fn encode_frame(&self, channel: ChannelId, out: &mut Vec<u8>) {
        let mark = begin_frame(out, FrameKind::Method, channel);
        put_ids(out, (Deliver::CLASS, Deliver::METHOD));
        put_short_string(out, self.consumer_tag);
        put_u64(out, self.delivery_tag.get());
        Writer::new(out).write(&self.redelivered);
        put_short_string(out, self.exchange);
        put_short_string(out, self.routing_key);
        end_frame(out, mark);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::Method;

    #[test]
    fn the_borrowed_publish_agrees_with_the_owned_one() {
        let arguments = b"\0\x01\x02ex\x03key\x03";
        let owned = Publish::decode(arguments).expect("the arguments are valid");
        let borrowed = PublishRef::decode(arguments).expect("the arguments are valid");
        assert_eq!(owned.exchange.as_bytes(), borrowed.exchange);
        assert_eq!(owned.routing_key.as_bytes(), borrowed.routing_key);
        assert_eq!((owned.mandatory, owned.immediate), (borrowed.mandatory, borrowed.immediate));
        for end in 0..arguments.len() {
            let error = PublishRef::decode(&arguments[..end]).expect_err("the arguments are cut");
            assert_eq!(Publish::decode(&arguments[..end]), Err(error));
        }
        assert!(PublishRef::decode(b"\0\0\0\0\0\0").is_err());
    }

    #[test]
    fn the_borrowed_deliver_agrees_with_the_owned_one() {
        let owned = Deliver {
            consumer_tag: ShortString::from_static("ctag"),
            delivery_tag: DeliveryTag::new(7),
            redelivered: true,
            exchange: ShortString::from_static("ex"),
            routing_key: ShortString::from_static("key"),
        };
        let borrowed = DeliverRef {
            consumer_tag: b"ctag",
            delivery_tag: DeliveryTag::new(7),
            redelivered: true,
            exchange: b"ex",
            routing_key: b"key",
        };
        let (mut expected, mut out) = (Vec::new(), Vec::new());
        Method::from(owned).encode_frame(ChannelId::new(5), &mut expected);
        borrowed.encode_frame(ChannelId::new(5), &mut out);
        assert_eq!(out, expected);
    }
}
