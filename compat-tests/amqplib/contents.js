// Contents: bodies from empty to 8 MiB, headers of every type, every property; each comes out as it went in.
"use strict";

const amqp = require("amqplib");
const { assert, run, subscribe, text, texts, uniqueQueue, url } = require("./support");

/** Octets without a short period, so that a chunk lost, doubled or swapped shows. */
function bodyOf(size) {
  const body = Buffer.alloc(size);
  let state = 1;
  for (let index = 0; index < size; index += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    body[index] = state >>> 16;
  }
  return body;
}

async function bodies(connection) {
  const queue = uniqueQueue("bodies");
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(queue, { durable: true });
  await channel.prefetch(2);
  const inbox = await subscribe(channel, queue);
  const frameBody = 131_072 - 8; // What fits into one frame of the usual size.
  for (const size of [0, 1, 100, frameBody - 1, frameBody, frameBody + 1, 2 * frameBody, 1 << 20, 8 << 20]) {
    const body = bodyOf(size);
    channel.sendToQueue(queue, body, { persistent: true });
    await channel.waitForConfirms();
    const message = await inbox.next();
    assert.ok(body.equals(message.content), `${size} octets come out as they went in`);
    channel.ack(message);
  }
  await channel.cancel(inbox.consumerTag);
  const large = bodyOf(8 << 20);
  channel.sendToQueue(queue, large);
  const fetched = await channel.get(queue, { noAck: true });
  assert.ok(large.equals(fetched.content));
  await channel.close();

  // With small frames: the broker has to cut them to what this connection can take.
  const narrow = await amqp.connect(withParameter("frameMax", 8192));
  const sending = await narrow.createConfirmChannel();
  const body = bodyOf(1_000_000);
  const small = await subscribe(sending, queue, { noAck: true });
  sending.sendToQueue(queue, body);
  assert.ok(body.equals((await small.next()).content));
  await narrow.close();
}

function withParameter(name, value) {
  const changed = new URL(url);
  changed.searchParams.set(name, value);
  return changed.href;
}

/** Two channels send large contents at the same time; their frames must not get mixed up. */
async function interleaved(connection) {
  const queue = uniqueQueue("interleaved");
  const channels = [await connection.createConfirmChannel(), await connection.createConfirmChannel()];
  await channels[0].assertQueue(queue);
  const wanted = channels.map((_, index) => bodyOf(2_000_000 + index));
  channels.forEach((channel, index) => {
    channel.sendToQueue(queue, wanted[index]);
    channel.sendToQueue(queue, Buffer.from(`small ${index}`));
  });
  await Promise.all(channels.map((channel) => channel.waitForConfirms()));
  const inbox = await subscribe(channels[0], queue, { noAck: true });
  const messages = await inbox.take(4);
  assert.deepEqual(texts(messages.filter((message) => message.content.length < 100)).sort(), ["small 0", "small 1"]);
  for (const body of wanted) assert.ok(messages.some((message) => body.equals(message.content)));
}

async function headers(connection) {
  const queue = uniqueQueue("headers");
  const channel = await connection.createChannel();
  await channel.assertQueue(queue);
  const typed = (type, value) => ({ "!": type, value });
  const sent = {
    string: "Häsin 兎 🐇",
    empty: "",
    long: "x".repeat(10_000),
    true: true,
    false: false,
    int8: typed("int8", -128),
    uint8: typed("uint8", 255),
    int16: typed("int16", -32_768),
    uint16: typed("uint16", 65_535),
    int32: typed("int32", -2_147_483_648),
    uint32: typed("uint32", 4_294_967_295),
    int64: typed("int64", -9_007_199_254_740_991),
    float: typed("float", 0.5),
    double: typed("double", 1e300),
    decimal: typed("decimal", { places: 2, digits: 12_345 }),
    timestamp: typed("timestamp", 1_700_000_000),
    bytes: Buffer.from([0, 255, 206, 1]),
    noBytes: Buffer.alloc(0),
    void: null,
    list: ["a", 1, true, null, [2, [3]], { deep: ["er"] }],
    emptyList: [],
    table: { a: { b: { c: 1.5 } }, when: typed("timestamp", 0) },
    emptyTable: {},
    "a key of many words, ünï": 1,
  };
  for (let number = 0; number < 100; number += 1) sent[`number-${number}`] = number;
  channel.sendToQueue(queue, Buffer.from("headers"), { headers: sent });

  // The client gives numbers back as plain numbers, but timestamps and decimals with their type.
  const expected = Object.fromEntries(
    Object.entries(sent).map(([name, value]) => {
      const plain = value !== null && /^(int|uint|float|double)/.test(value["!"] ?? "");
      return [name, plain ? value.value : value];
    }),
  );
  const message = await channel.get(queue, { noAck: true });
  assert.deepEqual(message.properties.headers, expected);
  await channel.close();
}

async function properties(connection) {
  const queue = uniqueQueue("properties");
  const channel = await connection.createChannel();
  await channel.assertQueue(queue);
  const user = decodeURIComponent(new URL(url).username) || "guest";
  const sent = {
    contentType: "application/json",
    contentEncoding: "identity",
    headers: { trace: "abc" },
    deliveryMode: 2,
    priority: 7,
    correlationId: "correlation",
    replyTo: "answers",
    expiration: "600000",
    messageId: "message",
    timestamp: 1_700_000_000,
    type: "order.created",
    userId: user,
    appId: "compat",
    clusterId: "cluster",
  };
  // publish() offers all but the last one, which the specification has given up, so this goes one level deeper.
  channel.sendMessage({ exchange: "", routingKey: queue, mandatory: false, immediate: false }, sent, Buffer.from("all"));
  const all = await channel.get(queue, { noAck: true });
  assert.deepEqual({ ...all.properties }, sent);
  assert.equal(text(all), "all");

  // None at all but the headers, which this client always sends.
  channel.sendToQueue(queue, Buffer.from("none"));
  const none = await channel.get(queue, { noAck: true });
  const { headers: noHeaders, deliveryMode, ...rest } = none.properties;
  assert.deepEqual(noHeaders, {});
  assert.equal(deliveryMode, undefined);
  assert.ok(Object.values(rest).every((value) => value === undefined), JSON.stringify(rest));

  // Extremes.
  const extremes = { priority: 255, correlationId: "ü".repeat(127), messageId: "", type: "x".repeat(255) };
  channel.sendToQueue(queue, Buffer.from("extremes"), extremes);
  const message = await channel.get(queue, { noAck: true });
  for (const [name, value] of Object.entries(extremes)) assert.equal(message.properties[name], value, name);
  await channel.close();
}

run(async () => {
  const connection = await amqp.connect(url);
  for (const flow of [bodies, interleaved, headers, properties]) await flow(connection);
  await connection.close();
});
