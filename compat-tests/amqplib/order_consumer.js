// The README's example: processes orders from the queue "order.created", one at a time, until it is told to stop.
//
//     node order_consumer.js
//
// With FAILURES=1 in the environment the first attempt to process an order fails, with FAILURES=2 the first two.
"use strict";

const amqp = require("amqplib");

let failures = Number(process.env.FAILURES ?? 0);

async function processOrder(order) {
  if (failures > 0) {
    failures -= 1;
    throw new Error("the warehouse does not answer");
  }
  console.log(`order ${order.orderId} of ${order.customer} over ${order.total} processed`);
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL ?? "amqp://localhost");
  const channel = await connection.createChannel();

  await channel.assertQueue("order.created", { durable: true });
  await channel.prefetch(1);

  await channel.consume("order.created", async (message) => {
    if (message === null) return; // The queue was deleted.
    try {
      await processOrder(JSON.parse(message.content.toString()));
      channel.ack(message);
    } catch (error) {
      console.log(`not processed (redelivered: ${message.fields.redelivered}): ${error.message}`);
      channel.nack(message, false, true);
    }
  });
  console.log("waiting for orders");

  process.once("SIGTERM", async () => {
    await channel.close();
    await connection.close();
  });
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
