// The order flow with one failure and then success: the message comes again, at its old place, marked as redelivered.
"use strict";

const amqp = require("amqplib");
const { assert, run, uniqueQueue, url, waitForReady } = require("./support");

run(async () => {
  const queue = uniqueQueue("order-retry");

  const producer = await amqp.connect(url);
  const sending = await producer.createChannel();
  await sending.assertQueue(queue, { durable: true });
  for (const orderId of [1, 2, 3]) {
    const order = { orderId, items: [{ sku: "hare", quantity: orderId }] };
    sending.sendToQueue(queue, Buffer.from(JSON.stringify(order)), { persistent: true });
  }
  await sending.close();
  await producer.close();

  const consumer = await amqp.connect(url);
  const channel = await consumer.createChannel();
  await channel.assertQueue(queue, { durable: true });
  await waitForReady(channel, queue, 3);
  await channel.prefetch(1);

  const attempts = [];
  await new Promise((resolve, reject) => {
    const onMessage = (message) => {
      const order = JSON.parse(message.content.toString());
      attempts.push([order.orderId, message.fields.redelivered, message.fields.deliveryTag]);
      assert.equal(order.items[0].quantity, order.orderId);
      assert.equal(message.fields.exchange, "");
      assert.equal(message.fields.routingKey, queue);
      assert.equal(message.properties.deliveryMode, 2);
      if (attempts.length === 1) {
        channel.nack(message, false, true);
      } else {
        channel.ack(message);
        if (order.orderId === 3) resolve();
      }
    };
    channel.consume(queue, (message) => {
      try {
        onMessage(message);
      } catch (error) {
        reject(error);
      }
    });
  });
  assert.deepEqual(attempts, [
    [1, false, 1],
    [1, true, 2],
    [2, false, 3],
    [3, false, 4],
  ]);

  await channel.close();
  const after = await consumer.createChannel();
  await waitForReady(after, queue, 0); // Everything was acknowledged.
  await consumer.close();
});
