//! Messages of a queue looked at without taking them, deleted and moved; dead letters sent back (beyond RabbitMQ's API).
//!
//! Who may read from a queue may look at its messages, delete and move them; to move them takes the right to write to the
//! exchange that they go to, or to the default exchange for what goes straight to a queue.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::{HeaderValue, header};
use axum::routing::{delete, get, post};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::body;
use super::caller::Caller;
use super::problem::Problem;
use super::reply::{Answer, Reply};
use super::request::{Params, Query};
use super::routes::Api;
use crate::engine::directory::{Access, Resource, Right};
use crate::server::operator::{BodyWish, Choice, Destination, MessageState, PeekQuestion, RedriveInfo, RedriveOrder};

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/api/queues/{vhost}/{queue}/messages", get(peek).delete(delete_chosen))
        .route("/api/queues/{vhost}/{queue}/messages/move", post(move_chosen))
        .route("/api/queues/{vhost}/{queue}/messages/{id}", delete(delete_one).get(show))
        .route("/api/queues/{vhost}/{queue}/messages/{id}/move", post(move_one))
        .route("/api/queues/{vhost}/{queue}/redrive", post(redrive))
        .route("/api/redrive", get(list_redrives))
        .route("/api/redrive/{id}", get(show_redrive).delete(cancel_redrive))
}

/// A queue that the caller may read from, and what else they may do in its vhost.
fn readable(api: &Api, caller: &Caller, vhost: String, queue: &str) -> Result<(String, Access), Problem> {
    let vhost = caller.vhost(api, vhost)?;
    api.operator.queue(&vhost, queue)?;
    let access = caller.access(api, &vhost)?;
    access.check(Right::Read, Resource::Queue(queue.as_bytes()))?;
    Ok((vhost, access))
}

/// Refuses a destination to which the caller may not write.
fn may_write(access: &Access, to: &Destination) -> Result<(), Problem> {
    let Destination::Exchange { exchange, routing_key } = to else {
        return Ok(access.check(Right::Write, Resource::Exchange(b""))?);
    };
    let exchange = if exchange == "amq.default" { "" } else { exchange.as_str() };
    access.check(Right::Write, Resource::Exchange(exchange.as_bytes()))?;
    match routing_key {
        Some(key) => Ok(access.check_topic(Right::Write, exchange.as_bytes(), key.as_bytes())?),
        None if access.restricts_topic(exchange.as_bytes()) => {
            Err(Problem::not_authorised("Access refused: which routing keys messages have is not known before"))
        }
        None => Ok(()),
    }
}

/// What a body says; a member that is wrong or not known is named.
fn parsed<T: DeserializeOwned>(body: Map<String, Value>) -> Result<T, Problem> {
    serde_json::from_value(Value::Object(body)).map_err(|cause| Problem::bad_request(cause.to_string()))
}

/// Where to, as a body says it.
fn destination(body: &mut Map<String, Value>) -> Result<Option<Destination>, Problem> {
    let Some(to) = body.remove("to") else { return Ok(None) };
    let to = serde_json::from_value(to).map_err(|_| {
        let text = "to must be \"source\", {\"queue\": …} or {\"exchange\": …, \"routing_key\": …}";
        Problem::bad_request(text)
    });
    to.map(Some)
}

fn number<T: std::str::FromStr>(query: &Query, name: &str) -> Result<Option<T>, Problem> {
    let number = query.get(name).map(str::parse).transpose();
    number.map_err(|_| Problem::bad_request(format!("{name} must be a number")))
}

/// Which messages a query means.
fn choice(query: &Query) -> Result<Choice, Problem> {
    let state = match query.get("state") {
        None => MessageState::default(),
        Some(name) => MessageState::named(name)
            .ok_or_else(|| Problem::bad_request("state must be all, ready, unacked or delayed"))?,
    };
    let ids = query.get("ids").unwrap_or_default().split(',').map(str::trim).filter(|id| !id.is_empty());
    let filter = match query.get("filter") {
        None => Map::new(),
        Some(text) => body::object(text.as_bytes())?,
    };
    Ok(Choice {
        state,
        ids: ids.map(str::to_owned).collect(),
        condition: query.get("where").map(str::to_owned),
        filter,
        all: query.is_true("all"),
        from: query.get("from").map(str::to_owned),
        limit: number(query, "limit")?,
        time_ms: number(query, "time_ms")?,
    })
}

/// How much of bodies a query wants.
fn question(choice: Choice, query: &Query) -> Result<PeekQuestion, Problem> {
    let wish = match query.get("body") {
        None => BodyWish::default(),
        Some(name) => BodyWish::named(name).ok_or_else(|| Problem::bad_request("body must be none, head or full"))?,
    };
    Ok(PeekQuestion { choice, body: wish, body_bytes: number(query, "body_bytes")? })
}

/// One message. A delayed one is told by its id.
fn only(id: String, state: MessageState) -> Choice {
    let state = if id.contains('/') { MessageState::Delayed } else { state };
    Choice { state, ids: vec![id], ..Choice::default() }
}

async fn peek(State(api): State<Arc<Api>>, caller: Caller, Params([vhost, queue]): Params<2>, query: Query) -> Answer {
    let (vhost, _) = readable(&api, &caller, vhost, &queue)?;
    let question = question(choice(&query)?, &query)?;
    Reply::json(&api.operator.peek_messages(&vhost, &queue, &question).await?)
}

async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, queue, id]): Params<3>,
    query: Query,
) -> Answer {
    let (vhost, _) = readable(&api, &caller, vhost, &queue)?;
    let question = question(only(id, MessageState::All), &query)?;
    let found = api.operator.peek_messages(&vhost, &queue, &question).await?;
    Reply::json(found.messages.first().ok_or_else(Problem::not_found)?)
}

async fn delete_chosen(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, queue]): Params<2>,
    query: Query,
) -> Answer {
    let (vhost, _) = readable(&api, &caller, vhost, &queue)?;
    Reply::json(&api.operator.delete_messages(&vhost, &queue, &choice(&query)?).await?)
}

async fn delete_one(State(api): State<Arc<Api>>, caller: Caller, Params([vhost, queue, id]): Params<3>) -> Answer {
    let (vhost, _) = readable(&api, &caller, vhost, &queue)?;
    let deleted = api.operator.delete_messages(&vhost, &queue, &only(id, MessageState::Ready)).await?;
    if deleted.count == 0 { Err(Problem::not_found()) } else { Ok(Reply::done()) }
}

async fn move_chosen(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, queue]): Params<2>,
    body::Object(mut body): body::Object,
) -> Answer {
    let (vhost, access) = readable(&api, &caller, vhost, &queue)?;
    let to = destination(&mut body)?.ok_or_else(|| Problem::bad_request("[{key_missing,to}]"))?;
    may_write(&access, &to)?;
    let choice: Choice = parsed(body)?;
    Reply::json(&api.operator.move_messages(&vhost, &queue, &choice, &to).await?)
}

async fn move_one(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, queue, id]): Params<3>,
    body::Object(mut body): body::Object,
) -> Answer {
    let (vhost, access) = readable(&api, &caller, vhost, &queue)?;
    let to = destination(&mut body)?.ok_or_else(|| Problem::bad_request("[{key_missing,to}]"))?;
    may_write(&access, &to)?;
    if let Some(name) = body.keys().next() {
        return Err(Problem::bad_request(format!("unknown field `{name}`")));
    }
    let moved = api.operator.move_messages(&vhost, &queue, &only(id, MessageState::Ready), &to).await?;
    match moved.failures.first() {
        Some(failure) => Err(Problem::bad_request(failure.reason.clone())),
        None if moved.count == 0 => Err(Problem::not_found()),
        None => Ok(Reply::done()),
    }
}

/// The place of a job.
fn location(job: &RedriveInfo) -> String {
    format!("/api/redrive/{}", job.id)
}

async fn redrive(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Params([vhost, queue]): Params<2>,
    body::Object(mut body): body::Object,
) -> Answer {
    let (vhost, access) = readable(&api, &caller, vhost, &queue)?;
    let to = destination(&mut body)?;
    let mut order: RedriveOrder = parsed(body)?;
    if let Some(to) = to {
        order.to = to;
    }
    may_write(&access, &order.to)?;
    let job = api.operator.redrive(&vhost, &queue, order)?;
    let mut reply = Reply::json(&job)?.with_status(StatusCode::ACCEPTED);
    if let Ok(place) = HeaderValue::from_str(&location(&job)) {
        reply.header(header::LOCATION, place);
    }
    Ok(reply)
}

async fn list_redrives(State(api): State<Arc<Api>>, caller: Caller) -> Answer {
    let vhosts = caller.vhosts(&api);
    let mut jobs = api.operator.redrives();
    jobs.retain(|job| vhosts.contains(&job.vhost));
    Reply::json(&jobs)
}

/// A job of a vhost that the caller may enter.
fn job(api: &Api, caller: &Caller, id: &str) -> Result<RedriveInfo, Problem> {
    let id = id.parse().map_err(|_| Problem::not_found())?;
    let job = api.operator.redrive_info(id)?;
    if caller.vhosts(api).contains(&job.vhost) { Ok(job) } else { Err(Problem::not_found()) }
}

async fn show_redrive(State(api): State<Arc<Api>>, caller: Caller, Params([id]): Params<1>) -> Answer {
    Reply::json(&job(&api, &caller, &id)?)
}

async fn cancel_redrive(State(api): State<Arc<Api>>, caller: Caller, Params([id]): Params<1>) -> Answer {
    let job = job(&api, &caller, &id)?;
    caller.access(&api, &job.vhost)?.check(Right::Read, Resource::Queue(job.queue.as_bytes()))?;
    Reply::json(&api.operator.cancel_redrive(job.id).await?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_destination_has_three_forms() {
        let of = |to: Value| destination(&mut json!({"to": to}).as_object().expect("an object").clone());
        assert_eq!(of(json!("source")), Ok(Some(Destination::SOURCE)));
        assert_eq!(of(json!({"queue": "q"})), Ok(Some(Destination::Queue { queue: "q".to_owned() })));
        let exchange = Destination::Exchange { exchange: "x".to_owned(), routing_key: None };
        assert_eq!(of(json!({"exchange": "x"})), Ok(Some(exchange)));
        for wrong in [json!("elsewhere"), json!({}), json!({"queue": "q", "exchange": "x"}), json!(null), json!([])] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_query_says_which_messages_are_meant() {
        let choice = |query: &str| choice(&Query::parse(query));
        let all = choice("state=unacked&ids=0:1,0:2&where=priority+%3E+4&from=0:7&limit=5&time_ms=10").expect("right");
        assert_eq!((all.state, all.ids.len(), all.limit), (MessageState::Unacked, 2, Some(5)));
        assert_eq!((all.condition.as_deref(), all.from.as_deref()), (Some("priority > 4"), Some("0:7")));
        let filter = choice("filter=%7B%22header.n%22%3A5%7D").expect("right").filter;
        assert_eq!(Value::Object(filter), json!({"header.n": 5}));
        for wrong in ["state=gone", "limit=many", "time_ms=-1", "filter=%5B%5D"] {
            assert!(choice(wrong).is_err(), "{wrong}");
        }
    }
}
