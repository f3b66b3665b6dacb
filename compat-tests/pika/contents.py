"""Contents: bodies from empty to 8 MiB, headers of every type that pika has, every property."""

import datetime
import decimal
import random

import pika

from support import URL, Inbox, connect, drain, equal, run, unique_queue


def bodies_of_all_sizes(channel):
    queue = unique_queue("bodies")
    channel.queue_declare(queue, durable=True)
    channel.basic_qos(prefetch_count=2)
    inbox = Inbox(channel, queue)
    frame_body = 131_072 - 8  # What fits into one frame of the usual size.
    for size in (0, 1, 100, frame_body - 1, frame_body, frame_body + 1, 2 * frame_body, 1 << 20, 8 << 20):
        body = random.randbytes(size)
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2))
        message = inbox.next()
        equal(message.body == body, True, f"{size} octets come out as they went in")
        channel.basic_ack(message.tag)


def headers(channel):
    queue = unique_queue("headers")
    channel.queue_declare(queue)
    sent = {
        "string": "Häsin 兎",
        "empty": "",
        "long": "x" * 10_000,
        "true": True,
        "false": False,
        "int32": -(2**31),
        "int64": -(2**63),
        "decimal": decimal.Decimal("123.45"),
        "timestamp": datetime.datetime(2023, 11, 14, 22, 13, 20),
        "bytes": b"\xff\xce\x00",
        "void": None,
        "list": ["a", 1, True, None, [2, [3]], {"deep": ["er"]}],
        "empty list": [],
        "table": {"a": {"b": {"c": 1}}},
        "empty table": {},
    }
    channel.basic_publish("", queue, b"headers", pika.BasicProperties(headers=sent))
    (message,) = drain(channel, queue)
    received = message.properties.headers
    received["timestamp"] = received["timestamp"].replace(tzinfo=None)
    equal(received, sent)


def properties(channel):
    queue = unique_queue("properties")
    channel.queue_declare(queue)
    everything = {
        "content_type": "application/json",
        "content_encoding": "identity",
        "headers": {"trace": "abc"},
        "delivery_mode": 2,
        "priority": 7,
        "correlation_id": "correlation",
        "reply_to": "answers",
        "expiration": "600000",
        "message_id": "message",
        "timestamp": 1_700_000_000,
        "type": "order.created",
        "user_id": pika.URLParameters(URL).credentials.username,
        "app_id": "compat",
        "cluster_id": "cluster",
    }
    extremes = {"priority": 255, "correlation_id": "ü" * 127, "message_id": "", "type": "x" * 255, "headers": {}}
    for sent in (everything, {}, extremes):
        channel.basic_publish("", queue, b"body", pika.BasicProperties(**sent))
        (message,) = drain(channel, queue)
        equal(message.properties, pika.BasicProperties(**sent))


def main():
    connection = connect()
    for flow in (bodies_of_all_sizes, headers, properties):
        channel = connection.channel()
        flow(channel)
        channel.close()
    connection.close()


run(main)
