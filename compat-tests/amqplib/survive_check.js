// Checks that exactly the COUNT messages of survive_publish.js are there, in order, and that the durable topology works.
//
//     node survive_check.js COUNT
"use strict";

const amqp = require("amqplib");
const { assert, expectChannelClose, run, subscribe, survivors, text, url } = require("./support");

run(async () => {
  const count = Number(process.argv[2]);
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange(survivors.exchange, "topic", { durable: true });
  const { messageCount } = await channel.assertQueue(survivors.queue, survivors.queueOptions);
  assert.equal(messageCount, count, "messages in the queue after the restart");
  await expectChannelClose(connection, 404, /no queue/, (other) => other.checkQueue(survivors.transientQueue));

  await channel.prefetch(100);
  const inbox = await subscribe(channel, survivors.queue);
  for (let number = 1; number <= count; number += 1) {
    const message = await inbox.next();
    const wanted = survivors.properties(number);
    assert.equal(message.properties.messageId, wanted.messageId, "in order");
    assert.equal(message.properties.contentType, wanted.contentType);
    assert.equal(message.properties.deliveryMode, 2);
    assert.deepEqual(message.properties.headers, wanted.headers);
    assert.ok(survivors.body(number).equals(message.content), `body of ${number}`);
    assert.equal(message.fields.exchange, survivors.exchange);
    assert.equal(message.fields.routingKey, `survivor.${number}`);
    channel.ack(message);
  }

  // The binding is there too.
  channel.publish(survivors.exchange, "survivor.new", Buffer.from("new"), { persistent: true });
  await channel.waitForConfirms();
  const last = await inbox.next();
  assert.equal(text(last), "new");
  assert.equal(last.fields.redelivered, false);
  channel.ack(last);

  await channel.cancel(inbox.consumerTag);
  assert.deepEqual(await channel.deleteQueue(survivors.queue), { messageCount: 0 });
  await channel.deleteExchange(survivors.exchange, { ifUnused: true });
  await connection.close();
});
