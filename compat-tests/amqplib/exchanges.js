// Exchanges: the four types, bindings between exchanges, unbinding, alternates, deletion, and what is refused.
"use strict";

const amqp = require("amqplib");
const { assert, drain, expectChannelClose, run, texts, uniqueExchange, uniqueQueue, url } = require("./support");

/** Publishes the routing keys as bodies too, and returns which of them reached the queue. */
async function routed(channel, exchange, queue, routingKeys) {
  for (const routingKey of routingKeys) channel.publish(exchange, routingKey, Buffer.from(routingKey));
  return texts(await drain(channel, queue));
}

async function predeclared(channel) {
  for (const exchange of ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"]) {
    await channel.checkExchange(exchange);
  }
  await channel.assertExchange("amq.topic", "topic", { durable: true });
  const queue = uniqueQueue("predeclared");
  await channel.assertQueue(queue);
  await channel.bindQueue(queue, "amq.direct", queue);
  await channel.bindQueue(queue, "amq.topic", `${queue}.#`);
  channel.publish("amq.direct", queue, Buffer.from("direct"));
  channel.publish("amq.topic", `${queue}.x`, Buffer.from("topic"));
  channel.publish("", queue, Buffer.from("default"));
  assert.deepEqual(texts(await drain(channel, queue)), ["direct", "topic", "default"]);
}

async function direct(channel) {
  const exchange = uniqueExchange("direct");
  const queue = uniqueQueue("direct");
  const other = uniqueQueue("direct-other");
  assert.deepEqual(await channel.assertExchange(exchange, "direct"), { exchange });
  await channel.assertQueue(queue);
  await channel.assertQueue(other);
  await channel.bindQueue(queue, exchange, "red");
  await channel.bindQueue(queue, exchange, "green");
  await channel.bindQueue(queue, exchange, "green"); // Again: no effect.
  await channel.bindQueue(other, exchange, "red");
  assert.deepEqual(await routed(channel, exchange, queue, ["red", "green", "blue", "", "Red"]), ["red", "green"]);
  assert.deepEqual(texts(await drain(channel, other)), ["red"]);

  await channel.unbindQueue(queue, exchange, "green");
  await channel.unbindQueue(queue, exchange, "green"); // It is gone already: fine.
  assert.deepEqual(await routed(channel, exchange, queue, ["red", "green"]), ["red"]);
}

async function fanout(channel) {
  const exchange = uniqueExchange("fanout");
  await channel.assertExchange(exchange, "fanout", { durable: false });
  const queues = ["a", "b", "c"].map((name) => uniqueQueue(`fanout-${name}`));
  for (const queue of queues) {
    await channel.assertQueue(queue);
    await channel.bindQueue(queue, exchange, "ignored");
  }
  await channel.bindQueue(queues[0], exchange, "once more"); // It still gets one copy.
  channel.publish(exchange, "any", Buffer.from("news"));
  for (const queue of queues) assert.deepEqual(texts(await drain(channel, queue)), ["news"]);
}

async function topic(channel) {
  const exchange = uniqueExchange("topic");
  const queue = uniqueQueue("topic");
  await channel.assertExchange(exchange, "topic");
  await channel.assertQueue(queue);
  const keys = ["a", "a.b", "a.b.c", "a.c", "", "a..c", ".", "b.a"];
  const expected = {
    "a.b.c": ["a.b.c"],
    "a.*.c": ["a.b.c", "a..c"],
    "a.#": ["a", "a.b", "a.b.c", "a.c", "a..c"],
    "#": keys,
    "*": ["a"],
    "#.c": ["a.b.c", "a.c", "a..c"],
    "a.#.c": ["a.b.c", "a.c", "a..c"],
    "*.*": ["a.b", "a.c", ".", "b.a"],
    "": [""],
    "*.#": ["a", "a.b", "a.b.c", "a.c", "a..c", ".", "b.a"],
    "a#": [],
  };
  for (const [bindingKey, matching] of Object.entries(expected)) {
    await channel.bindQueue(queue, exchange, bindingKey);
    assert.deepEqual(await routed(channel, exchange, queue, keys), matching, `binding key '${bindingKey}'`);
    await channel.unbindQueue(queue, exchange, bindingKey);
  }
  // Several matching bindings: one copy.
  for (const bindingKey of ["a.#", "*.b", "a.b"]) await channel.bindQueue(queue, exchange, bindingKey);
  assert.deepEqual(await routed(channel, exchange, queue, ["a.b"]), ["a.b"]);
}

async function headers(channel) {
  const exchange = uniqueExchange("headers");
  const queue = uniqueQueue("headers");
  await channel.assertExchange(exchange, "headers");
  await channel.assertQueue(queue);
  const messages = {
    both: { format: "pdf", pages: 2 },
    format: { format: "pdf", pages: 3 },
    pages: { format: "zip", pages: 2 },
    neither: { format: "zip" },
    typed: { format: "pdf", pages: "2" },
    wide: { format: "pdf", pages: { "!": "int64", value: 2 } },
    none: undefined,
  };
  const matching = async (bindingArguments) => {
    await channel.bindQueue(queue, exchange, "", bindingArguments);
    for (const [name, fields] of Object.entries(messages)) {
      channel.publish(exchange, "ignored", Buffer.from(name), { headers: fields });
    }
    const found = texts(await drain(channel, queue));
    await channel.unbindQueue(queue, exchange, "", bindingArguments);
    return found;
  };
  assert.deepEqual(await matching({ "x-match": "all", format: "pdf", pages: 2 }), ["both", "wide"]);
  assert.deepEqual(await matching({ format: "pdf", pages: 2 }), ["both", "wide"], "x-match is all by default");
  assert.deepEqual(await matching({ "x-match": "any", format: "pdf", pages: 2 }), [
    "both",
    "format",
    "pages",
    "typed",
    "wide",
  ]);
  assert.deepEqual(await matching({ "x-match": "all", pages: null }), ["both", "format", "pages", "typed", "wide"]);
  assert.deepEqual(await matching({ "x-match": "all" }), Object.keys(messages), "nothing is asked for");
  assert.deepEqual(await matching({ "x-match": "any" }), [], "nothing can be met");
}

async function exchangeToExchange(channel) {
  const [entry, middle, end] = ["entry", "middle", "end"].map((name) => uniqueExchange(`e2e-${name}`));
  const queue = uniqueQueue("e2e");
  await channel.assertExchange(entry, "topic");
  await channel.assertExchange(middle, "fanout", { internal: true });
  await channel.assertExchange(end, "direct");
  await channel.assertQueue(queue);
  await channel.bindExchange(middle, entry, "order.*");
  await channel.bindExchange(end, middle, "");
  await channel.bindExchange(entry, end, "order.created"); // A circle: each exchange is visited once.
  await channel.bindQueue(queue, end, "order.created");

  channel.publish(entry, "order.created", Buffer.from("1"));
  channel.publish(entry, "order.cancelled", Buffer.from("2"));
  channel.publish(entry, "invoice.created", Buffer.from("3"));
  const messages = await drain(channel, queue);
  assert.deepEqual(texts(messages), ["1"]);
  assert.equal(messages[0].fields.exchange, entry, "the message was published there");
  assert.equal(messages[0].fields.routingKey, "order.created");

  await channel.unbindExchange(middle, entry, "order.*");
  assert.deepEqual(await routed(channel, entry, queue, ["order.created"]), []);
}

async function alternate(channel) {
  const main = uniqueExchange("alternate-main");
  const unrouted = uniqueExchange("alternate-unrouted");
  const known = uniqueQueue("alternate-known");
  const rest = uniqueQueue("alternate-rest");
  await channel.assertExchange(unrouted, "fanout");
  await channel.assertExchange(main, "direct", { alternateExchange: unrouted });
  await channel.assertQueue(known);
  await channel.assertQueue(rest);
  await channel.bindQueue(known, main, "known");
  await channel.bindQueue(rest, unrouted, "");
  assert.deepEqual(await routed(channel, main, known, ["known", "unknown"]), ["known"]);
  const messages = await drain(channel, rest);
  assert.deepEqual(texts(messages), ["unknown"]);
  assert.equal(messages[0].fields.exchange, main);
}

async function deletion(channel, connection) {
  const exchange = uniqueExchange("deletion");
  const queue = uniqueQueue("deletion");
  await channel.assertExchange(exchange, "direct");
  await channel.assertQueue(queue);
  await channel.bindQueue(queue, exchange, "key");
  await expectChannelClose(connection, 406, /PRECONDITION_FAILED - exchange '.*' in vhost '.*' in use/, (other) =>
    other.deleteExchange(exchange, { ifUnused: true }),
  );
  await channel.unbindQueue(queue, exchange, "key");
  await channel.deleteExchange(exchange, { ifUnused: true });
  await channel.deleteExchange(exchange); // It is gone already: fine.
  await expectChannelClose(connection, 404, /NOT_FOUND - no exchange '.*' in vhost '.*'/, (other) =>
    other.checkExchange(exchange),
  );

  // The binding went with the exchange.
  await channel.assertExchange(exchange, "direct");
  assert.deepEqual(await routed(channel, exchange, queue, ["key"]), []);

  // An auto-delete exchange goes when its last binding goes.
  const temporary = uniqueExchange("auto-delete");
  await channel.assertExchange(temporary, "fanout", { autoDelete: true });
  await channel.bindQueue(queue, temporary, "");
  await channel.checkExchange(temporary);
  await channel.unbindQueue(queue, temporary, "");
  await expectChannelClose(connection, 404, /no exchange/, (other) => other.checkExchange(temporary));
}

async function refusals(channel, connection) {
  const exchange = uniqueExchange("refusals");
  const internal = uniqueExchange("refusals-internal");
  const missing = uniqueExchange("refusals-missing");
  const queue = uniqueQueue("refusals");
  await channel.assertExchange(exchange, "direct");
  await channel.assertExchange(internal, "direct", { internal: true });
  await channel.assertQueue(queue);
  const refused = (code, pattern, action) => expectChannelClose(connection, code, pattern, action);

  await refused(406, /inequivalent arg 'type' for exchange '.*' in vhost '.*': received 'fanout' but current is 'direct'/, (other) =>
    other.assertExchange(exchange, "fanout"),
  );
  await refused(406, /inequivalent arg 'durable'/, (other) =>
    other.assertExchange(exchange, "direct", { durable: false }),
  );
  await refused(406, /inequivalent arg 'auto_delete'/, (other) =>
    other.assertExchange(exchange, "direct", { autoDelete: true }),
  );
  await refused(403, /ACCESS_REFUSED - exchange name 'amq\..*' contains reserved prefix 'amq\.\*'/, (other) =>
    other.assertExchange(`amq.${exchange}`, "direct"),
  );
  await refused(403, /ACCESS_REFUSED - cannot publish to internal exchange/, (other) =>
    other.publish(internal, "", Buffer.from("x")),
  );
  await refused(404, /NOT_FOUND - no exchange/, (other) => other.publish(missing, "", Buffer.from("x")));
  await refused(404, /NOT_FOUND - no exchange/, (other) => other.bindQueue(queue, missing, ""));
  await refused(404, /NOT_FOUND - no queue/, (other) => other.bindQueue(missing, exchange, ""));
  await refused(404, /NOT_FOUND - no exchange/, (other) => other.bindExchange(exchange, missing, ""));
  await refused(403, /operation not permitted on the default exchange/, (other) => other.bindQueue(queue, "", "key"));
  await refused(403, /ACCESS_REFUSED/, (other) => other.deleteExchange("amq.direct"));
  await channel.checkExchange(exchange); // This channel lives.
}

run(async () => {
  const connection = await amqp.connect(url);
  for (const flow of [predeclared, direct, fanout, topic, headers, exchangeToExchange, alternate, deletion, refusals]) {
    const channel = await connection.createChannel();
    await flow(channel, connection);
    await channel.close();
  }
  await connection.close();
});
