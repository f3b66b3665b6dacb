// Publishes COUNT persistent messages with confirms. The broker is killed after that, and survive_check.js looks for them.
//
//     node survive_publish.js COUNT
"use strict";

const amqp = require("amqplib");
const { run, survivors, url } = require("./support");

run(async () => {
  const count = Number(process.argv[2]);
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange(survivors.exchange, "topic", { durable: true });
  await channel.assertQueue(survivors.queue, survivors.queueOptions);
  await channel.assertQueue(survivors.transientQueue, { durable: false });
  await channel.bindQueue(survivors.queue, survivors.exchange, "survivor.#");

  for (let number = 1; number <= count; number += 1) {
    channel.publish(survivors.exchange, `survivor.${number}`, survivors.body(number), survivors.properties(number));
  }
  await channel.waitForConfirms();
  console.log(`${count} messages confirmed`);
  await connection.close();
});
