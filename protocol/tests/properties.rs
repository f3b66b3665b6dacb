//! Properties of the codec: round trips, splitting, no panics, bounded memory.

use bytes::Bytes;
use leveret_protocol::encode::{put_long_octets, put_short_string};
use leveret_protocol::table::put_table;
use leveret_protocol::{
    BasicProperties, ChannelId, DecodeError, FieldTable, FieldValue, FrameError, HeaderRef, LongString, Method,
    PropertiesRef, ShortString, basic, decode_table, decode_table_content, encode_content, encode_heartbeat,
    erlang_octets, peek_ids, split_frame, validate_table_content,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// All methods: ids, name, and arguments in wire order. This list is written from the specification's catalogue, not
/// from the crate's own, and so checks it.
///
/// `k` ticket, `b` one bit, `1` `2` `4` `8` integers of so many octets, `s` short string, `o` short string of any octets,
/// `l` long string, `t` table.
const METHODS: &[(u16, u16, &str, &str)] = &[
    (10, 10, "connection.start", "11tll"),
    (10, 11, "connection.start-ok", "tsls"),
    (10, 20, "connection.secure", "l"),
    (10, 21, "connection.secure-ok", "l"),
    (10, 30, "connection.tune", "242"),
    (10, 31, "connection.tune-ok", "242"),
    (10, 40, "connection.open", "ssb"),
    (10, 41, "connection.open-ok", "s"),
    (10, 50, "connection.close", "2s22"),
    (10, 51, "connection.close-ok", ""),
    (10, 60, "connection.blocked", "s"),
    (10, 61, "connection.unblocked", ""),
    (10, 70, "connection.update-secret", "ls"),
    (10, 71, "connection.update-secret-ok", ""),
    (20, 10, "channel.open", "s"),
    (20, 11, "channel.open-ok", "l"),
    (20, 20, "channel.flow", "b"),
    (20, 21, "channel.flow-ok", "b"),
    (20, 40, "channel.close", "2s22"),
    (20, 41, "channel.close-ok", ""),
    (30, 10, "access.request", "sbbbbb"),
    (30, 11, "access.request-ok", "2"),
    (40, 10, "exchange.declare", "kssbbbbbt"),
    (40, 11, "exchange.declare-ok", ""),
    (40, 20, "exchange.delete", "ksbb"),
    (40, 21, "exchange.delete-ok", ""),
    (40, 30, "exchange.bind", "ksssbt"),
    (40, 31, "exchange.bind-ok", ""),
    (40, 40, "exchange.unbind", "ksssbt"),
    (40, 51, "exchange.unbind-ok", ""),
    (50, 10, "queue.declare", "ksbbbbbt"),
    (50, 11, "queue.declare-ok", "s44"),
    (50, 20, "queue.bind", "ksssbt"),
    (50, 21, "queue.bind-ok", ""),
    (50, 30, "queue.purge", "ksb"),
    (50, 31, "queue.purge-ok", "4"),
    (50, 40, "queue.delete", "ksbbb"),
    (50, 41, "queue.delete-ok", "4"),
    (50, 50, "queue.unbind", "kssst"),
    (50, 51, "queue.unbind-ok", ""),
    (60, 10, "basic.qos", "42b"),
    (60, 11, "basic.qos-ok", ""),
    (60, 20, "basic.consume", "kssbbbbt"),
    (60, 21, "basic.consume-ok", "s"),
    (60, 30, "basic.cancel", "sb"),
    (60, 31, "basic.cancel-ok", "s"),
    (60, 40, "basic.publish", "koobb"),
    (60, 50, "basic.return", "2ooo"),
    (60, 60, "basic.deliver", "o8boo"),
    (60, 70, "basic.get", "ksb"),
    (60, 71, "basic.get-ok", "8boo4"),
    (60, 72, "basic.get-empty", "s"),
    (60, 80, "basic.ack", "8b"),
    (60, 90, "basic.reject", "8b"),
    (60, 100, "basic.recover-async", "b"),
    (60, 110, "basic.recover", "b"),
    (60, 111, "basic.recover-ok", ""),
    (60, 120, "basic.nack", "8bb"),
    (85, 10, "confirm.select", "b"),
    (85, 11, "confirm.select-ok", ""),
    (90, 10, "tx.select", ""),
    (90, 11, "tx.select-ok", ""),
    (90, 20, "tx.commit", ""),
    (90, 21, "tx.commit-ok", ""),
    (90, 30, "tx.rollback", ""),
    (90, 31, "tx.rollback-ok", ""),
];

/// The number of arguments of `exchange.declare`, which has most.
const MOST_ARGUMENTS: usize = 9;

/// What one argument is made of, whatever its type; tables apart.
#[derive(Clone, Debug)]
struct Material {
    number: u64,
    text: String,
    octets: Vec<u8>,
}

fn any_material() -> impl Strategy<Value = Material> {
    (any::<u64>(), "\\PC{0,40}", vec(any::<u8>(), 0..100)).prop_map(|(number, text, octets)| Material {
        number,
        text,
        octets,
    })
}

/// The payload of a method with these arguments, built without the crate's method code.
fn method_payload(class: u16, method: u16, arguments: &str, materials: &[Material], table: &FieldTable) -> Vec<u8> {
    let mut out = [class.to_be_bytes(), method.to_be_bytes()].concat();
    let mut next_bit = 0;
    assert!(arguments.len() <= materials.len(), "not enough material");
    for (argument, material) in arguments.chars().zip(materials) {
        let number = material.number.to_be_bytes();
        if argument == 'b' {
            if next_bit % 8 == 0 {
                out.push(0);
            }
            let octet = out.last_mut().expect("an octet has been pushed");
            *octet |= (number[7] & 1) << (next_bit % 8);
            next_bit += 1;
            continue;
        }
        next_bit = 0;
        match argument {
            'k' => out.extend([0, 0]),
            '1' => out.extend(&number[7..]),
            '2' => out.extend(&number[6..]),
            '4' => out.extend(&number[4..]),
            '8' => out.extend(number),
            's' => put_short_string(&mut out, material.text.as_bytes()),
            'o' => put_short_string(&mut out, &material.octets),
            'l' => put_long_octets(&mut out, &material.octets),
            't' => put_table(&mut out, table),
            other => panic!("the catalogue has no argument type {other}"),
        }
    }
    out
}

/// Any method with any arguments: what the catalogue says of it, and its payload.
fn any_method() -> impl Strategy<Value = (u16, u16, &'static str, Vec<u8>)> {
    (0..METHODS.len(), vec(any_material(), MOST_ARGUMENTS), any_table()).prop_map(|(index, materials, table)| {
        let (class, method, name, arguments) = METHODS[index];
        (class, method, name, method_payload(class, method, arguments, &materials, &table))
    })
}

fn any_short_string() -> impl Strategy<Value = ShortString> {
    vec(any::<u8>(), 0..=255).prop_map(|octets| octets.try_into().expect("at most 255 octets"))
}

/// A short name, so that duplicates occur.
fn any_name() -> impl Strategy<Value = ShortString> {
    prop_oneof!["[ab]{0,2}".prop_map(|name| ShortString::try_from(name).expect("at most 2 octets")), any_short_string(),]
}

fn any_leaf() -> impl Strategy<Value = FieldValue> {
    // Equality of the values decides, so NaN, which equals nothing, is left out.
    let float = proptest::num::f32::POSITIVE | proptest::num::f32::NEGATIVE | proptest::num::f32::ZERO;
    let double = proptest::num::f64::POSITIVE | proptest::num::f64::NEGATIVE | proptest::num::f64::INFINITE;
    prop_oneof![
        any::<bool>().prop_map(FieldValue::Boolean),
        any::<i8>().prop_map(FieldValue::Int8),
        any::<u8>().prop_map(FieldValue::UInt8),
        any::<i16>().prop_map(FieldValue::Int16),
        any::<u16>().prop_map(FieldValue::UInt16),
        any::<i32>().prop_map(FieldValue::Int32),
        any::<u32>().prop_map(FieldValue::UInt32),
        any::<i64>().prop_map(FieldValue::Int64),
        float.prop_map(FieldValue::Float),
        double.prop_map(FieldValue::Double),
        (any::<u8>(), any::<i32>()).prop_map(|(scale, value)| FieldValue::Decimal { scale, value }),
        vec(any::<u8>(), 0..300)
            .prop_map(|octets| FieldValue::LongString(LongString::try_from(octets).expect("not that long"))),
        vec(any::<u8>(), 0..300).prop_map(|octets| FieldValue::ByteArray(Bytes::from(octets))),
        any::<u64>().prop_map(FieldValue::Timestamp),
        Just(FieldValue::Void),
    ]
}

fn any_value() -> impl Strategy<Value = FieldValue> {
    any_leaf().prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(FieldValue::Array),
            vec((any_name(), inner), 0..6).prop_map(|entries| FieldValue::Table(entries.into_iter().collect())),
        ]
    })
}

fn any_table() -> impl Strategy<Value = FieldTable> {
    vec((any_name(), any_value()), 0..5).prop_map(|entries| entries.into_iter().collect())
}

fn any_properties() -> impl Strategy<Value = BasicProperties> {
    let string = || option::of(any_short_string());
    let first = (
        string(),
        string(),
        option::of(any_table()),
        option::of(any::<u8>()),
        option::of(any::<u8>()),
        string(),
        string(),
    );
    let second = (string(), string(), option::of(any::<u64>()), string(), string(), string(), string());
    (first, second).prop_map(|(first, second)| {
        let (content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to) = first;
        let (expiration, message_id, timestamp, kind, user_id, app_id, cluster_id) = second;
        BasicProperties {
            content_type,
            content_encoding,
            headers,
            delivery_mode,
            priority,
            correlation_id,
            reply_to,
            expiration,
            message_id,
            timestamp,
            kind,
            user_id,
            app_id,
            cluster_id,
        }
    })
}

/// Octets that are nearly a table: tags, small lengths and noise.
fn nearly_table() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => proptest::sample::select(b"tbBsuUIilLfdDSxATFVQ".to_vec()).prop_map(|tag| vec![1, b'k', tag]),
        2 => proptest::sample::select(b"tbBsuUIilLfdDSxATFVQ".to_vec()).prop_map(|tag| vec![tag]),
        3 => (0..12_u8).prop_map(|len| vec![0, 0, 0, len]),
        2 => vec(any::<u8>(), 0..9),
        1 => any_value().prop_map(|value| {
            let mut octets = vec![0];
            leveret_protocol::table::put_value(&mut octets, &value);
            octets
        }),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// The frames in `stream`, as the broker reads them: from a buffer that grows by `chunks`.
fn read_in_chunks(stream: &[u8], chunks: &[usize]) -> Vec<(u8, ChannelId, Vec<u8>)> {
    let mut buffer = Vec::new();
    let mut frames = Vec::new();
    let mut rest = stream;
    let mut chunks = chunks.iter().cycle();
    while !rest.is_empty() {
        let len = chunks.next().map_or(rest.len(), |&len| len.min(rest.len()));
        buffer.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
        while let Some((frame, consumed)) = split_frame(&buffer, u32::MAX).expect("the stream is well-formed") {
            frames.push((frame.kind, frame.channel, frame.payload.to_vec()));
            buffer.drain(..consumed);
        }
    }
    assert!(buffer.is_empty(), "octets are left over");
    frames
}

/// The octets of memory behind a value, as far as the value's own types tell.
fn memory_bytes(value: &FieldValue) -> usize {
    match value {
        FieldValue::Array(items) => {
            items.capacity() * size_of::<FieldValue>() + items.iter().map(memory_bytes).sum::<usize>()
        }
        FieldValue::Table(table) => table_memory_bytes(table),
        FieldValue::LongString(string) => string.len(),
        FieldValue::ByteArray(octets) => octets.len(),
        FieldValue::Boolean(_)
        | FieldValue::Int8(_)
        | FieldValue::UInt8(_)
        | FieldValue::Int16(_)
        | FieldValue::UInt16(_)
        | FieldValue::Int32(_)
        | FieldValue::UInt32(_)
        | FieldValue::Int64(_)
        | FieldValue::Float(_)
        | FieldValue::Double(_)
        | FieldValue::Decimal { .. }
        | FieldValue::Timestamp(_)
        | FieldValue::Void => 0,
    }
}

fn table_memory_bytes(table: &FieldTable) -> usize {
    table.iter().map(|(name, value)| size_of::<(ShortString, FieldValue)>() + name.len() + memory_bytes(value)).sum()
}

/// What one octet of a table may at most cost: an array of `V` makes a value of each.
const MEMORY_FACTOR: usize = size_of::<FieldValue>() + 8;

proptest! {
    // A failing case becomes a named test, not a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_method_decodes_and_encodes_to_the_same_octets((class, method, name, payload) in any_method()) {
        let decoded = Method::decode(&payload).expect("the payload is valid");
        prop_assert_eq!(decoded.name(), name);
        let (class_id, method_id) = decoded.ids();
        prop_assert_eq!((class_id.get(), method_id.get()), (class, method));
        prop_assert_eq!(peek_ids(&payload), Some(decoded.ids()));
        let mut encoded = Vec::new();
        decoded.encode(&mut encoded);
        prop_assert_eq!(&encoded, &payload);
        prop_assert_eq!(Method::decode(&encoded), Ok(decoded.clone()));

        let mut out = Vec::new();
        decoded.encode_frame(ChannelId::new(9), &mut out);
        let (frame, consumed) = split_frame(&out, u32::MAX).expect("well-formed").expect("complete");
        prop_assert_eq!((frame.payload, consumed), (&payload[..], out.len()));
    }

    #[test]
    fn a_method_must_be_neither_cut_nor_followed((class, _, _, payload) in any_method(), cut in any::<prop::sample::Index>()) {
        let longer = [&payload[..], &[0]].concat();
        let is_malformed = matches!(Method::decode(&longer), Err(DecodeError::Malformed { .. }));
        prop_assert!(is_malformed);
        let shorter = &payload[..cut.index(payload.len())];
        let error = Method::decode(shorter).expect_err("the payload is cut");
        if shorter.len() < 4 {
            prop_assert_eq!(error, DecodeError::TooShort);
        } else {
            let is_malformed = matches!(error, DecodeError::Malformed { class: found, .. } if found.get() == class);
            prop_assert!(is_malformed);
        }
    }

    #[test]
    fn the_borrowed_publish_agrees_with_the_owned_one(arguments in vec(0..12_u8, 0..24)) {
        match (basic::Publish::decode(&arguments), basic::PublishRef::decode(&arguments)) {
            (Ok(owned), Ok(borrowed)) => {
                prop_assert_eq!(owned.exchange.as_bytes(), borrowed.exchange);
                prop_assert_eq!(owned.routing_key.as_bytes(), borrowed.routing_key);
                prop_assert_eq!((owned.mandatory, owned.immediate), (borrowed.mandatory, borrowed.immediate));
            }
            (owned, borrowed) => prop_assert_eq!(owned.err(), borrowed.err()),
        }
    }

    #[test]
    fn tables_survive_a_round_trip(table in any_table()) {
        let mut octets = Vec::new();
        put_table(&mut octets, &table);
        prop_assert_eq!(octets.len(), table.encoded_len());
        prop_assert!(validate_table_content(&octets[4..]));
        prop_assert_eq!(decode_table(&octets), Ok((table.clone(), octets.len())));
        prop_assert_eq!(decode_table_content(&octets[4..]), Ok(table));
    }

    #[test]
    fn validation_agrees_with_decoding(octets in nearly_table()) {
        prop_assert_eq!(validate_table_content(&octets), decode_table_content(&octets).is_ok());
    }

    #[test]
    fn properties_survive_a_round_trip_and_both_forms_agree(properties in any_properties()) {
        let mut octets = Vec::new();
        properties.encode(&mut octets);
        prop_assert_eq!(BasicProperties::decode(&octets), Ok(properties.clone()));
        let borrowed = PropertiesRef::decode(&octets).expect("the list is valid");
        let check = |owned: &Option<ShortString>, borrowed: Option<&[u8]>| {
            assert_eq!(owned.as_ref().map(ShortString::as_bytes), borrowed);
        };
        check(&properties.content_type, borrowed.content_type);
        check(&properties.content_encoding, borrowed.content_encoding);
        check(&properties.correlation_id, borrowed.correlation_id);
        check(&properties.reply_to, borrowed.reply_to);
        check(&properties.expiration, borrowed.expiration);
        check(&properties.message_id, borrowed.message_id);
        check(&properties.kind, borrowed.kind);
        check(&properties.user_id, borrowed.user_id);
        check(&properties.app_id, borrowed.app_id);
        check(&properties.cluster_id, borrowed.cluster_id);
        prop_assert_eq!(properties.delivery_mode, borrowed.delivery_mode);
        prop_assert_eq!(properties.priority, borrowed.priority);
        prop_assert_eq!(properties.timestamp, borrowed.timestamp);
        let headers = borrowed.headers.map(|content| decode_table_content(content).expect("validated"));
        prop_assert_eq!(properties.headers, headers);
    }

    #[test]
    fn both_forms_of_properties_refuse_the_same_octets(flags in any::<u16>(), list in nearly_table()) {
        let octets = [&flags.to_be_bytes()[..], &list].concat();
        prop_assert_eq!(PropertiesRef::decode(&octets).err(), BasicProperties::decode(&octets).err());
    }

    #[test]
    fn any_split_of_a_stream_gives_the_same_frames(
        methods in vec((any_method(), any::<u16>()), 0..6),
        body in vec(any::<u8>(), 0..9000),
        frame_max_bytes in 9..5000_u32,
        chunks in vec(1..5000_usize, 1..20),
    ) {
        let mut stream = Vec::new();
        for ((_, _, _, payload), channel) in &methods {
            let method = Method::decode(payload).expect("the payload is valid");
            method.encode_frame(ChannelId::new(*channel), &mut stream);
            encode_heartbeat(&mut stream);
        }
        encode_content(ChannelId::new(1), &[0, 0], &body, frame_max_bytes, &mut stream);
        let whole = read_in_chunks(&stream, &[stream.len()]);
        prop_assert_eq!(&read_in_chunks(&stream, &chunks), &whole);
        prop_assert_eq!(&read_in_chunks(&stream, &[1]), &whole);

        let payloads = |kind: u8| whole.iter().filter(move |frame| frame.0 == kind).map(|frame| &frame.2);
        prop_assert!(payloads(1).eq(methods.iter().map(|((_, _, _, payload), _)| payload)));
        prop_assert_eq!(payloads(3).flatten().copied().collect::<Vec<u8>>(), body);
        prop_assert!(payloads(3).all(|part| u32::try_from(part.len() + 8).is_ok_and(|bytes| bytes <= frame_max_bytes)));
    }

    #[test]
    fn random_octets_never_panic(octets in vec(any::<u8>(), 0..200), limit in any::<u32>()) {
        check_no_panic(&octets, limit);
    }

    #[test]
    fn spoilt_methods_never_panic(
        (_, _, _, payload) in any_method(),
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let mut payload = payload;
        let at = at.index(payload.len());
        payload[at] = octet;
        check_no_panic(&payload, 4096);
    }

    #[test]
    fn decoded_tables_take_a_small_multiple_of_their_octets(octets in nearly_table()) {
        if let Ok(table) = decode_table_content(&octets) {
            prop_assert!(table_memory_bytes(&table) <= MEMORY_FACTOR * octets.len());
        }
    }
}

/// Shows octets to every decoder; what they answer does not matter, nor do the texts of their errors.
fn check_no_panic(octets: &[u8], limit: u32) {
    let frame_text = split_frame(octets, limit).map_err(|error: FrameError| error.to_string());
    drop(frame_text);
    drop(Method::decode(octets).map_err(|error| error.to_string()));
    drop(basic::Ack::decode(octets));
    let _ = basic::PublishRef::decode(octets);
    let _ = HeaderRef::decode(octets);
    let _ = PropertiesRef::decode(octets);
    drop(BasicProperties::decode(octets));
    drop(decode_table(octets));
    drop(decode_table_content(octets));
    let _ = validate_table_content(octets);
    drop(erlang_octets(octets));
    drop(ShortString::try_from(octets));
}

#[test]
fn the_catalogue_is_complete() {
    let known = |class: u16, method: u16| {
        let payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
        !matches!(Method::decode(&payload), Err(DecodeError::UnknownMethod { .. }))
    };
    let all: Vec<(u16, u16)> =
        (0..200).flat_map(|class| (0..200).map(move |method| (class, method))).filter(|&(c, m)| known(c, m)).collect();
    let listed: Vec<(u16, u16)> = METHODS.iter().map(|&(class, method, _, _)| (class, method)).collect();
    assert_eq!(all, listed);
}

#[test]
fn an_array_of_voids_takes_a_small_multiple_of_its_octets() {
    let items = 100_000_u32;
    let mut octets = vec![0, b'A'];
    octets.extend(items.to_be_bytes());
    octets.resize(octets.len() + 100_000, b'V');
    let table = decode_table_content(&octets).expect("the table is valid");
    let array = table.get("").and_then(FieldValue::as_array).expect("the entry is an array");
    assert_eq!(array.len(), 100_000);
    assert!(table_memory_bytes(&table) <= MEMORY_FACTOR * octets.len());
    const { assert!(MEMORY_FACTOR <= 48, "a value has grown") };
}

#[test]
fn a_table_of_nameless_voids_takes_a_small_multiple_of_its_octets() {
    let octets = [0, b'V'].repeat(50_000);
    let table = decode_table_content(&octets).expect("the table is valid");
    assert_eq!(table.len(), 50_000);
    assert!(table_memory_bytes(&table) <= MEMORY_FACTOR * octets.len());
}

#[test]
fn lengths_that_are_not_there_are_not_believed() {
    // Each claims 4 GiB and has a handful of octets.
    for tag in *b"SxAF" {
        let content = [0, tag, 0xFF, 0xFF, 0xFF, 0xFF, 0];
        assert!(decode_table_content(&content).is_err());
    }
    assert!(decode_table(&[0xFF, 0xFF, 0xFF, 0xFF, 0]).is_err());
}
