// The README's example: sends one order to the queue "order.created".
//
//     node order_producer.js [ORDER_ID]
"use strict";

const amqp = require("amqplib");

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL ?? "amqp://localhost");
  const channel = await connection.createChannel();

  await channel.assertQueue("order.created", { durable: true });

  const order = { orderId: process.argv[2] ?? "4711", customer: "Ada", total: 42.5 };
  channel.sendToQueue("order.created", Buffer.from(JSON.stringify(order)), { persistent: true });
  console.log(`order ${order.orderId} sent`);

  await channel.close();
  await connection.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
