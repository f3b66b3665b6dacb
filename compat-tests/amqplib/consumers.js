// Consumers: prefetch for a consumer and for a channel, settling, cancelling, get, purge, recover, and what is refused.
"use strict";

const amqp = require("amqplib");
const {
  Inbox,
  assert,
  drain,
  expectChannelClose,
  run,
  subscribe,
  text,
  texts,
  uniqueQueue,
  url,
  waitForReady,
} = require("./support");

/** A new queue that holds the numbers from 1 to `count`. */
async function queueWith(channel, name, count, options) {
  const queue = uniqueQueue(name);
  await channel.assertQueue(queue, options);
  for (let number = 1; number <= count; number += 1) channel.sendToQueue(queue, Buffer.from(`${number}`));
  await waitForReady(channel, queue, count);
  return queue;
}

async function prefetchPerConsumer(channel) {
  const queue = await queueWith(channel, "prefetch", 10);
  await channel.prefetch(2);
  const first = await subscribe(channel, queue);
  await channel.prefetch(3);
  const second = await subscribe(channel, queue); // The first one keeps its limit.
  const [one, two] = await first.take(2);
  const others = await second.take(3);
  await waitForReady(channel, queue, 5);
  assert.deepEqual(texts([one, two]), ["1", "2"]);
  assert.deepEqual(texts(others), ["3", "4", "5"]);
  assert.deepEqual([first.size, second.size], [0, 0]);

  channel.ack(two); // Makes room for one more, whichever is acknowledged.
  assert.equal(text(await first.next()), "6");
  channel.ack(others[2], true); // All up to this one, of both consumers.
  await first.next();
  await second.take(3);
  await waitForReady(channel, queue, 0);
  channel.ackAll();
}

async function prefetchPerChannel(channel, connection) {
  const queue = await queueWith(channel, "prefetch-global", 6);
  const shared = await connection.createChannel();
  await shared.prefetch(3, true);
  const both = new Inbox();
  await shared.consume(queue, (message) => both.push(message));
  await shared.consume(queue, (message) => both.push(message));
  const messages = await both.take(3);
  await waitForReady(channel, queue, 3);
  assert.equal(both.size, 0, "the two consumers share the limit");
  shared.ack(messages[0]);
  messages.push(await both.next());
  await waitForReady(channel, queue, 2);
  await shared.prefetch(0, true); // No limit any more.
  messages.push(...(await both.take(2)));
  assert.deepEqual(texts(messages).sort(), ["1", "2", "3", "4", "5", "6"]);
  await shared.close();
  await waitForReady(channel, queue, 5); // What was not acknowledged is back.
  assert.deepEqual(texts(await drain(channel, queue)).sort(), texts(messages.slice(1)).sort());
}

async function takingTurns(channel, connection) {
  const queue = uniqueQueue("turns");
  await channel.assertQueue(queue);
  const inboxes = [];
  for (let consumer = 0; consumer < 3; consumer += 1) {
    const own = await connection.createChannel();
    await own.prefetch(10);
    inboxes.push(await subscribe(own, queue));
  }
  for (let number = 1; number <= 9; number += 1) channel.sendToQueue(queue, Buffer.from(`${number}`));
  const shares = [];
  for (const inbox of inboxes) shares.push(texts(await inbox.take(3)).join(","));
  assert.deepEqual(shares.sort(), ["1,4,7", "2,5,8", "3,6,9"]);
}

async function settling(channel) {
  const queue = await queueWith(channel, "settling", 6);
  const inbox = await subscribe(channel, queue);
  const messages = await inbox.take(6);
  assert.deepEqual(
    messages.map((message) => message.fields.deliveryTag),
    [1, 2, 3, 4, 5, 6],
  );
  assert.ok(messages.every((message) => message.fields.consumerTag === inbox.consumerTag));
  channel.ack(messages[1]); // In any order.
  channel.reject(messages[0], false); // Dropped: there is no dead-letter exchange.
  channel.reject(messages[3], true);
  const again = await inbox.next();
  assert.deepEqual([text(again), again.fields.redelivered, again.fields.deliveryTag], ["4", true, 7]);
  channel.nack(messages[4], true, true); // 3 and 5; 4 was handed out anew, with a higher tag.
  const returned = await inbox.take(2);
  assert.deepEqual(texts(returned), ["3", "5"]);
  channel.nackAll(false); // 3, 4, 5 and 6
  await channel.cancel(inbox.consumerTag);
  await waitForReady(channel, queue, 0);
}

/** What is put back goes to its old place. */
async function requeueing(channel, connection) {
  const queue = await queueWith(channel, "requeueing", 5);
  const other = await connection.createChannel();
  await other.prefetch(3);
  const inbox = await subscribe(other, queue);
  await inbox.take(3);
  await other.close(); // As if its user had crashed.
  await waitForReady(channel, queue, 5);
  const messages = await drain(channel, queue);
  assert.deepEqual(texts(messages), ["1", "2", "3", "4", "5"]);
  assert.deepEqual(
    messages.map((message) => message.fields.redelivered),
    [true, true, true, false, false],
  );
}

async function recovering(channel) {
  const queue = await queueWith(channel, "recover", 3);
  const inbox = await subscribe(channel, queue);
  const messages = await inbox.take(3);
  channel.ack(messages[1]);
  await channel.recover();
  const again = await inbox.take(2);
  assert.deepEqual(texts(again), ["1", "3"]);
  assert.ok(again.every((message) => message.fields.redelivered));
  channel.ackAll();
}

async function withoutAcks(channel, connection) {
  const queue = await queueWith(channel, "no-ack", 100);
  const other = await connection.createChannel();
  await other.prefetch(1); // No limit for this consumer: it acknowledges nothing.
  const inbox = await subscribe(other, queue, { noAck: true });
  assert.equal((await inbox.take(100)).length, 100);
  await other.close();
  assert.equal(await channel.get(queue), false, "nothing came back");
}

async function cancelling(channel, connection) {
  const queue = await queueWith(channel, "cancel", 1);
  const inbox = await subscribe(channel, queue, { consumerTag: "chosen by the client" });
  assert.equal(inbox.consumerTag, "chosen by the client");
  const message = await inbox.next();
  assert.deepEqual(await channel.cancel(inbox.consumerTag), { consumerTag: inbox.consumerTag });
  channel.sendToQueue(queue, Buffer.from("2"));
  await waitForReady(channel, queue, 1);
  assert.equal(inbox.size, 0);
  channel.ack(message); // What was delivered before can still be settled.
  assert.equal(text(await channel.get(queue, { noAck: true })), "2");

  // The queue goes: its consumer is told.
  const orphan = await subscribe(channel, queue);
  assert.match(orphan.consumerTag, /^amq\.ctag-/);
  const other = await connection.createChannel();
  await other.deleteQueue(queue);
  assert.equal(await orphan.next(), null);
}

async function getting(channel, connection) {
  const queue = await queueWith(channel, "get", 3);
  const other = await connection.createChannel();
  const first = await other.get(queue);
  assert.equal(text(first), "1");
  assert.deepEqual(first.fields, {
    deliveryTag: 1,
    redelivered: false,
    exchange: "",
    routingKey: queue,
    messageCount: 2,
  });
  const second = await other.get(queue, { noAck: true });
  assert.deepEqual([text(second), second.fields.messageCount], ["2", 1]);
  other.nack(first, false, true);
  const again = await other.get(queue);
  assert.deepEqual([text(again), again.fields.redelivered, again.fields.messageCount], ["1", true, 1]);
  other.ack(again);
  await other.get(queue);
  assert.equal(await other.get(queue), false);
  await other.close();
  await waitForReady(channel, queue, 1);
  const last = await channel.get(queue, { noAck: true });
  assert.deepEqual([text(last), last.fields.redelivered], ["3", true]);
}

async function purging(channel) {
  const queue = await queueWith(channel, "purge", 5);
  const held = await channel.get(queue);
  assert.deepEqual(await channel.purgeQueue(queue), { messageCount: 4 });
  assert.deepEqual(await channel.purgeQueue(queue), { messageCount: 0 });
  channel.nack(held);
  await waitForReady(channel, queue, 1); // It was with this channel, not in the queue.
}

async function refusals(channel, connection) {
  const queue = await queueWith(channel, "refusals", 2);
  const unknownTag = /PRECONDITION_FAILED - unknown delivery tag 1/;
  await expectChannelClose(connection, 406, unknownTag, async (other) => {
    const message = await other.get(queue);
    other.ack(message);
    other.ack(message);
  });
  await expectChannelClose(connection, 406, unknownTag, async (other) => {
    other.nack(await other.get(queue, { noAck: true }));
  });
  await expectChannelClose(connection, 404, /NOT_FOUND - no queue/, (other) =>
    other.consume(uniqueQueue("missing"), () => {}),
  );
  await expectChannelClose(connection, 404, /NOT_FOUND - no queue/, (other) => other.get(uniqueQueue("missing")));
  await expectChannelClose(connection, 404, /NOT_FOUND - no queue/, (other) => other.purgeQueue(uniqueQueue("missing")));

  const inUse = /ACCESS_REFUSED - queue '.*' in vhost '.*' in exclusive use/;
  const alone = await subscribe(channel, queue, { exclusive: true });
  await expectChannelClose(connection, 403, inUse, (other) => other.consume(queue, () => {}));
  await channel.cancel(alone.consumerTag);
  await subscribe(channel, queue);
  await expectChannelClose(connection, 403, inUse, (other) => other.consume(queue, () => {}, { exclusive: true }));
}

run(async () => {
  const connection = await amqp.connect(url);
  const flows = [
    prefetchPerConsumer,
    prefetchPerChannel,
    takingTurns,
    settling,
    requeueing,
    recovering,
    withoutAcks,
    cancelling,
    getting,
    purging,
    refusals,
  ];
  for (const flow of flows) {
    const channel = await connection.createChannel();
    await flow(channel, connection);
    await channel.close();
  }
  await connection.close();
});
