// Publisher confirms: many at once, one by one, with a callback each, and a refusal.
"use strict";

const amqp = require("amqplib");
const { assert, drain, run, text, uniqueQueue, url } = require("./support");

async function manyAtOnce(connection) {
  const count = 5000;
  const queue = uniqueQueue("confirms-many");
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(queue, { durable: true });

  const confirmed = [];
  let called = 0;
  channel.on("ack", ({ deliveryTag, multiple }) => {
    const from = multiple ? confirmed.findIndex((seen, tag) => tag > 0 && !seen) : deliveryTag;
    for (let tag = from; tag <= deliveryTag; tag += 1) {
      if (!multiple) assert.ok(!confirmed[tag], `${tag} is confirmed once`);
      confirmed[tag] = true;
    }
  });
  channel.on("nack", ({ deliveryTag }) => assert.fail(`${deliveryTag} was refused`));
  confirmed.length = count + 1;
  confirmed.fill(false);
  for (let number = 1; number <= count; number += 1) {
    const onConfirm = (error) => {
      assert.ifError(error);
      called += 1;
    };
    if (!channel.sendToQueue(queue, Buffer.from(`${number}`), { persistent: true }, onConfirm)) {
      await new Promise((resolve) => channel.once("drain", resolve));
    }
  }
  await channel.waitForConfirms();
  assert.equal(called, count, "each callback was called once");
  assert.equal(confirmed.indexOf(false, 1), -1, "each number was confirmed");
  assert.equal((await channel.checkQueue(queue)).messageCount, count);
  const bodies = (await drain(channel, queue)).map((message) => Number(text(message)));
  assert.deepEqual(bodies, Array.from({ length: count }, (_, index) => index + 1));
  await channel.waitForConfirms(); // Nothing is outstanding.
  await channel.close();
}

async function oneByOne(connection) {
  const queue = uniqueQueue("confirms-single");
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(queue);
  for (let number = 1; number <= 100; number += 1) {
    channel.sendToQueue(queue, Buffer.from("x"), { persistent: number % 2 === 0 });
    await channel.waitForConfirms();
    const { messageCount } = await channel.checkQueue(queue);
    assert.equal(messageCount, number, "what is confirmed is in the queue");
  }
  await channel.close();
}

/** Nobody wants these messages, so the broker is done with them at once. */
async function unroutable(connection) {
  const channel = await connection.createConfirmChannel();
  for (let number = 1; number <= 100; number += 1) channel.publish("amq.direct", uniqueQueue("nowhere"), Buffer.alloc(0));
  await channel.waitForConfirms();
  await channel.close();
}

async function refused(connection) {
  const queue = uniqueQueue("confirms-full");
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(queue, { maxLength: 2, overflow: "reject-publish" });
  const publish = (body) =>
    new Promise((resolve) => channel.sendToQueue(queue, Buffer.from(body), {}, (error) => resolve(error === null)));
  assert.deepEqual([await publish("1"), await publish("2"), await publish("3")], [true, true, false]);
  assert.equal(text(await channel.get(queue, { noAck: true })), "1");
  assert.equal(await publish("4"), true, "there is room again");

  // waitForConfirms() speaks up for a message that has no callback of its own.
  channel.sendToQueue(queue, Buffer.from("5"));
  await assert.rejects(channel.waitForConfirms(), /message nacked/);
  await channel.close();
}

run(async () => {
  const connection = await amqp.connect(url);
  for (const flow of [manyAtOnce, oneByOne, unroutable, refused]) await flow(connection);
  await connection.close();
});
