//! Topic exchange: words between dots, `*` for one word, `#` for any number of them (spec §3.1.3.3).
//!
//! Binding keys stand in a trie, one node a word. Matching keeps the set of nodes that the words so far can have reached,
//! so a key of n words costs at most n times the nodes reached, however many `#` a binding key has. The empty key has no
//! word at all; `a..b` has an empty word in the middle. A wildcard counts only as a whole word.

use std::collections::HashMap;

use leveret_protocol::ShortString;

use super::{Destination, Destinations};

type NodeIndex = usize;

const ROOT: NodeIndex = 0;

#[derive(Debug, Default)]
struct Node {
    words: HashMap<Box<[u8]>, NodeIndex>,
    star: Option<NodeIndex>,
    hash: Option<NodeIndex>,
    /// The node stands for `#` itself: any word leads back to it.
    is_hash: bool,
    destinations: Destinations,
}

impl Node {
    fn is_useless(&self) -> bool {
        self.words.is_empty() && self.star.is_none() && self.hash.is_none() && self.destinations.is_empty()
    }
}

/// A trie of binding keys.
#[derive(Debug)]
pub struct Topic {
    nodes: Vec<Node>,
    free: Vec<NodeIndex>,
}

impl Default for Topic {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|octet| *octet == b'.').take(if key.is_empty() { 0 } else { usize::MAX })
}

impl Topic {
    pub(super) fn bind(&mut self, key: &ShortString, destination: &Destination) {
        let mut at = ROOT;
        for word in words(key.as_bytes()) {
            at = match self.child(at, word) {
                Some(next) => next,
                None => self.add_child(at, word),
            };
        }
        self.nodes[at].destinations.add(destination);
    }

    fn child(&self, at: NodeIndex, word: &[u8]) -> Option<NodeIndex> {
        let node = &self.nodes[at];
        match word {
            b"*" => node.star,
            b"#" => node.hash,
            _ => node.words.get(word).copied(),
        }
    }

    fn add_child(&mut self, at: NodeIndex, word: &[u8]) -> NodeIndex {
        let new = Node { is_hash: word == b"#", ..Node::default() };
        let index = if let Some(index) = self.free.pop() {
            self.nodes[index] = new;
            index
        } else {
            self.nodes.push(new);
            self.nodes.len() - 1
        };
        let node = &mut self.nodes[at];
        match word {
            b"*" => node.star = Some(index),
            b"#" => node.hash = Some(index),
            _ => {
                node.words.insert(word.into(), index);
            }
        }
        index
    }

    pub(super) fn unbind(&mut self, key: &ShortString, destination: &Destination) {
        let mut path = vec![];
        let mut at = ROOT;
        for word in words(key.as_bytes()) {
            let Some(next) = self.child(at, word) else { return };
            path.push((at, word));
            at = next;
        }
        self.nodes[at].destinations.remove(destination);
        for (parent, word) in path.into_iter().rev() {
            if !self.nodes[at].is_useless() {
                return;
            }
            let node = &mut self.nodes[parent];
            match word {
                b"*" => node.star = None,
                b"#" => node.hash = None,
                _ => {
                    node.words.remove(word);
                }
            }
            self.free.push(at);
            at = parent;
        }
    }

    pub(super) fn route<'a>(&'a self, key: &[u8], out: &mut Vec<&'a Destination>) {
        let mut reached = Vec::with_capacity(8);
        let mut next = Vec::with_capacity(8);
        self.reach(ROOT, &mut reached);
        for word in words(key) {
            next.clear();
            for &at in &reached {
                let node = &self.nodes[at];
                if node.is_hash {
                    self.reach(at, &mut next);
                }
                if let Some(&child) = node.words.get(word) {
                    self.reach(child, &mut next);
                }
                if let Some(child) = node.star {
                    self.reach(child, &mut next);
                }
            }
            std::mem::swap(&mut reached, &mut next);
        }
        for at in reached {
            self.nodes[at].destinations.collect(out);
        }
    }

    /// Adds a node, and with it the `#` below it, which matches no word as well.
    fn reach(&self, at: NodeIndex, reached: &mut Vec<NodeIndex>) {
        if reached.contains(&at) {
            return;
        }
        reached.push(at);
        if let Some(hash) = self.nodes[at].hash {
            self.reach(hash, reached);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::queue::QueueId;

    fn key(text: &str) -> ShortString {
        ShortString::try_from(text).expect("short")
    }

    fn matches(binding: &str, routing: &str) -> bool {
        let mut topic = Topic::default();
        topic.bind(&key(binding), &Destination::Queue(QueueId::new(1)));
        let mut out = Vec::new();
        topic.route(routing.as_bytes(), &mut out);
        !out.is_empty()
    }

    /// The rule itself, in its plainest form.
    fn oracle(binding: &[&[u8]], routing: &[&[u8]]) -> bool {
        match (binding.split_first(), routing.split_first()) {
            (None, None) => true,
            (Some((&b"#", rest)), None) => oracle(rest, routing),
            (Some((&b"#", rest)), Some((_, routing_rest))) => oracle(rest, routing) || oracle(binding, routing_rest),
            (None, Some(_)) | (Some(_), None) => false,
            (Some((word, rest)), Some((first, routing_rest))) => {
                (*word == b"*" || word == first) && oracle(rest, routing_rest)
            }
        }
    }

    #[test]
    fn rabbitmqs_table_of_matches() {
        let bindings = [
            "a.b.c", "a.*.c", "a.#", "#", "*", "#.c", "a.#.c", "*.*", "", "a..c", "*.#", "#.#", "a.*", ".", "a.b.#.#",
            "**", "#.*",
        ];
        let expected: [(&str, &[&str]); 9] = [
            ("a", &["a.#", "#", "*", "*.#", "#.#", "#.*"]),
            ("a.b", &["a.#", "#", "*.*", "*.#", "#.#", "a.*", "a.b.#.#", "#.*"]),
            ("a.b.c", &["a.b.c", "a.*.c", "a.#", "#", "#.c", "a.#.c", "*.#", "#.#", "a.b.#.#", "#.*"]),
            ("a.c", &["a.#", "#", "#.c", "a.#.c", "*.*", "*.#", "#.#", "a.*", "#.*"]),
            ("", &["#", "", "#.#"]),
            ("a..c", &["a.*.c", "a.#", "#", "#.c", "a.#.c", "a..c", "*.#", "#.#", "#.*"]),
            (".", &["#", "*.*", "*.#", "#.#", ".", "#.*"]),
            ("**", &["#", "*", "*.#", "#.#", "**", "#.*"]),
            ("a.xb", &["a.#", "#", "*.*", "*.#", "#.#", "a.*", "#.*"]),
        ];
        for (routing, expected) in expected {
            let got: Vec<_> = bindings.iter().copied().filter(|binding| matches(binding, routing)).collect();
            assert_eq!(got, expected, "routing key {routing:?}");
        }
    }

    proptest! {
        #[test]
        fn matching_equals_the_recursive_rule(
            bindings in prop::collection::vec("([ab*#]|)(\\.([ab*#]|)){0,4}", 1..6),
            removed in prop::collection::vec("([ab*#]|)(\\.([ab*#]|)){0,4}", 0..4),
            routing in "([ab]|)(\\.([ab]|)){0,5}",
        ) {
            let mut topic = Topic::default();
            for binding in bindings.iter().chain(&removed) {
                topic.bind(&key(binding), &Destination::Queue(QueueId::new(1)));
            }
            for binding in &removed {
                topic.unbind(&key(binding), &Destination::Queue(QueueId::new(1)));
            }
            let mut out = Vec::new();
            topic.route(routing.as_bytes(), &mut out);
            let routing: Vec<_> = words(routing.as_bytes()).collect();
            let expected = bindings.iter().any(|binding| {
                oracle(&words(binding.as_bytes()).collect::<Vec<_>>(), &routing)
            });
            prop_assert_eq!(!out.is_empty(), expected);
        }
    }

    #[test]
    fn unbinding_everything_frees_every_node() {
        let mut topic = Topic::default();
        let destination = Destination::Queue(QueueId::new(1));
        for binding in ["a.b.c", "a.#", "*.b", "a.b"] {
            topic.bind(&key(binding), &destination);
        }
        for binding in ["a.b", "a.#", "a.b.c", "*.b"] {
            topic.unbind(&key(binding), &destination);
        }
        assert_eq!(topic.nodes.len() - topic.free.len(), 1);
    }
}
