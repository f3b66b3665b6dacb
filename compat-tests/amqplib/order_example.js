// Runs the README's two programs against each other, as a user would in two terminals.
"use strict";

const amqp = require("amqplib");
const { execFileSync, spawn } = require("node:child_process");
const path = require("node:path");
const readline = require("node:readline");
const { Inbox, assert, run, url, waitForReady } = require("./support");

const produce = (orderId) => {
  const output = execFileSync(process.execPath, [path.join(__dirname, "order_producer.js"), orderId], {
    encoding: "utf8",
    timeout: 30_000,
  });
  assert.equal(output, `order ${orderId} sent\n`);
};

/** Starts the consumer; its lines on standard output go into an inbox. */
function startConsumer(environment) {
  const consumer = spawn(process.execPath, [path.join(__dirname, "order_consumer.js")], {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = new Inbox();
  readline.createInterface({ input: consumer.stdout }).on("line", (line) => lines.push(line));
  const exited = new Promise((resolve) => consumer.once("exit", (status, signal) => resolve(status ?? signal)));
  const stop = async () => {
    consumer.kill("SIGTERM");
    assert.equal(await exited, 0, "the consumer closes its channel and connection and ends");
  };
  process.once("exit", () => consumer.kill("SIGKILL"));
  return { lines, stop };
}

run(async () => {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  await channel.deleteQueue("order.created"); // What an earlier run may have left.

  // The consumer waits before the order comes.
  const first = startConsumer({});
  assert.equal(await first.lines.next(), "waiting for orders");
  produce("1");
  assert.equal(await first.lines.next(), "order 1 of Ada over 42.5 processed");
  await first.stop();

  // The orders wait for the consumer, which cannot process the first one at once.
  produce("2");
  produce("3");
  await waitForReady(channel, "order.created", 2);
  const second = startConsumer({ FAILURES: "2" });
  const lines = await second.lines.take(5);
  assert.ok(lines.includes("waiting for orders"));
  assert.deepEqual(
    lines.filter((line) => line !== "waiting for orders"),
    [
      "not processed (redelivered: false): the warehouse does not answer",
      "not processed (redelivered: true): the warehouse does not answer",
      "order 2 of Ada over 42.5 processed",
      "order 3 of Ada over 42.5 processed",
    ],
  );
  await second.stop();
  await waitForReady(channel, "order.created", 0);

  await channel.deleteQueue("order.created");
  await connection.close();
});
