//! Topology and routing against a naive graph: lists of exchanges, queues and bindings that are searched from the start,
//! and a replica that knows only what the store was told.

use std::collections::{BTreeMap, BTreeSet};

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, ShortString};
use proptest::prelude::*;

use super::*;
use crate::engine::exchange::Routing;

const EXCHANGES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const QUEUES: [&str; 4] = ["q", "r", "s", "t"];
const KEYS: [&str; 7] = ["x", "x.y", "x.*", "#", "*.y", "x.#", "y"];
const KINDS: [&str; 4] = ["direct", "fanout", "topic", "headers"];
const ME: ConnectionId = ConnectionId::new(1);

/// The index of a name; the destinations are queues, then exchanges.
type At = usize;

#[derive(Clone, Debug)]
enum Step {
    DeclareExchange { at: At, kind: usize, durable: bool, auto_delete: bool, alternate: Option<At> },
    DeleteExchange { at: At, if_unused: bool },
    DeclareQueue { at: At, durable: bool },
    RemoveQueue { at: At },
    Bind { source: At, destination: At, key: At, headers: u8 },
    Unbind { source: At, destination: At, key: At, headers: u8 },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ends = || (0..EXCHANGES.len(), 0..QUEUES.len() + EXCHANGES.len(), 0..KEYS.len(), 0_u8..6);
    let declared = (
        0..EXCHANGES.len(),
        0..KINDS.len(),
        any::<bool>(),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.4, 0..EXCHANGES.len()),
    );
    let step = prop_oneof![
        6 => declared.prop_map(|(at, kind, durable, auto_delete, alternate)| {
            Step::DeclareExchange { at, kind, durable, auto_delete, alternate }
        }),
        1 => (0..EXCHANGES.len(), any::<bool>()).prop_map(|(at, if_unused)| Step::DeleteExchange { at, if_unused }),
        4 => (0..QUEUES.len(), any::<bool>()).prop_map(|(at, durable)| Step::DeclareQueue { at, durable }),
        1 => (0..QUEUES.len()).prop_map(|at| Step::RemoveQueue { at }),
        14 => ends().prop_map(|(source, destination, key, headers)| Step::Bind { source, destination, key, headers }),
        3 => ends().prop_map(|(source, destination, key, headers)| Step::Unbind { source, destination, key, headers }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..70)
}

fn name(text: &str) -> ShortString {
    ShortString::try_from(text.as_bytes()).expect("a short name")
}

/// Arguments of a binding, which only a headers exchange looks at.
fn arguments(headers: u8) -> FieldTable {
    let mut table = FieldTable::new();
    for (bit, header) in [(1, "one"), (2, "two")] {
        if headers & bit != 0 {
            table.push(name(header), FieldValue::Int32(1));
        }
    }
    if headers & 4 != 0 {
        table.push(name("x-match"), FieldValue::LongString("any".as_bytes().try_into().expect("short")));
    }
    table
}

/// A binding of the model: source, destination, key, headers.
type Link = (At, At, At, u8);

#[derive(Clone, Debug, Default)]
struct Graph {
    exchanges: BTreeMap<At, (usize, bool, bool, Option<At>)>,
    queues: BTreeMap<At, (QueueId, bool)>,
    links: BTreeSet<Link>,
}

impl Graph {
    fn exists(&self, destination: At) -> bool {
        match destination.checked_sub(QUEUES.len()) {
            None => self.queues.contains_key(&destination),
            Some(exchange) => self.exchanges.contains_key(&exchange),
        }
    }

    fn is_durable(&self, destination: At) -> bool {
        match destination.checked_sub(QUEUES.len()) {
            None => self.queues.get(&destination).is_some_and(|(_, durable)| *durable),
            Some(exchange) => self.exchanges.get(&exchange).is_some_and(|(_, durable, ..)| *durable),
        }
    }

    /// Removes links; an auto-delete exchange that loses its last one goes, with its own.
    fn cut(&mut self, doomed: impl Fn(&Link) -> bool) {
        let gone: Vec<Link> = self.links.iter().filter(|link| doomed(link)).copied().collect();
        for link in &gone {
            self.links.remove(link);
        }
        for (source, ..) in gone {
            let auto_delete = self.exchanges.get(&source).is_some_and(|(_, _, auto_delete, _)| *auto_delete);
            if auto_delete && !self.links.iter().any(|(from, ..)| *from == source) {
                self.remove_exchange(source);
            }
        }
    }

    fn remove_exchange(&mut self, at: At) {
        self.exchanges.remove(&at);
        self.links.retain(|(source, ..)| *source != at);
        self.cut(|(_, destination, ..)| *destination == at + QUEUES.len());
    }

    fn matches(link: &Link, kind: usize, key: &str, headers: u8) -> bool {
        let (_, _, bound, wanted) = *link;
        let words = |text: &'static str| text.split('.').collect::<Vec<_>>();
        match KINDS[kind] {
            "direct" => KEYS[bound] == key,
            "fanout" => true,
            "topic" => matches_topic(&words(KEYS[bound]), &key.split('.').collect::<Vec<_>>()),
            _ => {
                let (asked, common) = (wanted & 3, wanted & 3 & headers);
                if wanted & 4 != 0 { common != 0 } else { asked == common }
            }
        }
    }

    /// Every queue that can be reached.
    fn route(&self, at: At, keys: &[&str], headers: u8, visited: &mut BTreeSet<At>, found: &mut BTreeSet<At>) {
        let Some((kind, _, _, alternate)) = self.exchanges.get(&at).copied() else { return };
        if !visited.insert(at) {
            return;
        }
        let mut any = false;
        for link in self.links.iter().filter(|(source, ..)| *source == at) {
            if !keys.iter().any(|key| Self::matches(link, kind, key, headers)) {
                continue;
            }
            any = true;
            match link.1.checked_sub(QUEUES.len()) {
                None => {
                    found.insert(link.1);
                }
                Some(onward) => self.route(onward, keys, headers, visited, found),
            }
        }
        if let Some(alternate) = alternate.filter(|_| !any) {
            self.route(alternate, keys, headers, visited, found);
        }
    }

    /// What is left after a restart.
    fn durable(&self) -> Self {
        let mut left = self.clone();
        left.exchanges.retain(|_, (_, durable, ..)| *durable);
        left.queues.retain(|_, (_, durable)| *durable);
        left.links.retain(|(source, destination, ..)| {
            self.is_durable(source + QUEUES.len()) && self.is_durable(*destination)
        });
        left
    }
}

fn matches_topic(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern, words) {
        ([], []) => true,
        (["#", rest @ ..], _) => {
            matches_topic(rest, words) || words.split_first().is_some_and(|(_, fewer)| matches_topic(pattern, fewer))
        }
        ([first, rest @ ..], [word, fewer @ ..]) => (*first == "*" || first == word) && matches_topic(rest, fewer),
        ([], [_, ..]) | ([_, ..], []) => false,
    }
}

/// What the store has.
#[derive(Debug, Default)]
struct Replica {
    exchanges: BTreeMap<ShortString, ExchangeRecord>,
    queues: BTreeMap<QueueId, QueueRecord>,
    bindings: Vec<Binding>,
}

impl Replica {
    fn follow(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::ExchangeAdded(record) => {
                    assert!(self.exchanges.insert(record.name.clone(), record).is_none(), "added twice");
                }
                Change::ExchangeRemoved(name) => {
                    assert!(self.exchanges.remove(&name).is_some(), "removed twice");
                }
                Change::QueueAdded(record) => {
                    assert!(self.queues.insert(record.id, record).is_none(), "added twice");
                }
                Change::QueueRemoved(id) => assert!(self.queues.remove(&id).is_some(), "removed twice"),
                Change::BindingAdded(binding) => {
                    assert!(!self.bindings.contains(&binding), "added twice");
                    self.bindings.push((*binding).clone());
                }
                Change::BindingRemoved(binding) => {
                    let at = self.bindings.iter().position(|known| *known == *binding);
                    self.bindings.remove(at.expect("removed what was never added"));
                }
            }
        }
    }

    fn restored(&self) -> Vhost {
        let mut vhost = Vhost::new(name("/"));
        for record in self.exchanges.values() {
            vhost.restore_exchange(record.clone()).expect("it was declared before");
        }
        for record in self.queues.values() {
            vhost.restore_queue(record.clone());
        }
        for binding in &self.bindings {
            vhost.restore_binding(binding.clone());
        }
        vhost
    }
}

struct World {
    vhost: Vhost,
    graph: Graph,
    replica: Replica,
    next_id: u64,
}

impl World {
    fn destination(&self, at: At) -> Destination {
        match at.checked_sub(QUEUES.len()) {
            None => Destination::Queue(self.graph.queues[&at].0),
            Some(exchange) => Destination::Exchange(name(EXCHANGES[exchange])),
        }
    }

    /// The binding that a step means, if both of its ends are there.
    fn binding(&self, source: At, destination: At, key: At, headers: u8) -> Option<Binding> {
        let found = match destination.checked_sub(QUEUES.len()) {
            None => self.vhost.resolve_queue_binding(&name(QUEUES[destination]), &name(EXCHANGES[source]), ME).is_ok(),
            Some(onward) => {
                self.vhost.resolve_exchange_binding(&name(EXCHANGES[onward]), &name(EXCHANGES[source])).is_ok()
            }
        };
        assert_eq!(found, self.graph.exists(destination) && self.graph.exchanges.contains_key(&source));
        found.then(|| Binding {
            source: name(EXCHANGES[source]),
            destination: self.destination(destination),
            routing_key: name(KEYS[key]),
            arguments: arguments(headers),
        })
    }

    fn step(&mut self, step: &Step) {
        let access = Access::unlimited();
        let changes = match *step {
            Step::DeclareExchange { at, kind, durable, auto_delete, alternate } => {
                let entry = |alternate: At| (name("alternate-exchange"), long_string(EXCHANGES[alternate].as_bytes()));
                let record = ExchangeRecord {
                    name: name(EXCHANGES[at]),
                    kind: name(KINDS[kind]),
                    durable,
                    auto_delete,
                    internal: false,
                    arguments: alternate.map(entry).into_iter().collect(),
                };
                let declared = self.vhost.declare_exchange(record, &access, || unreachable!("none of them delays"));
                let wanted = (kind, durable, auto_delete, alternate);
                let known = *self.graph.exchanges.entry(at).or_insert(wanted);
                assert_eq!(declared.is_ok(), known == wanted);
                declared.map(|(_, changes)| changes).unwrap_or_default()
            }
            Step::DeleteExchange { at, if_unused } => {
                let deleted = self.vhost.delete_exchange(&name(EXCHANGES[at]), if_unused, &access);
                let used = self.graph.links.iter().any(|(source, ..)| *source == at);
                assert_eq!(deleted.is_err(), if_unused && used);
                if deleted.is_ok() && self.graph.exchanges.contains_key(&at) {
                    self.graph.remove_exchange(at);
                }
                deleted.unwrap_or_default()
            }
            Step::DeclareQueue { at, durable } => {
                let declaration = QueueDeclaration {
                    name: name(QUEUES[at]),
                    durable,
                    exclusive: false,
                    auto_delete: false,
                    arguments: FieldTable::new(),
                    server_named: false,
                };
                let id = QueueId::new(self.next_id);
                self.next_id += 1;
                let declared = self.vhost.declare_queue(declaration, ME, &access, || Ok(id));
                let (_, known) = *self.graph.queues.entry(at).or_insert((id, durable));
                assert_eq!(declared.is_ok(), known == durable);
                declared.map(|(_, changes)| changes).unwrap_or_default()
            }
            Step::RemoveQueue { at } => {
                let Some((id, _)) = self.graph.queues.remove(&at) else { return };
                self.graph.cut(|(_, destination, ..)| *destination == at);
                self.vhost.remove_queue(id).expect("it is there").1
            }
            Step::Bind { source, destination, key, headers } => {
                let Some(binding) = self.binding(source, destination, key, headers) else { return };
                self.graph.links.insert((source, destination, key, headers));
                self.vhost.bind(binding).expect("both ends are there")
            }
            Step::Unbind { source, destination, key, headers } => {
                let Some(binding) = self.binding(source, destination, key, headers) else { return };
                self.graph.cut(|link| *link == (source, destination, key, headers));
                self.vhost.unbind(&binding)
            }
            Step::Restart => {
                self.vhost = self.replica.restored();
                self.graph = self.graph.durable();
                return;
            }
        };
        self.replica.follow(changes);
    }

    fn check(&self) {
        let bindings = self.vhost.bindings().filter(|binding| !binding.source.is_empty()).count();
        assert_eq!(bindings, self.graph.links.len());
        let durable = self.graph.durable();
        assert_eq!(self.replica.exchanges.len(), durable.exchanges.len(), "exchanges in the store");
        assert_eq!(self.replica.queues.len(), durable.queues.len(), "queues in the store");
        assert_eq!(self.replica.bindings.len(), durable.links.len(), "bindings in the store");
        let names: BTreeMap<QueueId, At> = self.graph.queues.iter().map(|(at, (id, _))| (*id, *at)).collect();
        for (at, exchange) in EXCHANGES.iter().enumerate() {
            for (keys, headers) in [(&["x"][..], 0), (&["x.y"], 1), (&["y", "x.y.z"], 2), (&["nothing"], 3)] {
                let octets: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
                let table = Some(arguments(headers));
                let mut properties = Vec::new();
                BasicProperties { headers: table, ..BasicProperties::default() }.encode(&mut properties);
                let route = self.vhost.route(exchange.as_bytes(), &Routing::new(&octets, &properties, 0));
                assert_eq!(route.is_some(), self.graph.exchanges.contains_key(&at));
                let queues = route.unwrap_or_default().queues;
                let reached: BTreeSet<At> = queues.iter().map(|id| names[id]).collect();
                assert_eq!(reached.len(), queues.len(), "each queue once");
                let mut expected = BTreeSet::new();
                self.graph.route(at, keys, headers, &mut BTreeSet::new(), &mut expected);
                assert_eq!(reached, expected, "from {exchange} with {keys:?} and headers {headers}: {:?}", self.graph);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn messages_go_where_a_search_of_the_graph_says(steps in steps()) {
        let (vhost, graph, replica) = (Vhost::new(name("/")), Graph::default(), Replica::default());
        let mut world = World { vhost, graph, replica, next_id: 1 };
        for step in &steps {
            world.step(step);
            world.check();
        }
    }
}
