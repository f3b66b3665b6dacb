//! Listings over sockets: pages, columns, sorting, paths.

use serde_json::json;

use crate::support::{Request, Server};

async fn with_queues(number: usize) -> Server {
    let server = Server::start().await;
    for at in 0..number {
        assert_eq!(server.put(&format!("/api/queues/%2F/q{at:02}"), json!({"durable": at % 2 == 0})).await, 201);
    }
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_queues_is_what_kedas_scaler_asks_for() {
    let server = with_queues(12).await;
    let path = "/api/queues/%2F?page=1&use_regex=true&pagination=false&name=%5Eq0&page_size=4";
    let page = server.json(path).await;
    assert_eq!(
        (&page["page_count"], &page["filtered_count"], &page["total_count"]),
        (&json!(3), &json!(10), &json!(12))
    );
    assert_eq!((page["items"].as_array().map(Vec::len), &page["items"][3]["name"]), (Some(4), &json!("q03")));
    for member in ["messages", "messages_ready", "messages_unacknowledged", "consumers"] {
        assert_eq!(page["items"][0][member], 0, "{member}");
    }
    let page = server.json("/api/queues?page=2&page_size=5&sort=name&sort_reverse=true&columns=name,durable").await;
    assert_eq!(page["items"][0], json!({"name": "q06", "durable": true}));
    assert_eq!(server.get("/api/queues?page=9").await.json()["error"], "page_out_of_range");
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_need_no_object_are_the_same_as_those_of_objects() {
    let server = with_queues(3).await;
    let quick = server.json("/api/queues?columns=name,vhost,type,state,messages,messages_ready,memory,consumers").await;
    let whole = server.json("/api/queues").await;
    for (quick, whole) in quick.as_array().expect("a list").iter().zip(whole.as_array().expect("a list")) {
        for (name, value) in quick.as_object().expect("an object") {
            assert_eq!(value, &whole[name], "{name}");
        }
    }
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_can_be_left_out() {
    let server = with_queues(1).await;
    let bare = server.json("/api/queues?disable_stats=true").await;
    assert!(bare[0].get("messages").is_none() && bare[0].get("name").is_some());
    let totals = server.json("/api/queues?disable_stats=true&enable_queue_totals=true").await;
    assert_eq!(totals[0]["messages"], 0);
    assert!(totals[0].get("memory").is_none());
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_have_trailing_slashes_and_empty_segments() {
    let server = with_queues(1).await;
    for path in ["/api/queues/", "/api/queues/%2F/", "/api/queues/%2f", "/api/queues//", "/api/queues//q00"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    assert_eq!(server.put("/api/queues//r", json!({})).await, 201);
    assert_eq!(server.json("/api/queues/%2F/r").await["vhost"], "/");
    let missing = server.get("/api/queues/%2F/none").await;
    assert_eq!((missing.status, missing.json()), (404, json!({"error": "Object Not Found", "reason": "Not Found"})));
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_a_path_does_not_have_are_named() {
    let server = Server::start().await;
    let wrong = server.send(Request { method: "POST", ..Request::default() }).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("HEAD, GET, OPTIONS")));
    let options = server.send(Request { method: "OPTIONS", path: "/api/queues/%2F/q", ..Request::default() }).await;
    assert_eq!((options.status, options.header("allow")), (200, Some("HEAD, GET, PUT, DELETE, OPTIONS")));
    let head = server.send(Request { method: "HEAD", ..Request::default() }).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_has_what_tools_read() {
    let server = with_queues(2).await;
    let overview = server.json("/api/overview").await;
    assert_eq!(overview["object_totals"]["queues"], 2);
    assert_eq!(overview["queue_totals"]["messages"], 0);
    for member in ["rabbitmq_version", "cluster_name", "node", "management_version", "default_queue_type"] {
        assert!(overview[member].is_string(), "{member}");
    }
    let protocols: Vec<_> =
        overview["listeners"].as_array().expect("a list").iter().map(|each| &each["protocol"]).collect();
    assert_eq!(protocols, [&json!("amqp"), &json!("http")]);
    let nodes = server.json("/api/nodes/").await;
    assert_eq!((&nodes[0]["name"], &nodes[0]["running"]), (&overview["node"], &json!(true)));
    for member in ["mem_used", "mem_limit", "fd_used", "fd_total", "disk_free", "uptime", "run_queue"] {
        assert!(nodes[0][member].is_u64(), "{member}");
    }
    server.broker.shutdown().await;
}
