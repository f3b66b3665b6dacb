// Queues: declaring, looking up, naming, exclusive, auto-delete and expiring ones, deletion, and what is refused.
"use strict";

const amqp = require("amqplib");
const { setTimeout: sleep } = require("node:timers/promises");
const {
  assert,
  drain,
  expectChannelClose,
  run,
  subscribe,
  texts,
  uniqueExchange,
  uniqueQueue,
  url,
  waitForReady,
} = require("./support");

async function declaring(channel, connection) {
  const queue = uniqueQueue("declare");
  assert.deepEqual(await channel.assertQueue(queue), { queue, messageCount: 0, consumerCount: 0 });
  channel.sendToQueue(queue, Buffer.from("1"));
  channel.sendToQueue(queue, Buffer.from("2"));
  await waitForReady(channel, queue, 2);
  assert.deepEqual(await channel.assertQueue(queue), { queue, messageCount: 2, consumerCount: 0 });
  const inbox = await subscribe(channel, queue);
  await inbox.take(2);
  assert.deepEqual(await channel.checkQueue(queue), { queue, messageCount: 0, consumerCount: 1 });

  await expectChannelClose(connection, 404, /NOT_FOUND - no queue '.*' in vhost '.*'/, (other) =>
    other.checkQueue(uniqueQueue("missing")),
  );
  await channel.checkQueue(queue); // Only the other channel was closed, this one lives.
}

async function otherArguments(channel, connection) {
  const queue = uniqueQueue("arguments");
  const options = {
    durable: true,
    messageTtl: 60_000,
    maxLength: 100,
    deadLetterExchange: "amq.direct",
    arguments: { "x-unknown": "kept" },
  };
  await channel.assertQueue(queue, options);
  await channel.assertQueue(queue, options);
  // The width of an integer is not part of its value.
  await channel.assertQueue(queue, { ...options, maxLength: { "!": "int64", value: 100 } });
  const refused = (pattern, changed) =>
    expectChannelClose(connection, 406, pattern, (other) => other.assertQueue(queue, { ...options, ...changed }));
  await refused(/PRECONDITION_FAILED - inequivalent arg 'durable' for queue '.*' in vhost '.*': received 'false' but current is 'true'/, {
    durable: false,
  });
  await refused(/inequivalent arg 'auto_delete'/, { autoDelete: true });
  await refused(/inequivalent arg 'x-message-ttl' for queue .*: received '1000' but current is '60000'/, {
    messageTtl: 1000,
  });
  await refused(/inequivalent arg 'x-max-length' .*: received none but current is the value '100'/, {
    maxLength: undefined,
  });
  await refused(/inequivalent arg 'x-expires' .*: received the value '90000' of type '\w+' but current is none/, {
    expires: 90_000,
  });
  await expectChannelClose(connection, 406, /invalid arg 'x-message-ttl' for queue/, (other) =>
    other.assertQueue(uniqueQueue("negative-ttl"), { messageTtl: -1 }),
  );
  await expectChannelClose(connection, 403, /ACCESS_REFUSED - queue name 'amq\..*' contains reserved prefix/, (other) =>
    other.assertQueue("amq.compat"),
  );
}

async function serverNamed(channel) {
  const { queue } = await channel.assertQueue("", { exclusive: true });
  assert.match(queue, /^amq\.gen-.{22}$/);
  const { queue: another } = await channel.assertQueue("", { exclusive: true });
  assert.notEqual(queue, another);
  channel.sendToQueue(queue, Buffer.from("hello"));
  assert.deepEqual(texts(await drain(channel, queue)), ["hello"]);
  // An empty queue name means the one that this channel declared last.
  channel.sendToQueue(another, Buffer.from("last declared"));
  assert.deepEqual(texts(await drain(channel, "")), ["last declared"]);
  await channel.deleteQueue(queue);
}

async function exclusive(channel, connection) {
  const queue = uniqueQueue("exclusive");
  const owner = await amqp.connect(url);
  const owned = await owner.createChannel();
  await owned.assertQueue(queue, { exclusive: true });
  channel.sendToQueue(queue, Buffer.from("anybody may publish")); // As this is a channel of another connection...
  const locked = /RESOURCE_LOCKED - cannot obtain exclusive access to locked queue/;
  await expectChannelClose(connection, 405, locked, (other) => other.checkQueue(queue)); // ...all this is refused.
  await expectChannelClose(connection, 405, locked, (other) => other.assertQueue(queue, { exclusive: true }));
  await expectChannelClose(connection, 405, locked, (other) => other.get(queue));
  await expectChannelClose(connection, 405, locked, (other) => other.consume(queue, () => {}));
  await expectChannelClose(connection, 405, locked, (other) => other.deleteQueue(queue));
  const inbox = await subscribe(await owner.createChannel(), queue, { noAck: true });
  assert.equal((await inbox.next()).content.toString(), "anybody may publish");
  await owner.close();
  await expectChannelClose(connection, 404, /no queue/, (other) => other.checkQueue(queue));
}

async function goingAway(channel, connection) {
  const gone = (queue) => expectChannelClose(connection, 404, /no queue/, (other) => other.checkQueue(queue));

  // An auto-delete queue waits for its first consumer and goes with the last one.
  const automatic = uniqueQueue("auto-delete");
  await channel.assertQueue(automatic, { autoDelete: true });
  const first = await subscribe(channel, automatic);
  const second = await subscribe(channel, automatic);
  await channel.cancel(first.consumerTag);
  await channel.checkQueue(automatic);
  await channel.cancel(second.consumerTag);
  await gone(automatic);

  // The consumer's channel closes: the same.
  const closing = await connection.createChannel();
  await closing.assertQueue(automatic, { autoDelete: true });
  await subscribe(closing, automatic);
  await closing.close();
  await gone(automatic);

  // A queue that nobody uses expires, one with a consumer does not.
  const unused = uniqueQueue("expires");
  const used = uniqueQueue("expires-used");
  await channel.assertQueue(unused, { expires: 200 });
  await channel.assertQueue(used, { expires: 200 });
  await subscribe(channel, used);
  await sleep(1500);
  await gone(unused);
  await channel.checkQueue(used);
}

async function deletion(channel, connection) {
  const queue = uniqueQueue("deletion");
  const exchange = uniqueExchange("deletion");
  await channel.assertExchange(exchange, "fanout");
  await channel.assertQueue(queue);
  await channel.bindQueue(queue, exchange, "");
  channel.publish(exchange, "", Buffer.from("1"));
  channel.publish(exchange, "", Buffer.from("2"));
  await waitForReady(channel, queue, 2);
  const refused = (pattern, options) =>
    expectChannelClose(connection, 406, pattern, (other) => other.deleteQueue(queue, options));

  await refused(/PRECONDITION_FAILED - queue '.*' in vhost '.*' not empty/, { ifEmpty: true });
  const inbox = await subscribe(channel, queue, { noAck: true });
  await inbox.take(2);
  await refused(/PRECONDITION_FAILED - queue '.*' in vhost '.*' in use/, { ifUnused: true });
  await channel.cancel(inbox.consumerTag);
  assert.deepEqual(await channel.deleteQueue(queue, { ifUnused: true, ifEmpty: true }), { messageCount: 0 });
  assert.deepEqual(await channel.deleteQueue(queue), { messageCount: 0 }, "it is gone already: fine");

  await channel.assertQueue(queue);
  channel.sendToQueue(queue, Buffer.from("1"));
  channel.publish(exchange, "", Buffer.from("the binding went with the queue"));
  assert.deepEqual(await channel.deleteQueue(queue), { messageCount: 1 });
}

async function names(channel) {
  // Any UTF-8 of up to 255 octets; case matters.
  const accented = uniqueQueue("Hase-häsin-兎");
  await channel.assertQueue(accented);
  assert.equal((await channel.checkQueue(accented)).queue, accented);
  const prefix = uniqueQueue("long");
  const long = uniqueQueue(`long-${"x".repeat(255 - prefix.length - 1)}`);
  assert.equal(Buffer.byteLength(long), 255);
  await channel.assertQueue(long);
  channel.sendToQueue(long, Buffer.from("here"));
  assert.deepEqual(texts(await drain(channel, long)), ["here"]);
}

run(async () => {
  const connection = await amqp.connect(url);
  for (const flow of [declaring, otherArguments, serverNamed, exclusive, goingAway, deletion, names]) {
    const channel = await connection.createChannel();
    await flow(channel, connection);
    await channel.close();
  }
  await connection.close();
});
