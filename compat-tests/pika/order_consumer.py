"""The README's example: processes orders from the queue "order.created", one at a time, until it is told to stop.

    python order_consumer.py

With FAILURES=1 in the environment the first attempt to process an order fails, with FAILURES=2 the first two.
"""

import json
import os
import signal

import pika

failures = int(os.environ.get("FAILURES", "0"))


def process_order(order):
    global failures
    if failures > 0:
        failures -= 1
        raise RuntimeError("the warehouse does not answer")
    print(f"order {order['orderId']} of {order['customer']} over {order['total']} processed", flush=True)


def on_message(channel, method, properties, body):
    try:
        process_order(json.loads(body))
        channel.basic_ack(method.delivery_tag)
    except Exception as error:
        print(f"not processed (redelivered: {method.redelivered}): {error}", flush=True)
        channel.basic_nack(method.delivery_tag, requeue=True)


connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()

channel.queue_declare("order.created", durable=True)
channel.basic_qos(prefetch_count=1)
channel.basic_consume("order.created", on_message)

signal.signal(signal.SIGTERM, lambda *_: connection.add_callback_threadsafe(channel.stop_consuming))
print("waiting for orders", flush=True)
channel.start_consuming()
connection.close()
