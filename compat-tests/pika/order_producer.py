"""The README's example: sends one order to the queue "order.created".

    python order_producer.py [ORDER_ID]
"""

import json
import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ.get("AMQP_URL", "amqp://localhost")))
channel = connection.channel()

channel.queue_declare("order.created", durable=True)

order = {"orderId": sys.argv[1] if len(sys.argv) > 1 else "4711", "customer": "Ada", "total": 42.5}
channel.basic_publish(
    exchange="",
    routing_key="order.created",
    body=json.dumps(order),
    properties=pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent),
)
print(f"order {order['orderId']} sent")

channel.close()
connection.close()
