//! Connections: login, tuning, many channels, closing.

use std::time::Duration;

use lapin::{
    Connection, ConnectionProperties, Result,
    options::BasicConsumeOptions,
    types::FieldTable,
    uri::{AMQPUri, AMQPUserInfo, SASLMechanism},
};

use crate::support::{Scene, assert_refused, close, declare_durable, drain, publish};

pub(crate) async fn connection(scene: &Scene) -> Result<()> {
    login(scene).await?;
    mechanisms(scene).await?;
    tuning(scene).await?;
    many_channels(scene).await?;
    connection_exception(scene).await
}

fn uri(scene: &Scene) -> AMQPUri {
    scene.uri().parse().expect("AMQP_URL is an address")
}

async fn login(scene: &Scene) -> Result<()> {
    let named = ConnectionProperties::default().with_connection_name("compat".into());
    close(&Connection::connect_uri(uri(scene), named).await?).await?;

    let mut wrong_password = uri(scene);
    wrong_password.authority.userinfo =
        AMQPUserInfo { username: "guest".to_owned(), password: "not the password".to_owned() };
    let refused = Connection::connect_uri(wrong_password, ConnectionProperties::default()).await;
    assert_refused(refused, 403, "ACCESS_REFUSED - Login was refused");

    let mut missing_vhost = uri(scene);
    missing_vhost.vhost = String::from("no-such-vhost");
    let refused = Connection::connect_uri(missing_vhost, ConnectionProperties::default()).await;
    assert_refused(refused, 530, "NOT_ALLOWED - vhost no-such-vhost not found");
    Ok(())
}

async fn mechanisms(scene: &Scene) -> Result<()> {
    for mechanism in [SASLMechanism::Plain, SASLMechanism::AMQPlain] {
        let mut address = uri(scene);
        address.query.auth_mechanism = Some(mechanism);
        address.query.connection_timeout = Some(10_000);
        // The slash of the default vhost is encoded in an address.
        assert_eq!(address.to_string().parse(), Ok(address.clone()));
        let described = ConnectionProperties::default()
            .with_locale("en_US".into())
            .with_connection_name("compat".into())
            .with_client_property("product".into(), "compat".into())
            .with_client_property("empty".into(), "".into());
        let connection = Connection::connect_uri(address.clone(), described).await?;
        let status = connection.status();
        assert_eq!((status.connected(), status.username()), (true, address.authority.userinfo.username));
        connection.update_secret("guest".into(), "nothing to renew".into()).await?;
        let channel = connection.create_channel().await?;
        channel.close(200, "OK".into()).await?;
        close(&connection).await?;
    }
    // Without a certificate there is nobody whom EXTERNAL could log in.
    let mut external = uri(scene);
    external.query.auth_mechanism = Some(SASLMechanism::External);
    assert!(Connection::connect_uri(external, ConnectionProperties::default()).await.is_err());
    Ok(())
}

async fn tuning(scene: &Scene) -> Result<()> {
    let mut tuned = uri(scene);
    tuned.query.heartbeat = Some(1);
    tuned.query.channel_max = Some(10);
    tuned.query.frame_max = Some(8192);
    let connection = Connection::connect_uri(tuned, ConnectionProperties::default()).await?;
    let agreed = connection.configuration();
    assert_eq!((agreed.heartbeat(), agreed.channel_max(), agreed.frame_max()), (1, 10, 8192));
    // Either side would have given up by now without the other's heartbeats.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    let channel = connection.create_channel().await?;
    channel.close(200, "OK".into()).await?;
    close(&connection).await
}

async fn many_channels(scene: &Scene) -> Result<()> {
    let connection = scene.connect().await?;
    let queue = scene.queue_name("many-channels");
    let mut channels = Vec::new();
    for _ in 0..200 {
        channels.push(connection.create_channel().await?);
    }
    declare_durable(&channels[0], &queue, FieldTable::default()).await?;
    for channel in channels {
        publish(&channel, "", queue.as_str(), b"x").await?;
        channel.close(200, "OK".into()).await?;
    }
    let channel = connection.create_channel().await?;
    assert_eq!(drain(&channel, &queue).await?.len(), 200);
    close(&connection).await // With a channel still open.
}

/// An error that is not one channel's closes the connection: here a consumer tag that is taken.
async fn connection_exception(scene: &Scene) -> Result<()> {
    let connection = scene.connect().await?;
    let channel = connection.create_channel().await?;
    let queue = scene.queue_name("connection-exception");
    declare_durable(&channel, &queue, FieldTable::default()).await?;
    let options = BasicConsumeOptions::default();
    let _consumer = channel.basic_consume(queue.clone(), "taken".into(), options, FieldTable::default()).await?;
    let again = channel.basic_consume(queue, "taken".into(), options, FieldTable::default()).await;
    assert_refused(again, 530, "NOT_ALLOWED - attempt to reuse consumer tag 'taken'");
    Ok(())
}
