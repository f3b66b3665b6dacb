// What the programs here share: the broker's address, a time limit, names that nobody else uses, clean-up.
"use strict";

const amqp = require("amqplib");
const assert = require("node:assert/strict");
const { randomBytes } = require("node:crypto");
const { setTimeout: sleep } = require("node:timers/promises");

const url = process.env.AMQP_URL ?? "amqp://localhost";
const TIME_LIMIT_MS = 60_000;

const madeQueues = new Set();
const madeExchanges = new Set();
const suffix = randomBytes(6).toString("hex");

/** A queue name of this run alone; the queue is deleted when the program ends. */
function uniqueQueue(name) {
  const queue = `compat.amqplib.${name}.${suffix}`;
  madeQueues.add(queue);
  return queue;
}

/** An exchange name of this run alone; the exchange is deleted when the program ends. */
function uniqueExchange(name) {
  const exchange = `compat.amqplib.${name}.${suffix}`;
  madeExchanges.add(exchange);
  return exchange;
}

async function deleteWhatWasMade() {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  for (const queue of madeQueues) await channel.deleteQueue(queue);
  for (const exchange of madeExchanges) await channel.deleteExchange(exchange);
  await connection.close();
}

/**
 * Runs a program: exit status 0 if `main` succeeds in time and leaves no connection open, else 1 and the reason.
 * A promise that is never settled must not look like success, hence the check at exit.
 */
function run(main) {
  let finished = false;
  const fail = (error) => {
    console.error(error);
    process.exit(1);
  };
  setTimeout(() => fail(new Error(`still running after ${TIME_LIMIT_MS / 1000} s`)), TIME_LIMIT_MS).unref();
  process.on("exit", (status) => {
    if (status === 0 && !finished) {
      console.error("the program stopped without having reached its end");
      process.exitCode = 1;
    }
  });
  const mainAndCleanUp = async () => {
    try {
      await main();
    } finally {
      await deleteWhatWasMade();
    }
    finished = true;
  };
  mainAndCleanUp().catch(fail);
}

/** The messages that a consumer was given, in order; `null` is the broker's cancel notification. */
class Inbox {
  #messages = [];
  #waiting = [];

  push(message) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter(message);
    else this.#messages.push(message);
  }

  /** How many have come and were not taken yet. */
  get size() {
    return this.#messages.length;
  }

  next() {
    if (this.#messages.length > 0) return Promise.resolve(this.#messages.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async take(count) {
    const taken = [];
    while (taken.length < count) taken.push(await this.next());
    return taken;
  }
}

/** Consumes from `queue` into an inbox. */
async function subscribe(channel, queue, options) {
  const inbox = new Inbox();
  const { consumerTag } = await channel.consume(queue, (message) => inbox.push(message), options);
  inbox.consumerTag = consumerTag;
  return inbox;
}

const text = (message) => message.content.toString();
const texts = (messages) => messages.map(text);

/** Takes everything out of a queue with `get`. */
async function drain(channel, queue) {
  const messages = [];
  for (;;) {
    const message = await channel.get(queue, { noAck: true });
    if (!message) return messages;
    messages.push(message);
  }
}

/**
 * Waits until so many messages are ready in the queue. A broker may count before it has worked off what was published
 * without a confirm, so one look is not enough.
 */
async function waitForReady(channel, queue, count) {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const { messageCount } = await channel.checkQueue(queue);
    if (messageCount === count) return;
    assert.ok(Date.now() < deadline, `${queue} holds ${messageCount} ready messages instead of ${count}`);
    await sleep(20);
  }
}

/**
 * Does `action` with a channel of its own and checks that the broker closes that channel with this code and text.
 * Whoever goes on using the connection's other channels shows that only this one was closed.
 */
async function expectChannelClose(connection, code, pattern, action) {
  const channel = await connection.createChannel();
  const closed = new Promise((resolve) => channel.once("error", resolve));
  Promise.resolve(action(channel)).catch(() => {}); // The same error as the event's, where the method has a reply.
  const error = await closed;
  assert.equal(error.code, code, error.message);
  assert.match(error.message, pattern);
}

/** What survive_publish.js leaves with the broker and survive_check.js finds there again. */
const survivors = {
  exchange: "compat.amqplib.survivors",
  queue: "compat.amqplib.survivors",
  transientQueue: "compat.amqplib.transient",
  queueOptions: { durable: true, maxLength: 1_000_000, arguments: { "x-dead-letter-exchange": "amq.direct" } },
  body: (number) => Buffer.from(`${number} ${"x".repeat((number * 37) % 3000)}`),
  properties: (number) => ({
    persistent: true,
    messageId: `survivor-${number}`,
    contentType: "text/plain",
    headers: { number, nested: { list: [number, null, "ü"] } },
  }),
};

module.exports = {
  Inbox,
  assert,
  drain,
  expectChannelClose,
  run,
  subscribe,
  survivors,
  text,
  texts,
  uniqueExchange,
  uniqueQueue,
  url,
  waitForReady,
};
