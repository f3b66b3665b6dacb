// Connections: what the broker tells of itself, login, tuning, many channels, closing.
"use strict";

const amqp = require("amqplib");
const { setTimeout: sleep } = require("node:timers/promises");
const { assert, drain, run, texts, uniqueQueue, url } = require("./support");

function changed(change) {
  const other = new URL(url);
  change(other);
  return other.href;
}

/** Sends a message through the connection and gets it back. */
async function checkAlive(connection) {
  const channel = await connection.createChannel();
  const queue = uniqueQueue("alive");
  await channel.assertQueue(queue);
  channel.sendToQueue(queue, Buffer.from("alive"));
  assert.deepEqual(texts(await drain(channel, queue)), ["alive"]);
  await channel.close();
}

async function serverProperties() {
  const connection = await amqp.connect(url, { clientProperties: { connection_name: "compat" } });
  const { capabilities, product, version } = connection.connection.serverProperties;
  assert.ok(product, "clients look at the product");
  assert.match(version, /^\d+\.\d+\.\d+/, "clients look at the version");
  for (const capability of [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "authentication_failure_close",
  ]) {
    assert.equal(capabilities[capability], true, capability);
  }
  await connection.close();
}

async function login() {
  const wrongPassword = changed((other) => {
    other.username = "guest";
    other.password = "not the password";
  });
  await assert.rejects(amqp.connect(wrongPassword), /403 \(ACCESS-REFUSED\).*ACCESS_REFUSED - Login was refused/);
  const missingVhost = changed((other) => {
    other.pathname = "/no-such-vhost";
  });
  await assert.rejects(amqp.connect(missingVhost), /Expected ConnectionOpenOk; got <ConnectionClose/);

  const { username, password } = new URL(url);
  const credentials = amqp.credentials.amqplain(
    decodeURIComponent(username) || "guest",
    decodeURIComponent(password) || "guest",
  );
  const connection = await amqp.connect(url, { credentials });
  await checkAlive(connection);
  await connection.close();

  if (new URL(url).pathname.length <= 1) {
    const encodedVhost = changed((other) => {
      other.pathname = "/%2F";
    });
    await (await amqp.connect(encodedVhost)).close();
  }
}

/** Every option that amqplib has: in an object instead of an address, and of the socket. */
async function options() {
  const { hostname, port, username, password, pathname } = new URL(url);
  const address = {
    protocol: "amqp",
    hostname,
    port: Number(port) || 5672,
    username: decodeURIComponent(username) || "guest",
    password: decodeURIComponent(password) || "guest",
    vhost: pathname.slice(1) || "/",
    locale: "en_US",
    frameMax: 16_384,
    channelMax: 3,
    heartbeat: 30,
    maxFrameSize: 16_384,
  };
  const socket = {
    noDelay: true,
    keepAlive: true,
    keepAliveDelay: 10_000,
    timeout: 10_000,
    clientProperties: {
      connection_name: "compat",
      product: "compat",
      nested: { list: [1, "two", true, null], table: {} },
      when: { "!": "timestamp", value: 1_700_000_000 },
    },
    credentials: amqp.credentials.plain(address.username, address.password),
  };
  const connection = await amqp.connect(address, socket);
  const { frameMax, channelMax, heartbeat } = connection.connection;
  assert.deepEqual([frameMax, channelMax, heartbeat], [16_384, 3, 30]);
  await checkAlive(connection);
  await Promise.all([connection.createChannel(), connection.createChannel(), connection.createChannel()]);
  await assert.rejects(async () => connection.createChannel(), /No channels left to allocate/);
  await connection.updateSecret(Buffer.from(address.password), "nothing to renew");
  await connection.close();

  // Without heartbeats, and without limits, as far as the broker agrees.
  const unlimited = await amqp.connect({ ...address, heartbeat: 0, frameMax: 0, channelMax: 0, maxFrameSize: undefined });
  assert.equal(unlimited.connection.heartbeat, 0);
  assert.ok(unlimited.connection.frameMax > 0, "the broker has a limit for frames");
  await checkAlive(unlimited);
  await unlimited.close();
  // Without a certificate there is nobody whom EXTERNAL could log in.
  await assert.rejects(amqp.connect(address, { credentials: amqp.credentials.external() }));
  // Several hosts are the user's affair: the first is not there.
  let found;
  for (const host of [{ ...address, port: 1 }, address]) {
    found ??= await amqp.connect(host).catch((error) => assert.equal(error.code, "ECONNREFUSED"));
  }
  await found.close();
}

async function tuning() {
  const connection = await amqp.connect(
    changed((other) => {
      other.searchParams.set("heartbeat", 1);
      other.searchParams.set("channelMax", 10);
      other.searchParams.set("frameMax", 8192);
    }),
  );
  assert.equal(connection.connection.heartbeat, 1);
  assert.equal(connection.connection.channelMax, 10);
  assert.equal(connection.connection.frameMax, 8192);
  await sleep(3500); // Either side would have given up by now without the other's heartbeats.
  await checkAlive(connection);
  await connection.close();
}

async function manyChannels() {
  const connection = await amqp.connect(url);
  const channels = await Promise.all(Array.from({ length: 200 }, () => connection.createChannel()));
  const queue = uniqueQueue("many-channels");
  await channels[0].assertQueue(queue);
  await Promise.all(
    channels.map(async (channel, index) => {
      channel.sendToQueue(queue, Buffer.from(`${index}`));
      await channel.close();
    }),
  );
  // The numbers of closed channels are used again.
  const channel = await connection.createChannel();
  const bodies = texts(await drain(channel, queue)).map(Number);
  assert.deepEqual(
    bodies.sort((a, b) => a - b),
    Array.from({ length: 200 }, (_, index) => index),
  );
  await connection.close(); // With a channel still open.
}

/** An error that is not one channel's closes the connection: here a consumer tag that is taken. */
async function connectionException() {
  const connection = await amqp.connect(url);
  const closed = new Promise((resolve) => connection.once("error", resolve));
  const channel = await connection.createChannel();
  const queue = uniqueQueue("connection-exception");
  await channel.assertQueue(queue);
  await channel.consume(queue, () => {}, { consumerTag: "taken" });
  await assert.rejects(channel.consume(queue, () => {}, { consumerTag: "taken" }));
  const error = await closed;
  assert.equal(error.code, 530);
  assert.match(error.message, /NOT_ALLOWED - attempt to reuse consumer tag 'taken'/);
}

run(async () => {
  await serverProperties();
  await login();
  await options();
  await tuning();
  await manyChannels();
  await connectionException();
});
