//! What differs between two brokers, or two runs, without meaning anything. This is the only place that knows; differences
//! between releases that show everywhere are in `releases`.
//!
//! | What | Shown as |
//! |---|---|
//! | names that the broker chose, in the order in which they came | `<amq.gen-1>`, `<amq.ctag-1>`, `<amq.rabbitmq.reply-to-1>` |
//! | the vhost of the scenario | `<vhost>` |
//! | in server-properties: cluster name, copyright, information, platform, product, version | `"<product>"`, … |
//! | the mechanisms of `connection.start`, whose order changes from start to start | sorted |
//! | in `x-death`: `time` | `T:<time>` |
//! | in copies made by tracing: `node`, `connection` | `"<node>"`, `"<connection>"` |
//! | the order of entries in header tables that the broker changed (dead letters) or made (tracing), where 4.x and 3.10 differ | sorted by name |
//! | server-properties and their capabilities, likewise | sorted by name |
//! | how confirms are merged (`transcript`) | the numbers that were settled between two other frames |
//! | heartbeats, `channel.open-ok` | not shown (that one is missing would be) |

use leveret_protocol::{BasicProperties, FieldTable, FieldValue, LongString, Method};

/// Names of the broker's making: how they begin, and how they are shown.
const GENERATED: [(&str, &str); 3] =
    [("amq.gen-", "amq.gen"), ("amq.ctag-", "amq.ctag"), ("amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to")];

const SERVER_PROPERTIES: [&str; 6] = ["cluster_name", "copyright", "information", "platform", "product", "version"];

/// The names that have come in one run of one scenario.
pub(crate) struct Masks {
    vhost: String,
    /// What came and what is shown for it.
    names: Vec<(String, String)>,
}

impl Masks {
    pub(crate) const fn new(vhost: String) -> Self {
        Self { vhost, names: Vec::new() }
    }

    /// A string as it is shown. Names of the broker's making may stand anywhere in it.
    pub(crate) fn hide(&mut self, octets: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(octets) else { return octets.to_vec() };
        let mut text = text.replace(&self.vhost, "<vhost>");
        for (stem, label) in GENERATED {
            let mut from = 0;
            while let Some(start) = text[from..].find(stem).map(|found| from + found) {
                let after = &text[start + stem.len()..];
                let is_part = |octet: u8| octet.is_ascii_alphanumeric() || b"-_+/=.".contains(&octet);
                let len = after.bytes().position(|octet| !is_part(octet)).unwrap_or(after.len());
                if len < 20 {
                    from = start + stem.len();
                    continue;
                }
                let name = text[start..start + stem.len() + len].to_owned();
                let shown = self.shown(&name, label);
                text.replace_range(start..start + name.len(), &shown);
                from = start + shown.len();
            }
        }
        text.into_bytes()
    }

    fn shown(&mut self, name: &str, label: &str) -> String {
        if let Some((_, shown)) = self.names.iter().find(|(known, _)| known == name) {
            return shown.clone();
        }
        let number = 1 + self.names.iter().filter(|(_, shown)| shown[1..].starts_with(label)).count();
        let shown = format!("<{label}-{number}>");
        self.names.push((name.to_owned(), shown.clone()));
        shown
    }

    /// A string of a scenario as it is sent.
    pub(crate) fn resolve(&self, octets: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(octets) else { return octets.to_vec() };
        let mut text = text.replace("<vhost>", &self.vhost);
        for (name, shown) in &self.names {
            text = text.replace(shown, name);
        }
        text.into_bytes()
    }

    fn hide_table(&mut self, table: &FieldTable) -> FieldTable {
        table.iter().map(|(name, value)| (name.clone(), self.hide_value(value))).collect()
    }

    fn hide_value(&mut self, value: &FieldValue) -> FieldValue {
        match value {
            FieldValue::LongString(string) => long(self.hide(string.as_bytes())),
            FieldValue::Table(table) => FieldValue::Table(self.hide_table(table)),
            FieldValue::Array(items) => FieldValue::Array(items.iter().map(|item| self.hide_value(item)).collect()),
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
            | FieldValue::ByteArray(_)
            | FieldValue::Timestamp(_)
            | FieldValue::Void => value.clone(),
        }
    }

    /// The table of a method's arguments as it is shown.
    pub(crate) fn hide_arguments(&mut self, method: &str, table: &FieldTable) -> FieldTable {
        let table = self.hide_table(table);
        if method != "connection.start" {
            return table;
        }
        sorted(table, &|name, value| {
            let name = SERVER_PROPERTIES.iter().find(|hidden| name == **hidden);
            name.map_or(value, |name| long(format!("<{name}>").into_bytes()))
        })
    }

    /// The header table of a message as it is shown.
    pub(crate) fn hide_headers(&mut self, properties: &BasicProperties) -> Option<FieldTable> {
        let headers = self.hide_table(properties.headers.as_ref()?);
        if headers.get("x-death").is_some() {
            return Some(sorted(headers, &|name, value| match value {
                FieldValue::Timestamp(_) if name == "time" => long(b"<time>".to_vec()),
                other => other,
            }));
        }
        if headers.get("exchange_name").is_some() {
            return Some(sorted(headers, &|name, value| match name {
                "node" | "connection" => long(format!("<{name}>").into_bytes()),
                _ => value,
            }));
        }
        Some(headers)
    }
}

/// A list of words in order.
pub(crate) fn sort_words(words: &[u8]) -> Vec<u8> {
    let mut words: Vec<&[u8]> = words.split(|octet| *octet == b' ').collect();
    words.sort_unstable();
    words.join(&b' ')
}

/// The table with all its entries in the order of their names, and those that `change` replaces.
fn sorted(table: FieldTable, change: &dyn Fn(&str, FieldValue) -> FieldValue) -> FieldTable {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    entries
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                FieldValue::Table(table) => FieldValue::Table(sorted(table, change)),
                FieldValue::Array(items) => FieldValue::Array(
                    items
                        .into_iter()
                        .map(|item| match item {
                            FieldValue::Table(table) => FieldValue::Table(sorted(table, change)),
                            other => other,
                        })
                        .collect(),
                ),
                other => other,
            };
            let changed = change(name.as_str().unwrap_or_default(), value);
            (name, changed)
        })
        .collect()
}

fn long(octets: Vec<u8>) -> FieldValue {
    FieldValue::LongString(LongString::try_from(octets).unwrap_or_default())
}

/// Whether a method says nothing that both brokers must say alike.
pub(crate) const fn is_noise(method: &Method) -> bool {
    matches!(method, Method::ChannelOpenOk(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::show_table;

    fn hidden(masks: &mut Masks, text: &str) -> String {
        String::from_utf8(masks.hide(text.as_bytes())).expect("text")
    }

    #[test]
    fn generated_names_are_numbered_in_the_order_in_which_they_come() {
        let mut masks = Masks::new("v17".to_owned());
        let (first, second) = ("amq.gen-AAAAAAAAAAAAAAAAAAAAAA", "amq.gen-BBBBBBBBBBBBBBBBBBBB_-");
        assert_eq!(hidden(&mut masks, second), "<amq.gen-1>");
        assert_eq!(hidden(&mut masks, first), "<amq.gen-2>");
        let text = format!("no queue '{second}' in vhost 'v17'");
        assert_eq!(hidden(&mut masks, &text), "no queue '<amq.gen-1>' in vhost '<vhost>'");
        assert_eq!(hidden(&mut masks, "amq.ctag-AAAAAAAAAAAAAAAAAAAAAA"), "<amq.ctag-1>");
        assert_eq!(hidden(&mut masks, "amq.gen-x"), "amq.gen-x");
        assert_eq!(masks.resolve(b"<amq.gen-2>"), first.as_bytes());
    }

    #[test]
    fn histories_are_sorted_and_without_times() {
        let entry = FieldTable::from_iter([
            ("time".try_into().expect("short"), FieldValue::Timestamp(7)),
            ("count".try_into().expect("short"), FieldValue::Int64(1)),
        ]);
        let headers = FieldTable::from_iter([
            ("x-death".try_into().expect("short"), FieldValue::Array(vec![FieldValue::Table(entry)])),
            ("a".try_into().expect("short"), FieldValue::Timestamp(7)),
        ]);
        let properties = BasicProperties { headers: Some(headers), ..BasicProperties::default() };
        let shown = Masks::new("v".to_owned()).hide_headers(&properties).expect("there are headers");
        assert_eq!(show_table(&shown), r#"{a=T:7, x-death=[{count=l:1, time="<time>"}]}"#);
    }
}
