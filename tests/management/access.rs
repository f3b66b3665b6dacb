//! Who may see and do what.

use serde_json::json;

use crate::support::{Request, Server};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_answered_without_a_login() {
    let server = Server::start().await;
    let unknown = server.send(Request { user: "", ..Request::default() }).await;
    assert_eq!(unknown.status, 401);
    assert_eq!(unknown.header("www-authenticate"), Some("Basic realm=\"RabbitMQ Management\""));
    for (user, password) in [("guest", "wrong"), ("nobody", "guest"), ("guest", "")] {
        let refused = server.get_as(user, password, "/api/whoami").await;
        assert_eq!((refused.status, refused.json()["error"].as_str()), (401, Some("not_authorized")));
    }
    let known = server.json("/api/whoami").await;
    assert_eq!((known["name"].as_str(), &known["tags"]), (Some("guest"), &json!(["administrator"])));
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_say_what_a_user_may_do() {
    let server = Server::start().await;
    for (name, tags) in
        [("plain", ""), ("m", "management"), ("p", "policymaker"), ("o", "monitoring"), ("a", "administrator")]
    {
        server.add_user(name, tags).await;
    }
    let status = |user: &'static str, path: &'static str| {
        let server = &server;
        async move { server.get_as(user, "secret", path).await.status }
    };
    assert_eq!(status("plain", "/api/whoami").await, 401, "no management user");
    for user in ["m", "p", "o", "a"] {
        assert_eq!(status(user, "/api/overview").await, 200);
    }
    for (path, allowed) in [
        ("/api/users", &["a"][..]),
        ("/api/definitions", &["a"]),
        ("/api/nodes", &["o", "a"]),
        ("/api/global-parameters", &["p", "a"]),
        ("/api/queues", &["m", "p", "o", "a"]),
    ] {
        for user in ["m", "p", "o", "a"] {
            let expected = if allowed.contains(&user) { 200 } else { 401 };
            assert_eq!(status(user, path).await, expected, "{user} {path}");
        }
    }
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_the_vhosts_that_they_may_enter() {
    let server = Server::start().await;
    server.add_user("m", "management").await;
    for vhost in ["v", "w"] {
        assert_eq!(server.put(&format!("/api/vhosts/{vhost}"), json!({})).await, 201);
        assert_eq!(server.put(&format!("/api/queues/{vhost}/q"), json!({"durable": true})).await, 201);
    }
    let rights = json!({"configure": "^mine", "write": ".*", "read": ".*"});
    assert_eq!(server.put("/api/permissions/v/m", rights).await, 201);
    let queues = server.get_as("m", "secret", "/api/queues").await.json();
    assert_eq!((queues.as_array().map(Vec::len), queues[0]["vhost"].as_str()), (Some(1), Some("v")));
    assert_eq!(server.get_as("m", "secret", "/api/queues/w/q").await.status, 401);
    assert_eq!(server.get_as("m", "secret", "/api/queues/v/q").await.status, 200);
    let vhosts = server.get_as("m", "secret", "/api/vhosts").await.json();
    assert_eq!(vhosts.as_array().map(Vec::len), Some(1));
    let declare = |name: &'static str| {
        let request = Request {
            method: "PUT",
            path: name,
            user: "m",
            password: "secret",
            body: b"{}".to_vec(),
            ..Request::default()
        };
        server.send(request)
    };
    assert_eq!(declare("/api/queues/v/mine1").await.status, 201);
    let refused = declare("/api/queues/v/other").await;
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (401, Some("Access refused.")));
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_counted_and_slow_down() {
    let server = Server::start().await;
    let start = std::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(server.get_as("guest", "wrong", "/api/whoami").await.status, 401);
    }
    assert!(start.elapsed().as_millis() >= 50 + 100 + 200 + 400 + 800, "each costs more");
    let node = server.json("/api/overview").await["node"].as_str().expect("a name").to_owned();
    let attempts = server.json(&format!("/api/auth/attempts/{node}")).await;
    let http = attempts.as_array().expect("a list").iter().find(|row| row["protocol"] == "http").expect("a row");
    assert_eq!(http["auth_attempts_failed"], 5);
    assert_eq!(server.delete(&format!("/api/auth/attempts/{node}")).await, 204);
    let quick = std::time::Instant::now();
    assert_eq!(server.get("/api/whoami").await.status, 200);
    assert!(quick.elapsed().as_millis() < 1000, "who is right does not wait");
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_guess_at_once_are_turned_away() {
    let server = Server::start().await;
    let guesses = (0..40).map(|_| server.get_as("guest", "wrong", "/api/whoami"));
    let mut statuses: Vec<u16> = Vec::new();
    for response in futures_of(guesses).await {
        statuses.push(response.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 401 | 429)), "{statuses:?}");
    server.broker.shutdown().await;
}

/// Waits for all, which run at the same time.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in running.iter_mut().zip(&mut done) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_origins_are_allowed_only_if_they_are_named() {
    let mut management = leveret::ManagementConfig::for_tests();
    management.cors_allow_origins = vec!["https://here.example".to_owned()];
    let server = Server::start_with(management).await;
    let ask = async |origin: &'static str| {
        let headers = [("origin", origin)];
        server
            .send(Request { headers: &headers, ..Request::default() })
            .await
            .header("access-control-allow-origin")
            .map(str::to_owned)
    };
    assert_eq!(ask("https://here.example").await.as_deref(), Some("https://here.example"));
    assert_eq!(ask("https://there.example").await, None);
    server.broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_limits_is_refused() {
    let mut config =
        leveret::Config { management: leveret::ManagementConfig::for_tests(), ..leveret::Config::for_tests() };
    config.vhost_max = Some(2);
    config.credentials.rule = leveret::config::CredentialRule::Regexp;
    config.credentials.regexp = Some("^[a-z]{4,}[0-9]".to_owned());
    let server = Server::start_as(config).await;
    let refused = async |path: &str, body: serde_json::Value| {
        let response = server.with_body("PUT", path, &body).await;
        assert_eq!(response.status, 400, "{path}");
        let problem = response.json();
        assert_eq!(problem["error"], "bad_request");
        problem["reason"].as_str().expect("a reason").to_owned()
    };
    assert_eq!(server.put("/api/vhosts/second", json!({})).await, 201);
    assert_eq!(
        refused("/api/vhosts/third", json!({})).await,
        "cannot create vhost 'third': vhost limit of 2 is reached"
    );
    assert_eq!(server.put("/api/vhosts/second", json!({"description": "still there"})).await, 204);
    let user = |password: &str| json!({"password": password, "tags": ""});
    assert_eq!(server.put("/api/users/ada", user("babbage1")).await, 201);
    for body in [user("babbage"), json!({"tags": ""})] {
        assert_eq!(refused("/api/users/grace", body).await, "credential validation failed");
    }
    assert_eq!(refused("/api/users/ada", user("x")).await, "credential validation failed");
    // Only its tags change.
    assert_eq!(server.put("/api/users/ada", json!({"tags": "monitoring"})).await, 204);
    let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
    assert_eq!(server.put("/api/users/grace", json!({"password_hash": hash, "tags": ""})).await, 201);
    server.broker.shutdown().await;
}
