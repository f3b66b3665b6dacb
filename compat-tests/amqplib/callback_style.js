// The flows of the README in amqplib's callback style: declare, publish with confirms, consume, ack, nack, close.
"use strict";

const amqp = require("amqplib/callback_api");
const { assert, run, uniqueExchange, uniqueQueue, url } = require("./support");

function flow(done) {
  const queue = uniqueQueue("callbacks");
  const exchange = uniqueExchange("callbacks");
  const seen = [];

  amqp.connect(url, (connectError, connection) => {
    if (connectError) return done(connectError);
    connection.on("error", done);
    connection.createConfirmChannel((channelError, channel) => {
      if (channelError) return done(channelError);
      channel.on("error", done);
      channel.assertExchange(exchange, "topic", { durable: false });
      channel.assertQueue(queue, { durable: false }, (queueError, declared) => {
        if (queueError) return done(queueError);
        assert.deepEqual(declared, { queue, messageCount: 0, consumerCount: 0 });
        channel.bindQueue(queue, exchange, "order.*", {}, (bindError) => {
          if (bindError) return done(bindError);
          publish(channel, () => consume(connection, channel));
        });
      });
    });
  });

  function publish(channel, then) {
    let confirmed = 0;
    for (const [routingKey, body] of [
      ["order.created", "1"],
      ["invoice.created", "not for this queue"],
      ["order.paid", "2"],
    ]) {
      channel.publish(exchange, routingKey, Buffer.from(body), { mandatory: false }, (error) => {
        if (error) return done(error);
        confirmed += 1;
        if (confirmed === 3) channel.waitForConfirms((waitError) => (waitError ? done(waitError) : then()));
      });
    }
  }

  function consume(connection, channel) {
    channel.prefetch(1);
    channel.consume(
      queue,
      (message) => {
        seen.push([message.content.toString(), message.fields.redelivered]);
        if (seen.length === 1) return channel.nack(message, false, true);
        channel.ack(message);
        if (seen.length === 3) check(connection, channel);
      },
      { consumerTag: "callbacks" },
      (error, ok) => {
        if (error) return done(error);
        assert.equal(ok.consumerTag, "callbacks");
      },
    );
  }

  function check(connection, channel) {
    assert.deepEqual(seen, [
      ["1", false],
      ["1", true],
      ["2", false],
    ]);
    channel.cancel("callbacks", (cancelError) => {
      if (cancelError) return done(cancelError);
      channel.get(queue, {}, (getError, message) => {
        if (getError) return done(getError);
        assert.equal(message, false);
        channel.close((closeError) => (closeError ? done(closeError) : missing(connection)));
      });
    });
  }

  /** The error of a failed method arrives in its callback and on its channel; the connection lives. */
  function missing(connection) {
    connection.createChannel((channelError, channel) => {
      if (channelError) return done(channelError);
      const errors = [];
      channel.on("error", (error) => errors.push(error));
      channel.on("close", () => {
        assert.deepEqual(
          errors.map((error) => error.code),
          [404, 404],
        );
        connection.close(done);
      });
      channel.checkQueue(uniqueQueue("missing"), (error) => {
        assert.match(error.message, /404 \(NOT-FOUND\)/);
        errors.push(error);
      });
    });
  }
}

run(() => new Promise((resolve, reject) => flow((error) => (error ? reject(error) : resolve()))));
