// Mandatory messages: what no queue takes comes back, before its confirm; what a queue takes does not.
"use strict";

const amqp = require("amqplib");
const { assert, drain, run, text, texts, uniqueExchange, uniqueQueue, url } = require("./support");

run(async () => {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  const events = [];
  channel.on("return", (message) => events.push(["return", text(message), message]));
  const publish = (exchange, routingKey, body, options) =>
    new Promise((resolve) =>
      channel.publish(exchange, routingKey, Buffer.from(body), options, (error) => {
        assert.ifError(error);
        events.push(["confirm", body]);
        resolve();
      }),
    );
  const names = () => events.splice(0).map(([name, body]) => `${name} ${body}`);

  const queue = uniqueQueue("returns");
  const missing = uniqueQueue("returns-missing");
  const exchange = uniqueExchange("returns");
  await channel.assertQueue(queue);
  await channel.assertExchange(exchange, "direct");
  await channel.bindQueue(queue, exchange, "known");

  // The default exchange, no such queue.
  await publish("", missing, "lost", {
    mandatory: true,
    persistent: true,
    messageId: "r-1",
    headers: { reason: "test" },
  });
  const [, , returned] = events[0];
  assert.deepEqual(returned.fields, {
    replyCode: 312,
    replyText: "NO_ROUTE",
    exchange: "",
    routingKey: missing,
  });
  assert.equal(returned.properties.messageId, "r-1");
  assert.equal(returned.properties.deliveryMode, 2);
  assert.deepEqual(returned.properties.headers, { reason: "test" });
  assert.deepEqual(names(), ["return lost", "confirm lost"]);

  // A queue takes it; nobody asked for it back; the exchange has no binding for it; an empty body.
  await publish("", queue, "one", { mandatory: true });
  await publish("", missing, "two", {});
  await publish(exchange, "known", "three", { mandatory: true });
  await publish(exchange, "unknown", "four", { mandatory: true });
  await publish(exchange, "unknown", "", { mandatory: true });
  assert.deepEqual(names(), [
    "confirm one",
    "confirm two",
    "confirm three",
    "return four",
    "confirm four",
    "return ",
    "confirm ",
  ]);
  assert.deepEqual(texts(await drain(channel, queue)), ["one", "three"]);

  // An alternate exchange is asked before the message comes back.
  const alternate = uniqueExchange("returns-alternate");
  const main = uniqueExchange("returns-main");
  await channel.assertExchange(alternate, "fanout");
  await channel.assertExchange(main, "direct", { alternateExchange: alternate });
  await publish(main, "unknown", "five", { mandatory: true });
  await channel.bindQueue(queue, alternate, "");
  await publish(main, "unknown", "six", { mandatory: true });
  assert.deepEqual(names(), ["return five", "confirm five", "confirm six"]);
  assert.deepEqual(texts(await drain(channel, queue)), ["six"]);

  // Many together: each comes back, each is confirmed.
  const count = 500;
  await Promise.all(
    Array.from({ length: count }, (_, number) => publish("", missing, `${number}`, { mandatory: true })),
  );
  const seen = names();
  assert.equal(seen.filter((name) => name.startsWith("return")).length, count);
  for (let number = 0; number < count; number += 1) {
    assert.ok(seen.indexOf(`return ${number}`) < seen.indexOf(`confirm ${number}`), `${number} came back first`);
  }

  await channel.close();
  await connection.close();
});
