//! AMQP 0-9-1 wire codec with RabbitMQ's extensions: octets to values and back, both directions.
//!
//! Decoding has two stages. [`split_frame`] finds the envelope of a frame (seven octets, payload, end octet) without
//! allocating; the payload is then parsed by a parser that must consume it all: [`Method::decode`] for method frames,
//! [`HeaderRef::decode`] and [`PropertiesRef::decode`] for content headers. Bad content therefore cannot desynchronise
//! the stream.
//!
//! Invariants: no input panics; nothing is allocated on the peer's word, and what is allocated is a small multiple of the
//! octets present; a value that exists can be encoded.
//! Not here: what a method means, which reply code an error becomes, any state between two frames, any I/O.

pub mod edit;
pub mod encode;
pub mod error;
pub mod frame;
pub mod ids;
pub mod method;
pub mod properties;
pub mod string;
pub mod table;
pub mod table_ref;
pub mod value;
mod wire;

pub use edit::{with_header, with_reply_to, without_header};
pub use encode::{begin_frame, encode_content, encode_heartbeat, end_frame};
pub use error::{DecodeError, FrameError, StringTooLong, TableError};
pub use frame::{
    FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD_BYTES, FrameKind, PROTOCOL_HEADER, RawFrame, erlang_binary,
    erlang_octets, split_frame,
};
pub use ids::{ChannelId, ClassId, DeliveryTag, MethodId, ReplyCode};
pub use method::{ArgumentMut, Method, access, basic, channel, confirm, connection, exchange, peek_ids, queue, tx};
pub use properties::{BasicProperties, HeaderRef, PropertiesRef};
pub use string::{LongString, ShortString};
pub use table::{MAX_TABLE_DEPTH, decode_table, decode_table_content, validate_table_content};
pub use table_ref::{Entries, EntryRef, Items, ValueRef, table_entries};
pub use value::{FieldTable, FieldValue};
