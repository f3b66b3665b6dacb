//! Numbers that are names: channels, classes, methods, delivery tags, reply codes (spec §2.2.4, §4.2.4, §1.3).
//!
//! Each is a newtype without arithmetic, so that none can be passed for another. Any value of the underlying integer is
//! legal on the wire, so construction cannot fail; what a number refers to is for the broker to find out.

use std::fmt;

macro_rules! number_newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// Wraps a number.
            #[inline]
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number as it stands on the wire.
            #[inline]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_newtype! {
    /// The number of a channel within its connection; 0 is the connection itself (spec §4.2.3).
    ChannelId(u16)
}

number_newtype! {
    /// The number of a method class (spec §4.2.4).
    ClassId(u16)
}

number_newtype! {
    /// The number of a method within its class (spec §4.2.4).
    MethodId(u16)
}

number_newtype! {
    /// The per-channel number of a delivery, or of a publish in confirm mode; 0 means "all so far" in an ack (spec §1.1).
    DeliveryTag(u64)
}

number_newtype! {
    /// A reply code (spec §1.2). The associated constants are the codes that the spec and RabbitMQ define; a client may
    /// send any other number in a close method.
    ReplyCode(u16)
}

impl ChannelId {
    /// The channel of connection-level methods and heartbeats.
    pub const ZERO: Self = Self(0);
}

impl DeliveryTag {
    /// The tag of the next delivery on the channel.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl ReplyCode {
    /// A normal close.
    pub const REPLY_SUCCESS: Self = Self(200);
    /// The content is larger than the peer accepts.
    pub const CONTENT_TOO_LARGE: Self = Self(311);
    /// A mandatory message had no queue to go to; `basic.return` only.
    pub const NO_ROUTE: Self = Self(312);
    /// An immediate message had no consumer; never sent by this broker.
    pub const NO_CONSUMERS: Self = Self(313);
    /// An operator or a shutdown closes the connection.
    pub const CONNECTION_FORCED: Self = Self(320);
    /// The virtual host path is unknown; RabbitMQ answers 530 instead.
    pub const INVALID_PATH: Self = Self(402);
    /// Permissions, a reserved name, or a failed login.
    pub const ACCESS_REFUSED: Self = Self(403);
    /// The queue or exchange does not exist.
    pub const NOT_FOUND: Self = Self(404);
    /// The queue is exclusive to another connection.
    pub const RESOURCE_LOCKED: Self = Self(405);
    /// The method's arguments do not fit the entity's state.
    pub const PRECONDITION_FAILED: Self = Self(406);
    /// A frame or method cannot be decoded.
    pub const FRAME_ERROR: Self = Self(501);
    /// A field has an illegal value.
    pub const SYNTAX_ERROR: Self = Self(502);
    /// The method is unknown or may not be sent by the peer.
    pub const COMMAND_INVALID: Self = Self(503);
    /// The channel is not open, or the method does not fit the connection's state.
    pub const CHANNEL_ERROR: Self = Self(504);
    /// The frame does not fit the content sequence.
    pub const UNEXPECTED_FRAME: Self = Self(505);
    /// The broker lacks a resource that it needs.
    pub const RESOURCE_ERROR: Self = Self(506);
    /// The peer may not do this, in this way or so often.
    pub const NOT_ALLOWED: Self = Self(530);
    /// The broker does not implement this.
    pub const NOT_IMPLEMENTED: Self = Self(540);
    /// The broker failed.
    pub const INTERNAL_ERROR: Self = Self(541);

    /// The upper-case name with which reply-texts begin; `UNKNOWN` for a number that is no defined code.
    pub const fn name(self) -> &'static str {
        match self {
            Self::REPLY_SUCCESS => "REPLY_SUCCESS",
            Self::CONTENT_TOO_LARGE => "CONTENT_TOO_LARGE",
            Self::NO_ROUTE => "NO_ROUTE",
            Self::NO_CONSUMERS => "NO_CONSUMERS",
            Self::CONNECTION_FORCED => "CONNECTION_FORCED",
            Self::INVALID_PATH => "INVALID_PATH",
            Self::ACCESS_REFUSED => "ACCESS_REFUSED",
            Self::NOT_FOUND => "NOT_FOUND",
            Self::RESOURCE_LOCKED => "RESOURCE_LOCKED",
            Self::PRECONDITION_FAILED => "PRECONDITION_FAILED",
            Self::FRAME_ERROR => "FRAME_ERROR",
            Self::SYNTAX_ERROR => "SYNTAX_ERROR",
            Self::COMMAND_INVALID => "COMMAND_INVALID",
            Self::CHANNEL_ERROR => "CHANNEL_ERROR",
            Self::UNEXPECTED_FRAME => "UNEXPECTED_FRAME",
            Self::RESOURCE_ERROR => "RESOURCE_ERROR",
            Self::NOT_ALLOWED => "NOT_ALLOWED",
            Self::NOT_IMPLEMENTED => "NOT_IMPLEMENTED",
            Self::INTERNAL_ERROR => "INTERNAL_ERROR",
            Self(_) => "UNKNOWN",
        }
    }

    /// Whether the code closes the connection rather than the channel (spec §1.2, "hard error").
    ///
    /// Codes that report no error (200) and numbers that are no defined code are not hard.
    pub const fn is_hard(self) -> bool {
        matches!(
            self,
            Self::CONNECTION_FORCED
                | Self::INVALID_PATH
                | Self::FRAME_ERROR
                | Self::SYNTAX_ERROR
                | Self::COMMAND_INVALID
                | Self::CHANNEL_ERROR
                | Self::UNEXPECTED_FRAME
                | Self::RESOURCE_ERROR
                | Self::NOT_ALLOWED
                | Self::NOT_IMPLEMENTED
                | Self::INTERNAL_ERROR
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_and_soft_codes_follow_the_table() {
        let hard: Vec<u16> = (0..1000).filter(|&code| ReplyCode::new(code).is_hard()).collect();
        assert_eq!(hard, [320, 402, 501, 502, 503, 504, 505, 506, 530, 540, 541]);
    }

    #[test]
    fn every_defined_code_has_a_name() {
        let named = (0..1000).filter(|&code| ReplyCode::new(code).name() != "UNKNOWN").count();
        assert_eq!(named, 19);
        assert_eq!(ReplyCode::NOT_FOUND.name(), "NOT_FOUND");
        assert_eq!(ReplyCode::NOT_FOUND.to_string(), "404");
    }

    #[test]
    fn delivery_tags_rise_by_one() {
        assert_eq!(DeliveryTag::new(41).next().get(), 42);
    }
}
