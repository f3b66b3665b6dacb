// Dead letters instead of endless requeueing: rejected, expired and pushed out of a full queue, and a retry loop.
"use strict";

const amqp = require("amqplib");
const { assert, run, subscribe, text, uniqueExchange, uniqueQueue, url, waitForReady } = require("./support");

/** Checks the fields of one entry of `x-death`; its time must be about now. */
function checkDeath(entry, expected) {
  const { time, ...rest } = entry;
  assert.deepEqual(rest, expected);
  assert.equal(time["!"], "timestamp");
  assert.ok(Math.abs(Date.now() / 1000 - time.value) < 60, `died at ${time.value}`);
}

async function rejected(channel) {
  const exchange = uniqueExchange("rejected-dlx");
  const work = uniqueQueue("rejected-work");
  const dead = uniqueQueue("rejected-dead");
  await channel.assertExchange(exchange, "direct", { durable: true });
  await channel.assertQueue(dead, { durable: true });
  await channel.bindQueue(dead, exchange, "order.failed");
  await channel.assertQueue(work, {
    durable: true,
    deadLetterExchange: exchange,
    deadLetterRoutingKey: "order.failed",
  });

  channel.sendToQueue(work, Buffer.from("unreadable"), {
    persistent: true,
    messageId: "m-1",
    contentType: "text/plain",
    headers: { attempt: 1 },
  });
  channel.sendToQueue(work, Buffer.from("rejected"));
  const jobs = await subscribe(channel, work);
  channel.nack(await jobs.next(), false, false);
  channel.reject(await jobs.next(), false);

  const letters = await subscribe(channel, dead);
  const letter = await letters.next();
  assert.equal(text(letter), "unreadable");
  assert.equal(letter.fields.exchange, exchange);
  assert.equal(letter.fields.routingKey, "order.failed");
  assert.equal(letter.fields.redelivered, false);
  assert.equal(letter.properties.messageId, "m-1");
  assert.equal(letter.properties.contentType, "text/plain");
  assert.equal(letter.properties.deliveryMode, 2);
  const { headers } = letter.properties;
  assert.equal(headers.attempt, 1);
  assert.equal(headers["x-first-death-reason"], "rejected");
  assert.equal(headers["x-first-death-queue"], work);
  assert.equal(headers["x-first-death-exchange"], "");
  assert.equal(headers["x-death"].length, 1);
  checkDeath(headers["x-death"][0], {
    count: 1,
    reason: "rejected",
    queue: work,
    exchange: "",
    "routing-keys": [work],
  });
  assert.equal(text(await letters.next()), "rejected");
  await waitForReady(channel, work, 0);
}

async function expired(channel) {
  const exchange = uniqueExchange("expired-dlx");
  const byQueue = uniqueQueue("expired-by-queue");
  const byMessage = uniqueQueue("expired-by-message");
  const dead = uniqueQueue("expired-dead");
  await channel.assertExchange(exchange, "fanout");
  await channel.assertQueue(dead);
  await channel.bindQueue(dead, exchange, "");
  await channel.assertQueue(byQueue, { messageTtl: 100, deadLetterExchange: exchange });
  await channel.assertQueue(byMessage, { deadLetterExchange: exchange });
  const letters = await subscribe(channel, dead, { noAck: true });

  channel.sendToQueue(byQueue, Buffer.from("by the queue's time to live"));
  const first = await letters.next();
  assert.equal(text(first), "by the queue's time to live");
  assert.equal(first.fields.exchange, exchange);
  assert.equal(first.fields.routingKey, byQueue, "without a dead-letter routing key the message keeps its own");
  checkDeath(first.properties.headers["x-death"][0], {
    count: 1,
    reason: "expired",
    queue: byQueue,
    exchange: "",
    "routing-keys": [byQueue],
  });

  channel.sendToQueue(byMessage, Buffer.from("by its own expiration"), { expiration: 100 });
  const second = await letters.next();
  assert.equal(text(second), "by its own expiration");
  assert.equal(second.properties.expiration, undefined, "it must not expire again");
  checkDeath(second.properties.headers["x-death"][0], {
    count: 1,
    reason: "expired",
    queue: byMessage,
    exchange: "",
    "routing-keys": [byMessage],
    "original-expiration": "100",
  });
}

async function pushedOut(channel) {
  const work = uniqueQueue("maxlen-work");
  const dead = uniqueQueue("maxlen-dead");
  await channel.assertQueue(dead);
  await channel.assertQueue(work, { maxLength: 2, deadLetterExchange: "", deadLetterRoutingKey: dead });
  const letters = await subscribe(channel, dead, { noAck: true });
  for (const body of ["1", "2", "3", "4"]) channel.sendToQueue(work, Buffer.from(body));

  for (const body of ["1", "2"]) {
    const letter = await letters.next();
    assert.equal(text(letter), body, "the oldest goes first");
    assert.equal(letter.fields.exchange, "");
    assert.equal(letter.fields.routingKey, dead);
    checkDeath(letter.properties.headers["x-death"][0], {
      count: 1,
      reason: "maxlen",
      queue: work,
      exchange: "",
      "routing-keys": [work],
    });
  }
  await waitForReady(channel, work, 2);
}

/** work -(rejected)-> wait -(expired)-> work, until `x-death` says that it was tried often enough. */
async function retryLoop(channel) {
  const orders = uniqueExchange("retry-orders");
  const retries = uniqueExchange("retry-wait");
  const work = uniqueQueue("retry-work");
  const wait = uniqueQueue("retry-wait");
  await channel.assertExchange(orders, "topic");
  await channel.assertExchange(retries, "topic");
  await channel.assertQueue(work, { deadLetterExchange: retries });
  await channel.assertQueue(wait, { messageTtl: 50, deadLetterExchange: orders });
  await channel.bindQueue(work, orders, "order.#");
  await channel.bindQueue(wait, retries, "#");

  const jobs = await subscribe(channel, work);
  channel.publish(orders, "order.created.eu", Buffer.from("stubborn"));
  for (let attempt = 0; attempt < 4; attempt += 1) {
    const job = await jobs.next();
    assert.equal(job.fields.exchange, orders);
    assert.equal(job.fields.routingKey, "order.created.eu");
    const deaths = job.properties.headers["x-death"] ?? [];
    if (attempt === 0) {
      assert.deepEqual(deaths, []);
    } else {
      assert.equal(deaths.length, 2, "one entry for a pair of queue and reason");
      const common = { count: attempt, "routing-keys": ["order.created.eu"] };
      checkDeath(deaths[0], { ...common, reason: "expired", queue: wait, exchange: retries });
      checkDeath(deaths[1], { ...common, reason: "rejected", queue: work, exchange: orders });
      assert.equal(job.properties.headers["x-first-death-reason"], "rejected");
      assert.equal(job.properties.headers["x-first-death-queue"], work);
    }
    if (attempt < 3) channel.nack(job, false, false);
    else channel.ack(job);
  }
  await waitForReady(channel, work, 0);
  await waitForReady(channel, wait, 0);
}

run(async () => {
  const connection = await amqp.connect(url);
  for (const flow of [rejected, expired, pushedOut, retryLoop]) {
    const channel = await connection.createChannel();
    await flow(channel);
    await channel.close();
  }
  await connection.close();
});
