//! TLS: a message over it, and a client that logs in with its certificate (EXTERNAL). lapin chooses the version itself.

use std::{env, fs, path::PathBuf};

use lapin::{
    Connection, ConnectionProperties, Result, runtime,
    tcp::{OwnedIdentity, OwnedTLSConfig},
    types::FieldTable,
};

use crate::support::{Scene, close, declare_durable, drain, publish};

/// Runs if `AMQPS_URL` says where TLS is spoken, with the certificates in `AMQP_TLS_DIR`.
pub(crate) async fn tls(scene: &Scene) -> Result<()> {
    let Ok(url) = env::var("AMQPS_URL") else {
        println!("this broker has no TLS listener to test");
        return Ok(());
    };
    let external = format!("{url}?auth_mechanism=external");

    check_alive(scene, connect(&url, "ca", None).await?).await?;
    check_alive(scene, connect(&external, "ca", Some("guest")).await?).await?;
    // A certificate of an authority that the broker does not trust, none at all, and a broker whom the client does not trust.
    for (authority, identity) in [("ca", Some("stranger")), ("ca", None), ("strangers", Some("guest"))] {
        let refused = connect(&external, authority, identity).await;
        assert!(refused.is_err(), "logged in with {identity:?} to the broker of {authority}");
    }
    Ok(())
}

async fn connect(url: &str, authority: &str, identity: Option<&str>) -> Result<Connection> {
    let config = OwnedTLSConfig {
        identity: identity.map(|name| OwnedIdentity::PKCS8 {
            pem: file(&format!("{name}.pem")).into_bytes(),
            key: file(&format!("{name}.key")).into_bytes(),
        }),
        cert_chain: Some(file(&format!("{authority}.pem"))),
    };
    let properties = ConnectionProperties::default();
    Connection::connect_with_config(url, properties, config, runtime::default_runtime()?).await
}

fn file(name: &str) -> String {
    let path = PathBuf::from(env::var_os("AMQP_TLS_DIR").expect("AMQP_TLS_DIR is set where AMQPS_URL is")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

async fn check_alive(scene: &Scene, connection: Connection) -> Result<()> {
    let channel = connection.create_channel().await?;
    let queue = scene.queue_name("tls");
    declare_durable(&channel, &queue, FieldTable::default()).await?;
    let body = vec![b'x'; 1_000_000];
    publish(&channel, "", queue.as_str(), &body).await?;
    let messages = drain(&channel, &queue).await?;
    assert!(messages.len() == 1 && messages[0].data == body, "a large body");
    close(&connection).await
}
