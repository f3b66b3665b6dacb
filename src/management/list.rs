//! Listings: filtered by name, sorted, cut into pages, reduced to columns, as RabbitMQ's API does it.
//!
//! The objects of a listing may be many and each of them costly. So what is sorted and filtered by is asked for first
//! (`quick`), and only objects that are shown are made, one at a time, straight into the answer. Where the columns asked
//! for are quick ones too, none is made at all. Things that come in the order of a listing ([`Listing::of_sorted`]) are not
//! even asked for what they are sorted by.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use axum::http::StatusCode;
use bytes::Bytes;
use fancy_regex::{Regex, RegexBuilder};
use leveret_protocol::ShortString;
use serde_json::{Map, Value, json};
use smallvec::SmallVec;

use super::problem::Problem;
use super::reply::Reply;
use super::request::Query;

const PAGE_SIZE: i64 = 100;
const PAGE_SIZE_MAX: usize = 500;
/// Octets of a regular expression to filter names by.
const FILTER_MAX_BYTES: usize = 1024;
/// Steps that a regular expression may take at one name.
const BACKTRACK_MAX: usize = 10_000;

/// An object of a listing.
pub(super) type Object = Map<String, Value>;

/// What a listing is sorted by; the order is Erlang's: numbers, words, tables, lists, text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    Int(i64),
    Float(f64),
    /// `true`, `false`, and `null`.
    Word(Option<bool>),
    Table,
    List,
    Text(Bytes),
}

impl Key {
    /// A number of things.
    pub(super) fn count(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Word(None),
            Value::Bool(on) => Self::Word(Some(*on)),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => Self::Int(whole),
                None => Self::Float(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Self::Text(Bytes::copy_from_slice(text.as_bytes())),
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Table,
        }
    }

    /// What stands in an object; `None` where the key does not tell.
    fn into_value(self) -> Option<Value> {
        Some(match self {
            Self::Int(number) => number.into(),
            Self::Float(number) => number.into(),
            Self::Word(Some(on)) => on.into(),
            Self::Word(None) => Value::Null,
            Self::Text(text) => String::from_utf8_lossy(&text).into(),
            Self::Table | Self::List => return None,
        })
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Int(_) | Self::Float(_) => 0,
            Self::Word(_) => 1,
            Self::Table => 2,
            Self::List => 3,
            Self::Text(_) => 4,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        #[expect(clippy::cast_precision_loss, reason = "only where a whole number meets one that is not")]
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Int(a), Self::Float(b)) => (*a as f64).total_cmp(b),
            (Self::Float(a), Self::Int(b)) => a.total_cmp(&(*b as f64)),
            // "false", "null", "true" as Erlang's atoms are in order.
            (Self::Word(a), Self::Word(b)) => word(*a).cmp(&word(*b)),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

const fn word(word: Option<bool>) -> u8 {
    match word {
        Some(false) => 0,
        None => 1,
        Some(true) => 2,
    }
}

impl From<&ShortString> for Key {
    fn from(text: &ShortString) -> Self {
        Self::Text(text.clone().into_bytes())
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<bool> for Key {
    fn from(on: bool) -> Self {
        Self::Word(Some(on))
    }
}

type Keys = SmallVec<[Key; 2]>;

/// The columns that are wanted, each a path of names; `None` for all.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Columns(Option<Vec<Vec<String>>>);

impl Columns {
    fn parse(query: &Query) -> Self {
        let path = |column: &str| column.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let wanted = |text: &str| text.split(',').filter(|column| !column.is_empty()).map(path).collect();
        Self(query.get("columns").map(wanted))
    }

    /// Whether anything of this member is wanted.
    pub(super) fn wants(&self, member: &str) -> bool {
        self.0
            .as_ref()
            .is_none_or(|columns| columns.iter().any(|path| path.first().is_some_and(|first| first == member)))
    }

    fn under(&self, member: &str) -> Self {
        let Some(columns) = &self.0 else { return Self(None) };
        let mut below = Vec::new();
        for path in columns.iter().filter(|path| path.first().is_some_and(|first| first == member)) {
            if path.len() == 1 {
                return Self(None);
            }
            below.push(path[1..].to_vec());
        }
        Self(Some(below))
    }

    /// Reduces a value to what is wanted of it.
    pub(super) fn pick(&self, value: Value) -> Value {
        if self.0.is_none() {
            return value;
        }
        match value {
            Value::Object(object) => {
                let wanted = object.into_iter().filter(|(name, _)| self.wants(name));
                Value::Object(
                    wanted
                        .map(|(name, value)| {
                            let value = self.under(&name).pick(value);
                            (name, value)
                        })
                        .collect(),
                )
            }
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.pick(item)).collect()),
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
        }
    }

    /// The names of the columns, if each is a single name.
    fn plain(&self) -> Option<BTreeSet<&str>> {
        let columns = self.0.as_ref()?;
        columns.iter().map(|path| if let [name] = path.as_slice() { Some(name.as_str()) } else { None }).collect()
    }
}

#[derive(Debug)]
enum Filter {
    Contains(String),
    Matches(Box<Regex>),
}

impl Filter {
    fn passes(&self, name: &Key) -> bool {
        let Key::Text(name) = name else { return false };
        let name = String::from_utf8_lossy(name);
        match self {
            Self::Contains(part) => name.to_lowercase().contains(part),
            // An expression that takes too long matches nothing.
            Self::Matches(regex) => regex.is_match(&*name).unwrap_or(false),
        }
    }
}

#[derive(Debug)]
struct Page {
    number: usize,
    size: usize,
    filter: Option<Filter>,
}

impl Page {
    /// `None` unless a page is asked for.
    fn parse(query: &Query) -> Result<Option<Self>, Problem> {
        let number = |name: &str| {
            let parse = |text: &str| text.parse::<i64>();
            query.get(name).map(parse).transpose()
        };
        let wrong = |_| Problem::bad_request("Pagination parameters are invalid");
        let (page, size) = (number("page").map_err(wrong)?, number("page_size").map_err(wrong)?);
        let Some(page) = page else { return Ok(None) };
        let fits = |number: i64, max: usize| usize::try_from(number).ok().filter(|number| (1..=max).contains(number));
        let found = (fits(page, usize::MAX / PAGE_SIZE_MAX), fits(size.unwrap_or(PAGE_SIZE), PAGE_SIZE_MAX));
        let (Some(number), Some(size)) = found else {
            let shown = size.map_or_else(|| "undefined".to_owned(), |size| size.to_string());
            let reason = format!("Invalid pagination parameters: page number {page}, page size {shown}");
            return Err(invalid(reason));
        };
        let filter = query.get("name").filter(|name| !name.is_empty());
        let filter = filter.map(|name| Self::filter(name, query.is_true("use_regex"))).transpose()?;
        Ok(Some(Self { number, size, filter }))
    }

    fn filter(name: &str, use_regex: bool) -> Result<Filter, Problem> {
        if !use_regex {
            return Ok(Filter::Contains(name.to_lowercase()));
        }
        if name.len() > FILTER_MAX_BYTES {
            return Err(invalid("name filter regex is too long"));
        }
        let regex = RegexBuilder::new(name).case_insensitive(true).backtrack_limit(BACKTRACK_MAX).build();
        // One that is none matches nothing, as in RabbitMQ.
        Ok(regex.map_or_else(|_| Filter::Contains("\u{0}".to_owned()), |regex| Filter::Matches(Box::new(regex))))
    }
}

fn invalid(reason: impl Into<Value>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_pagination_parameters", reason)
}

/// What a listing is to look like.
#[derive(Debug)]
pub(super) struct Listing {
    columns: Columns,
    sort: Vec<String>,
    reverse: bool,
    page: Option<Page>,
}

impl Listing {
    /// Reads the query; it is sorted by these columns where nothing else is asked for.
    pub(super) fn parse(query: &Query, sorts: &[&str]) -> Result<Self, Problem> {
        let mut sort: Vec<String> =
            query.get("sort").filter(|sort| !sort.is_empty()).map(str::to_owned).into_iter().collect();
        for column in sorts {
            if !sort.iter().any(|known| known == column) {
                sort.push((*column).to_owned());
            }
        }
        Ok(Self {
            columns: Columns::parse(query),
            sort,
            reverse: query.is_true("sort_reverse"),
            page: Page::parse(query)?,
        })
    }

    /// For things that come in the order of `column` and, where that is the same, of what else they are sorted by.
    pub(super) fn of_sorted(query: &Query, column: &str) -> Result<Self, Problem> {
        let mut listing = Self::parse(query, &[])?;
        listing.sort.retain(|sort| sort != column);
        Ok(listing)
    }

    /// For listings that have no pages.
    pub(super) fn whole(query: &Query, sorts: &[&str]) -> Result<Self, Problem> {
        Ok(Self { page: None, ..Self::parse(query, sorts)? })
    }

    /// The columns that are wanted.
    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Lists objects that are there already.
    #[expect(clippy::needless_pass_by_value, reason = "they are made for this, and callers have no other use for them")]
    pub(super) fn objects(&self, objects: Vec<Object>) -> Result<Reply, Problem> {
        self.reply(&objects, |object, column| object.get(column).map(Key::of), |object| Some(object.clone()))
    }

    /// Lists things. `quick` tells a column if that costs little, `object` makes the whole; one that has gone is left out.
    pub(super) fn reply<T>(
        &self,
        items: &[T],
        quick: impl Fn(&T, &str) -> Option<Key>,
        object: impl Fn(&T) -> Option<Object>,
    ) -> Result<Reply, Problem> {
        self.reply_some(items, (0..items.len()).collect(), quick, object)
    }

    /// The same for some of them, each by its place.
    pub(super) fn reply_some<T>(
        &self,
        items: &[T],
        mut places: Vec<usize>,
        quick: impl Fn(&T, &str) -> Option<Key>,
        object: impl Fn(&T) -> Option<Object>,
    ) -> Result<Reply, Problem> {
        let total = places.len();
        if let Some(Page { filter: Some(filter), .. }) = &self.page {
            places.retain(|at| quick(&items[*at], "name").is_some_and(|name| filter.passes(&name)));
        }
        let filtered = places.len();
        let keys = |at: &usize| self.keys(&items[*at], &quick, &object);
        let keys: Vec<Keys> = if self.sort.is_empty() { Vec::new() } else { places.iter().map(keys).collect() };
        let mut order: Vec<usize> = (0..filtered).collect();
        let compare = |a: &usize, b: &usize| self.compare(&keys, *a, *b);
        let Some(page) = &self.page else {
            order.sort_unstable_by(compare);
            let mut out = Vec::new();
            self.write(&mut out, order.iter().map(|at| &items[places[*at]]), &quick, &object)?;
            return Ok(Reply::json_octets(out));
        };
        let start = (page.number - 1).saturating_mul(page.size);
        if start > filtered {
            let reason = format!("Page out of range, page: {} page size: {}, len: {filtered}", page.number, page.size);
            return Err(Problem::new(StatusCode::BAD_REQUEST, "page_out_of_range", reason));
        }
        let shown = part(&mut order, start, page.size, compare);
        let mut listed = Vec::new();
        let count = self.write(&mut listed, shown.iter().map(|at| &items[places[*at]]), &quick, &object)?;
        let envelope = json!({
            "filtered_count": filtered,
            "item_count": count,
            "page": page.number,
            "page_count": filtered.div_ceil(page.size),
            "page_size": page.size,
            "total_count": total,
        });
        // The items were written by themselves.
        let mut out = envelope.to_string().into_bytes();
        out.pop();
        out.extend_from_slice(b",\"items\":");
        out.append(&mut listed);
        out.push(b'}');
        Ok(Reply::json_octets(out))
    }

    fn keys<T>(
        &self,
        item: &T,
        quick: &impl Fn(&T, &str) -> Option<Key>,
        object: &impl Fn(&T) -> Option<Object>,
    ) -> Keys {
        let mut whole: Option<Object> = None;
        let mut keys = Keys::with_capacity(self.sort.len());
        for column in &self.sort {
            let key = quick(item, column).unwrap_or_else(|| {
                let whole = whole.get_or_insert_with(|| object(item).unwrap_or_default());
                let mut path = column.split('.');
                let first = path.next().and_then(|first| whole.get(first));
                let found = path.fold(first, |found, name| found.and_then(|value| value.get(name)));
                // Nothing is in order before everything else.
                found.map_or(Key::Int(0), Key::of)
            });
            keys.push(key);
        }
        keys
    }

    /// By keys, if there are any, then as they came; the other way round all of it is.
    fn compare(&self, keys: &[Keys], a: usize, b: usize) -> Ordering {
        let both = keys.get(a).into_iter().flatten().zip(keys.get(b).into_iter().flatten());
        let order = both.map(|(a, b)| a.order(b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal);
        let order = order.then(a.cmp(&b));
        if self.reverse { order.reverse() } else { order }
    }

    /// Writes a list; returns how many there are in it.
    fn write<'a, T: 'a>(
        &self,
        out: &mut Vec<u8>,
        items: impl Iterator<Item = &'a T>,
        quick: &impl Fn(&T, &str) -> Option<Key>,
        object: &impl Fn(&T) -> Option<Object>,
    ) -> Result<usize, Problem> {
        let plain = self.columns.plain();
        let from_quick = |item: &T| {
            let plain = plain.as_ref()?;
            plain.iter().map(|column| Some(((*column).to_owned(), quick(item, column)?.into_value()?))).collect()
        };
        let mut count = 0;
        out.push(b'[');
        for item in items {
            let value = match from_quick(item) {
                Some(object) => Value::Object(object),
                None => match object(item) {
                    Some(object) => self.columns.pick(Value::Object(object)),
                    None => continue,
                },
            };
            if count > 0 {
                out.push(b',');
            }
            count += 1;
            serde_json::to_writer(&mut *out, &value).map_err(|cause| {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", cause.to_string())
            })?;
        }
        out.push(b']');
        Ok(count)
    }
}

/// One object, reduced to the columns that the query asks for.
pub(super) fn one(query: &Query, object: Object) -> Result<Reply, Problem> {
    Reply::json(&Columns::parse(query).pick(Value::Object(object)))
}

/// The part of a sorted order that is shown; the rest need not be in order.
fn part(order: &mut [usize], start: usize, size: usize, compare: impl Fn(&usize, &usize) -> Ordering) -> &[usize] {
    let start = start.min(order.len());
    if start > 0 && start < order.len() {
        order.select_nth_unstable_by(start, &compare);
    }
    let rest = &mut order[start..];
    let size = size.min(rest.len());
    if size > 0 && size < rest.len() {
        rest.select_nth_unstable_by(size, &compare);
    }
    let shown = &mut rest[..size];
    shown.sort_unstable_by(&compare);
    shown
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::*;

    fn objects() -> Vec<Object> {
        let all = [
            json!({"name": "b", "vhost": "/", "n": 2, "in": {"x": 1, "y": 5}}),
            json!({"name": "a", "vhost": "/", "n": 10, "in": {"x": 3, "y": 6}}),
            json!({"name": "C", "vhost": "v", "in": {"x": 2}}),
        ];
        all.into_iter().map(|object| object.as_object().expect("an object").clone()).collect()
    }

    async fn listed(query: &str) -> Value {
        let query = Query::parse(query);
        let listing = Listing::parse(&query, &["vhost", "name"]).expect("a listing");
        let response = listing.objects(objects()).into_response();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        serde_json::from_slice(&body).expect("JSON")
    }

    async fn names(query: &str) -> Vec<String> {
        let listed = listed(query).await;
        let items = listed.get("items").unwrap_or(&listed).as_array().expect("a list").clone();
        items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
    }

    #[tokio::test]
    async fn sorted_by_any_column() {
        assert_eq!(names("").await, ["a", "b", "C"]);
        assert_eq!(names("sort=n").await, ["C", "b", "a"]);
        assert_eq!(names("sort=in.x&sort_reverse=true").await, ["a", "C", "b"]);
        assert_eq!(names("sort=none&sort_reverse=true").await, ["C", "b", "a"]);
    }

    #[tokio::test]
    async fn columns_are_paths() {
        assert_eq!(listed("columns=name,in.x").await[0], json!({"name": "a", "in": {"x": 3}}));
        assert_eq!(listed("columns=n").await, json!([{"n": 10}, {"n": 2}, {}]));
        assert_eq!(listed("columns=in,in.x").await[1], json!({"in": {"x": 1, "y": 5}}));
    }

    #[tokio::test]
    async fn a_page_has_an_envelope() {
        assert_eq!(
            listed("page=2&page_size=2&columns=name").await,
            json!({"filtered_count": 3, "item_count": 1, "page": 2, "page_count": 2, "page_size": 2, "total_count": 3,
                "items": [{"name": "C"}]})
        );
        assert_eq!(names("page=1&name=c").await, ["C"]);
        assert_eq!(names("page=1&name=%5E[ab]&use_regex=true").await, ["a", "b"]);
        assert_eq!(names("page=1&name=[&use_regex=true").await, [""; 0]);
        assert_eq!(names("name=nothing").await.len(), 3, "filters belong to pages");
        assert_eq!(listed("page=9").await["error"], "page_out_of_range");
    }

    #[test]
    fn wrong_pages_are_refused() {
        for query in
            ["page=0", "page=1&page_size=501", "page=x", "page=-1", "page=1&page_size=0", "page=99999999999999999999"]
        {
            assert!(Listing::parse(&Query::parse(query), &[]).is_err(), "{query}");
        }
        let long = format!("page=1&use_regex=true&name={}", "a".repeat(FILTER_MAX_BYTES + 1));
        assert!(Listing::parse(&Query::parse(&long), &[]).is_err());
    }

    #[test]
    fn quick_columns_need_no_objects() {
        let listing = Listing::parse(&Query::parse("columns=name&sort=name&page=1"), &["name"]).expect("a listing");
        let quick = |item: &&str, column: &str| (column == "name").then(|| Key::from(*item));
        assert!(listing.reply(&["b", "a"], quick, |_| panic!("no object is needed")).is_ok());
    }

    #[tokio::test]
    async fn what_comes_in_order_is_not_sorted() {
        let names = async |query: &str| {
            let listing = Listing::of_sorted(&Query::parse(query), "vhost").expect("a listing");
            let quick = |item: &&str, column: &str| match column {
                "name" => Some(Key::from(*item)),
                "length" => Some(Key::count(item.len() as u64)),
                _ => panic!("{column} is not needed"),
            };
            let reply = listing.reply_some(&["a", "bb", "c", "dd"], vec![0, 1, 3], quick, |_| panic!("nor an object"));
            let body = reply.into_response().into_body().collect().await.expect("a body").to_bytes();
            let items: Value = serde_json::from_slice(&body).expect("JSON");
            let items = items["items"].as_array().expect("a list").clone();
            items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("page=1&columns=name").await, ["a", "bb", "dd"]);
        assert_eq!(names("page=2&page_size=2&columns=name&sort=vhost").await, ["dd"]);
        assert_eq!(names("page=1&page_size=2&columns=name&sort=vhost&sort_reverse=true").await, ["dd", "bb"]);
        assert_eq!(names("page=1&columns=name&sort=length").await, ["a", "bb", "dd"]);
        assert_eq!(names("page=1&columns=name&sort=length&sort_reverse=true").await, ["dd", "bb", "a"]);
    }

    proptest! {
        #[test]
        fn a_part_is_what_sorting_all_gives(numbers: Vec<u8>, start in 0_usize..40, size in 1_usize..40) {
            let compare = |a: &usize, b: &usize| numbers[*a].cmp(&numbers[*b]).then(a.cmp(b));
            let mut all: Vec<usize> = (0..numbers.len()).collect();
            let mut order = all.clone();
            all.sort_by(compare);
            let expected: Vec<usize> = all.into_iter().skip(start).take(size).collect();
            prop_assert_eq!(part(&mut order, start, size, compare), expected);
        }
    }
}
