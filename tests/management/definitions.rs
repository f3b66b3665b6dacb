//! Definitions: what RabbitMQ 3.10 exported comes in whole, and what Leveret exports is the same wherever it is imported.
//!
//! `definitions/` has two exports of one node of RabbitMQ 3.10.8 (Debian's): of its HTTP API and of `rabbitmqctl
//! export_definitions`, which differ in places.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lapin::{Connection, ConnectionProperties};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use crate::support::Server;

const OVER_HTTP: &str = include_str!("definitions/rabbitmq-3.10.8-http.json");
const OF_RABBITMQCTL: &str = include_str!("definitions/rabbitmq-3.10.8-ctl.json");
/// Users of the exports and their passwords; the hash of the third is MD5, of the fourth SHA-512.
const PASSWORDS: [(&str, &str, &str); 4] = [
    ("alice", "wonderland", "orders"),
    ("bob", "p@ss:wörd", "orders"),
    ("carol", "md5-secret", "orders"),
    ("dave", "sha512-secret", "a/b c"),
];
/// Brokers are started for each of them.
const CASES: u32 = 24;

/// The items of a kind, as text that can be compared.
fn items(definitions: &Value, kind: &str) -> BTreeSet<String> {
    let all = definitions[kind].as_array().unwrap_or_else(|| panic!("no {kind} in {definitions}"));
    let texts: BTreeSet<_> = all.iter().map(Value::to_string).collect();
    assert_eq!(texts.len(), all.len(), "{kind} are named once");
    texts
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("an object")
}

/// What `kind` is expected to be after it was taken in, in Leveret's shape.
fn check_kept(original: &Value, kept: &Value, kind: &str, reshape: impl Fn(&mut Map<String, Value>)) {
    let mut original = original.clone();
    original[kind].as_array_mut().expect("a list").iter_mut().map(object).for_each(reshape);
    let (expected, found) = (items(&original, kind), items(kept, kind));
    let lost: Vec<_> = expected.difference(&found).collect();
    assert!(lost.is_empty(), "{kind} were lost: {lost:#?}\nthere are: {found:#?}");
}

/// Pairs are what `rabbitmqctl` of 3.10 makes of some objects.
fn object_of_pairs(value: &mut Value) {
    let pairs = value.as_array().map(|pairs| {
        pairs.iter().map(|pair| (pair[0].as_str().expect("a name").to_owned(), pair[1].clone())).collect()
    });
    if let Some(pairs) = pairs {
        *value = Value::Object(pairs);
    }
}

/// Checks that nothing is lost but bindings of exchanges that are `missing` in the export itself.
async fn comes_in_whole(text: &str, missing: &str) {
    let mut original: Value = serde_json::from_str(text).expect("JSON");
    let server = Server::start().await;
    assert_eq!(server.post("/api/definitions", original.clone()).await.status, 204);
    let kept = server.json("/api/definitions").await;
    let bindings = original["bindings"].as_array_mut().expect("a list");
    bindings.retain(|binding| binding["source"] != missing && binding["destination"] != missing);
    for kind in ["users", "permissions", "topic_permissions", "policies", "global_parameters", "bindings"] {
        check_kept(&original, &kept, kind, |_| ());
    }
    check_kept(&original, &kept, "parameters", |parameter| {
        if let Some(definition) = parameter["value"].get_mut("definition") {
            object_of_pairs(definition);
        }
    });
    check_kept(&original, &kept, "queues", |queue| {
        let kind = queue["arguments"].get("x-queue-type").cloned().unwrap_or_else(|| "classic".into());
        queue.insert("type".to_owned(), kind);
    });
    check_kept(&original, &kept, "exchanges", |exchange| {
        exchange.entry("internal").or_insert(Value::Bool(false));
    });
    check_kept(&original, &kept, "vhosts", |vhost| {
        let metadata = vhost.remove("metadata").unwrap_or_else(|| json!({"description": "", "tags": []}));
        vhost.remove("limits");
        vhost.insert("description".to_owned(), metadata["description"].clone());
        vhost.insert("tags".to_owned(), metadata["tags"].clone());
        vhost.insert("metadata".to_owned(), metadata);
    });

    let port = server.broker.amqp_addr().port();
    for (user, password, vhost) in PASSWORDS {
        let quoted = |text: &str| text.bytes().map(|octet| format!("%{octet:02X}")).collect::<String>();
        let url = format!("amqp://{}:{}@127.0.0.1:{port}/{}", quoted(user), quoted(password), quoted(vhost));
        let connection = Connection::connect(&url, ConnectionProperties::default()).await;
        let connection = connection.unwrap_or_else(|cause| panic!("{user} over AMQP: {cause}"));
        connection.close(200, "done".into()).await.expect("closed");
        let named = server.get_as(user, password, "/api/whoami").await;
        assert_eq!((named.status, &named.json()["name"]), (200, &json!(user)));
        assert_eq!(server.get_as(user, "wrong", "/api/whoami").await.status, 401);
    }
    assert_eq!(server.get_as("erin", "", "/api/whoami").await.status, 401, "a user without a password");
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_rabbitmq_over_http_comes_in_whole() {
    comes_in_whole(OVER_HTTP, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_rabbitmqctl_comes_in_whole() {
    comes_in_whole(OF_RABBITMQCTL, "inner").await;
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-ZäßЖ0-9_.:/%? -]{1,12}".prop_filter("reserved", |name| !name.starts_with("amq."))
}

/// Whatever JSON may hold, but for numbers that no argument can.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("not in JSON", |number| serde_json::Number::from_f64(number).map(Value::Number)),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-zé\"]{1,6}", inner, 0..4).prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

/// Arguments without a meaning.
fn any_arguments() -> impl Strategy<Value = Map<String, Value>> {
    btree_map("my-[a-z]{1,6}", any_json(), 0..4).prop_map(|arguments| arguments.into_iter().collect())
}

/// Some of what has a meaning, and some that has not.
fn arguments(known: &Value) -> impl Strategy<Value = Map<String, Value>> + use<> {
    let known: Vec<_> = known.as_object().expect("an object").clone().into_iter().collect();
    let count = known.len();
    (subsequence(known, 0..=count), any_arguments()).prop_map(|(known, mut all)| {
        all.extend(known);
        all
    })
}

/// Some entries of a table of settings, at least one.
fn settings(known: &Value) -> impl Strategy<Value = Map<String, Value>> + use<> {
    let known: Vec<_> = known.as_object().expect("an object").clone().into_iter().collect();
    let count = known.len();
    subsequence(known, 1..=count).prop_map(|known| known.into_iter().collect())
}

fn pattern() -> impl Strategy<Value = String> {
    select(vec![".*", "", "^$", "^a", "(a|b)\\.c$", "^[^.]+\\.{username}", "ä+"]).prop_map(str::to_owned)
}

fn limits(names: &'static [&'static str]) -> impl Strategy<Value = Map<String, Value>> {
    let limit = prop_oneof![Just(-1_i64), 1_000..i64::from(i32::MAX)];
    btree_map(select(names), limit, 0..=names.len())
        .prop_map(|limits| limits.into_iter().map(|(name, limit)| (name.to_owned(), limit.into())).collect())
}

fn user() -> impl Strategy<Value = Value> {
    let algorithm = select(vec!["sha256", "sha512", "md5"]);
    let tags = btree_set("[a-z-]{1,8}", 0..4);
    let limits = limits(&["max-connections", "max-channels"]);
    (vec(any::<u8>(), 0..68), algorithm, tags, limits).prop_map(|(hash, algorithm, tags, limits)| {
        json!({"password_hash": BASE64_STANDARD.encode(hash), "tags": tags, "limits": limits,
            "hashing_algorithm": format!("rabbit_password_hashing_{algorithm}")})
    })
}

fn vhost() -> impl Strategy<Value = Value> {
    let kind = option::of(select(vec!["classic", "quorum", "stream"]));
    ("\\PC{0,12}", btree_set("[a-z]{1,6}", 0..3), kind).prop_map(|(description, tags, kind)| {
        let mut metadata = json!({"description": description, "tags": tags});
        if let Some(kind) = kind {
            metadata["default_queue_type"] = kind.into();
        }
        let mut vhost = metadata.clone();
        vhost["metadata"] = metadata;
        vhost
    })
}

fn queue() -> impl Strategy<Value = Value> {
    let classic = json!({"x-max-length": 5, "x-message-ttl": 60_000, "x-expires": 9_000_000, "x-max-priority": 7,
        "x-queue-mode": "lazy", "x-overflow": "reject-publish", "x-dead-letter-exchange": "no such exchange",
        "x-single-active-consumer": true, "x-queue-type": "classic", "x-max-length-bytes": 1_i64 << 40});
    let quorum = json!({"x-max-length": 5, "x-delivery-limit": 3, "x-overflow": "drop-head", "x-message-ttl": 1,
        "x-quorum-initial-group-size": 3});
    let stream = json!({"x-max-age": "7D", "x-max-length-bytes": 1 << 30, "x-stream-max-segment-size-bytes": 1 << 20});
    let of_kind = |kind: &'static str| {
        move |mut arguments: Map<String, Value>| {
            arguments.insert("x-queue-type".to_owned(), kind.into());
            json!({"type": kind, "durable": true, "auto_delete": false, "arguments": arguments})
        }
    };
    prop_oneof![
        (arguments(&classic), any::<bool>(), any::<bool>()).prop_map(|(arguments, durable, auto_delete)| {
            json!({"type": "classic", "durable": durable, "auto_delete": auto_delete, "arguments": arguments})
        }),
        arguments(&quorum).prop_map(of_kind("quorum")),
        arguments(&stream).prop_map(of_kind("stream")),
    ]
}

fn exchange() -> impl Strategy<Value = Value> {
    let kind = select(vec!["direct", "fanout", "topic", "headers", "x-random"]);
    let arguments = arguments(&json!({"alternate-exchange": "amq.fanout"}));
    (kind, any::<[bool; 3]>(), arguments).prop_map(|(kind, [durable, auto_delete, internal], arguments)| {
        json!({"type": kind, "durable": durable, "auto_delete": auto_delete, "internal": internal,
            "arguments": arguments})
    })
}

fn policy() -> impl Strategy<Value = Value> {
    let definition =
        settings(&json!({"max-length": 10, "message-ttl": 1, "expires": 9_000_000, "overflow": "drop-head",
        "dead-letter-exchange": "x", "dead-letter-routing-key": "ä", "alternate-exchange": "x", "max-age": "1D",
        "delivery-limit": 4, "queue-mode": "lazy", "ha-mode": "exactly", "ha-params": 2}));
    let apply_to = select(vec!["all", "queues", "exchanges"]);
    (pattern(), apply_to, any::<i16>(), definition).prop_map(|(pattern, apply_to, priority, definition)| {
        json!({"pattern": pattern, "apply-to": apply_to, "priority": priority, "definition": definition})
    })
}

fn operator_policy() -> impl Strategy<Value = Value> {
    let definition = settings(&json!({"max-length": 10, "message-ttl": 1, "expires": 9_000_000}));
    (pattern(), any::<i16>(), definition).prop_map(|(pattern, priority, definition)| {
        json!({"pattern": pattern, "apply-to": "queues", "priority": priority, "definition": definition})
    })
}

fn named<S: Strategy<Value = Value>>(each: S, at_most: usize) -> impl Strategy<Value = BTreeMap<String, Value>> {
    btree_map(name(), each, 0..=at_most)
}

/// What a vhost holds: lists by kind, none of which names the vhost yet.
fn content() -> impl Strategy<Value = Value> {
    let topology = (named(queue(), 4), named(exchange(), 4)).prop_flat_map(|(queues, exchanges)| {
        let mut sources: Vec<String> = exchanges.keys().cloned().collect();
        let mut destinations: Vec<(String, &str)> = sources.iter().map(|name| (name.clone(), "exchange")).collect();
        sources.extend(["amq.topic", "amq.headers", "amq.direct"].map(str::to_owned));
        destinations.extend(queues.keys().map(|name| (name.clone(), "queue")));
        destinations.push(("amq.fanout".to_owned(), "exchange"));
        let arguments = arguments(&json!({"x-match": "any"}));
        let binding = (select(sources), select(destinations), "[a-z.*#ü]{0,8}", arguments).prop_map(
            |(source, (destination, kind), routing_key, arguments)| {
                json!({"source": source, "destination": destination, "destination_type": kind,
                    "routing_key": routing_key, "arguments": arguments})
            },
        );
        (Just(queues), Just(exchanges), vec(binding, 0..6))
    });
    let parameters = named(any_json().prop_map(|value| json!({"component": "of-mine", "value": value})), 2);
    let limits = limits(&["max-queues", "max-connections"]);
    (topology, named(policy(), 3), named(operator_policy(), 2), parameters, limits).prop_map(
        |((queues, exchanges, bindings), policies, operator_policies, mut parameters, limits)| {
            let operator = |(name, value)| (name, json!({"component": "operator_policy", "value": value}));
            // What has another component could have the same name.
            let operator_policies: Vec<_> = named_items(operator_policies.into_iter().map(operator).collect());
            let mut all = named_items(std::mem::take(&mut parameters));
            all.extend(operator_policies);
            if !limits.is_empty() {
                all.push(json!({"component": "vhost-limits", "name": "limits", "value": limits}));
            }
            let mut once: Vec<Value> = Vec::new();
            for binding in bindings {
                if !once.contains(&binding) {
                    once.push(binding);
                }
            }
            json!({"queues": named_items(queues), "exchanges": named_items(exchanges), "bindings": once,
                "policies": named_items(policies), "parameters": all})
        },
    )
}

/// Items that have their names in them.
fn named_items(items: BTreeMap<String, Value>) -> Vec<Value> {
    let with_name = |(name, mut item): (String, Value)| {
        item["name"] = name.into();
        item
    };
    items.into_iter().map(with_name).collect()
}

/// Definitions of a whole broker.
fn definitions() -> impl Strategy<Value = Value> {
    let vhosts = btree_map(name(), (vhost(), content()), 1..4);
    (btree_map(name(), user(), 1..4), vhosts, named(any_json().prop_map(|value| json!({"value": value})), 3))
        .prop_flat_map(|(users, vhosts, global)| {
            let mut pairs: Vec<(String, String)> = Vec::new();
            for user in users.keys() {
                pairs.extend(vhosts.keys().map(|vhost| (user.clone(), vhost.clone())));
            }
            let count = pairs.len();
            let some = move || subsequence(pairs.clone(), 0..=count);
            let rights = (some(), vec([pattern(), pattern(), pattern()], count));
            let topics = (some(), vec((name(), pattern(), pattern()), count));
            (Just((users, vhosts, global)), rights, topics)
        })
        .prop_map(|((users, vhosts, global), (allowed, rights), (topics, topic_rights))| {
            let permissions = allowed.into_iter().zip(rights).map(|((user, vhost), [configure, write, read])| {
                json!({"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read})
            });
            let topic_permissions = topics.into_iter().zip(topic_rights).map(
                |((user, vhost), (exchange, write, read))| {
                    json!({"user": user, "vhost": vhost, "exchange": exchange, "write": write, "read": read})
                },
            );
            let mut all = json!({"users": named_items(users), "global_parameters": named_items(global),
                "permissions": permissions.collect::<Vec<_>>(),
                "topic_permissions": topic_permissions.collect::<Vec<_>>(), "vhosts": []});
            for (name, (mut vhost, content)) in vhosts {
                vhost["name"] = name.clone().into();
                all["vhosts"].as_array_mut().expect("a list").push(vhost);
                for (kind, items) in content.as_object().expect("an object") {
                    let into = object(&mut all).entry(kind).or_insert_with(|| json!([]));
                    for mut item in items.as_array().expect("a list").iter().cloned() {
                        item["vhost"] = name.clone().into();
                        into.as_array_mut().expect("a list").push(item);
                    }
                }
            }
            all
        })
}

/// Takes definitions in and gives all that the broker then has.
async fn through(definitions: &Value) -> Value {
    let server = Server::start().await;
    let taken = server.post("/api/definitions", definitions.clone()).await;
    assert_eq!(taken.status, 204, "{}", String::from_utf8_lossy(&taken.body));
    let all = server.json("/api/definitions").await;
    server.broker.shutdown().await;
    all
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    /// Nothing is lost on the way in, and what comes out is the same wherever it is taken in next.
    #[test]
    fn what_is_exported_imports_as_it_was(definitions in definitions()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("built");
        runtime.block_on(async {
            let exported = through(&definitions).await;
            for (kind, _) in definitions.as_object().expect("an object") {
                check_kept(&definitions, &exported, kind, |_| ());
            }
            assert_eq!(through(&exported).await, exported);
        });
    }
}
