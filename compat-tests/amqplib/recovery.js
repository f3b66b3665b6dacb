// A broker that is short of memory, one that restarts, requests with direct reply-to, and a very large body.
"use strict";

const amqp = require("amqplib");
const { execFileSync } = require("node:child_process");
const { randomBytes } = require("node:crypto");
const { once } = require("node:events");
const { setTimeout: sleep } = require("node:timers/promises");
const { assert, drain, run, subscribe, text, uniqueQueue, url, waitForReady } = require("./support");

const LARGE = Number(process.env.COMPAT_LARGE_BYTES ?? 64 << 20);

/** Runs a command that the runner gives in the environment; false if it gives none. */
function fromRunner(variable, ...commandArguments) {
  const [command, ...first] = (process.env[variable] ?? "").split(" ");
  if (command) execFileSync(command, [...first, ...commandArguments], { stdio: "ignore" });
  return command !== "";
}

async function largeBody() {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  const queue = uniqueQueue("large");
  await channel.assertQueue(queue);
  const body = randomBytes(LARGE);
  channel.sendToQueue(queue, body);
  const inbox = await subscribe(channel, queue, { noAck: true });
  const message = await inbox.next();
  assert.ok(message.content.equals(body), "it comes out as it went in");
  await connection.close();
}

async function requests() {
  const connection = await amqp.connect(url);
  const server = await connection.createChannel();
  const client = await connection.createChannel();
  const jobs = uniqueQueue("jobs");
  await server.assertQueue(jobs);
  await server.consume(jobs, (request) => {
    const { replyTo, correlationId } = request.properties;
    server.sendToQueue(replyTo, Buffer.from(`re: ${text(request)}`), { correlationId });
    server.ack(request);
  });
  const answers = await subscribe(client, "amq.rabbitmq.reply-to", { noAck: true });
  for (let number = 0; number < 50; number += 1) {
    const properties = { replyTo: "amq.rabbitmq.reply-to", correlationId: `${number}` };
    client.sendToQueue(jobs, Buffer.from(`${number}`), properties);
    const answer = await answers.next();
    assert.deepEqual([answer.properties.correlationId, text(answer)], [`${number}`, `re: ${number}`]);
  }
  await connection.close();
}

async function blocked() {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  const queue = uniqueQueue("blocked");
  await channel.assertQueue(queue);
  const notice = once(connection, "blocked");
  if (!fromRunner("BROKER_CTL", "set_vm_memory_high_watermark", "absolute", "1000000")) {
    console.log("this broker cannot be made short of memory from here");
    return connection.close();
  }
  const end = once(connection, "unblocked");
  try {
    channel.sendToQueue(queue, Buffer.from("held back"));
    assert.deepEqual(await notice, ["low on memory"]);
    const watching = await amqp.connect(url);
    const found = await drain(await watching.createChannel(), queue);
    assert.equal(found.length, 0, "nothing is taken meanwhile, and who only consumes is served");
    await watching.close();
  } finally {
    fromRunner("BROKER_CTL", "set_vm_memory_high_watermark", "0.6");
  }
  await end;
  await waitForReady(channel, queue, 1);
  return connection.close();
}

/** amqplib leaves reconnecting to its user. */
async function restarted() {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  const queue = uniqueQueue("restart");
  await channel.assertQueue(queue);
  channel.sendToQueue(queue, Buffer.from("before"), { persistent: true });
  await channel.waitForConfirms();
  const inbox = await subscribe(channel, queue);
  assert.equal(text(await inbox.next()), "before");
  connection.on("error", () => {});
  const closed = once(connection, "close");
  if (!fromRunner("BROKER_RESTART")) {
    console.log("this broker cannot be restarted from here");
    return connection.close();
  }
  await closed;
  let again;
  while (!again) again = await amqp.connect(url).catch(() => sleep(100));
  const another = await again.createChannel();
  const message = await (await subscribe(another, queue)).next();
  assert.deepEqual([text(message), message.fields.redelivered], ["before", true]);
  another.ack(message);
  return again.close();
}

run(async () => {
  await largeBody();
  await requests();
  await blocked();
  await restarted();
});
