//! Requests whose answers come by direct reply-to.

use lapin::{
    BasicProperties, Channel, Consumer, Result,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions},
    types::{FieldTable, ShortString},
};
use tokio_stream::StreamExt;

use crate::support::{Scene, assert_refused, close, consume, declare_durable, next, text};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

pub(crate) async fn rpc(scene: &Scene) -> Result<()> {
    let serving = scene.connect().await?;
    let server = serving.create_channel().await?;
    let jobs = scene.queue_name("jobs");
    declare_durable(&server, &jobs, FieldTable::default()).await?;
    let requests = consume(&server, &jobs).await?;
    tokio::spawn(serve(server, requests));

    let asking = scene.connect().await?;
    let client = asking.create_channel().await?;
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut answers = client.basic_consume(REPLY_TO.into(), "".into(), no_ack, FieldTable::default()).await?;
    for number in 0..50 {
        ask(&client, &jobs, number).await?;
        let answer = next(&mut answers).await?;
        let correlation = answer.properties.correlation_id().as_ref().map(ToString::to_string);
        assert_eq!((correlation, text(&answer)), (Some(number.to_string()), format!("re: {number}")));
    }
    // Many at once: the answers of one server come in the order of the requests.
    for number in 0..200 {
        ask(&client, &jobs, number).await?;
    }
    for number in 0..200 {
        assert_eq!(text(&next(&mut answers).await?), format!("re: {number}"));
    }

    // Who does not consume answers may not ask; and answers are not acknowledged.
    let other = asking.create_channel().await?;
    let refused = async {
        ask(&other, &jobs, 0).await?;
        consume(&other, &jobs).await
    };
    assert_refused(refused.await, 406, "PRECONDITION_FAILED - fast reply consumer does not exist");
    let other = asking.create_channel().await?;
    let with_ack =
        other.basic_consume(REPLY_TO.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default());
    assert_refused(with_ack.await, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge");
    close(&asking).await?;
    close(&serving).await
}

async fn ask(client: &Channel, jobs: &ShortString, number: u32) -> Result<()> {
    let number = number.to_string();
    let properties =
        BasicProperties::default().with_reply_to(REPLY_TO.into()).with_correlation_id(number.as_str().into());
    let options = BasicPublishOptions::default();
    client.basic_publish("".into(), jobs.clone(), options, number.as_bytes(), properties).await?;
    Ok(())
}

/// Answers requests until the connection is closed.
async fn serve(server: Channel, mut requests: Consumer) -> Result<()> {
    while let Some(request) = requests.next().await {
        let request = request?;
        let reply_to = request.properties.reply_to().clone().expect("it says where the answer goes");
        let mut properties = BasicProperties::default();
        if let Some(correlation) = request.properties.correlation_id() {
            properties = properties.with_correlation_id(correlation.clone());
        }
        let answer = format!("re: {}", text(&request));
        let options = BasicPublishOptions::default();
        server.basic_publish("".into(), reply_to, options, answer.as_bytes(), properties).await?;
        request.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
