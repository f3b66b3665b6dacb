// TLS: a message over either version, and a client that logs in with its certificate (EXTERNAL).
"use strict";

const amqp = require("amqplib");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const { assert, drain, run, uniqueQueue } = require("./support");

const url = process.env.AMQPS_URL;
const file = (name) => readFileSync(join(process.env.AMQP_TLS_DIR, name));

async function checkAlive(connection) {
  const channel = await connection.createChannel();
  const queue = uniqueQueue("tls");
  await channel.assertQueue(queue);
  const body = Buffer.alloc(1_000_000, "x");
  channel.sendToQueue(queue, body);
  const [message] = await drain(channel, queue);
  assert.ok(message.content.equals(body), "a large body");
  await connection.close();
}

const identity = (name) => ({ cert: file(`${name}.pem`), key: file(`${name}.key`) });

run(async () => {
  if (url === undefined) {
    console.log("this broker has no TLS listener to test");
    return;
  }
  const ca = [file("ca.pem")];
  for (const version of ["TLSv1.2", "TLSv1.3"]) {
    await checkAlive(await amqp.connect(url, { ca, minVersion: version, maxVersion: version }));
  }
  const credentials = amqp.credentials.external();
  await checkAlive(await amqp.connect(url, { ca, credentials, ...identity("guest") }));
  // A certificate of an authority that the broker does not trust, none at all, and a broker whom the client does not trust.
  await assert.rejects(amqp.connect(url, { ca, credentials, ...identity("stranger") }));
  await assert.rejects(amqp.connect(url, { ca, credentials }));
  await assert.rejects(amqp.connect(url), /certificate/);
});
