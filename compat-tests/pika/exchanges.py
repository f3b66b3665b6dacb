"""Exchanges: the four types, bindings between exchanges, unbinding, deletion, and what is refused."""

import pika

from support import bodies, connect, drain, equal, refused, run, unique_exchange, unique_queue


def routed(channel, exchange, queue, routing_keys):
    """Publishes the routing keys as bodies too, and returns which of them reached the queue."""
    for routing_key in routing_keys:
        channel.basic_publish(exchange, routing_key, routing_key)
    return bodies(drain(channel, queue))


def direct(channel):
    exchange, queue = unique_exchange("direct"), unique_queue("direct")
    channel.exchange_declare(exchange, "direct", durable=True)
    channel.queue_declare(queue)
    for key in ("red", "green", "green"):
        channel.queue_bind(queue, exchange, key)
    equal(routed(channel, exchange, queue, ["red", "green", "blue", "", "Red"]), ["red", "green"])
    channel.queue_unbind(queue, exchange, "green")
    channel.queue_unbind(queue, exchange, "green")  # It is gone already: fine.
    equal(routed(channel, exchange, queue, ["red", "green"]), ["red"])


def fanout(channel):
    exchange = unique_exchange("fanout")
    channel.exchange_declare(exchange, "fanout")
    queues = [unique_queue(f"fanout-{name}") for name in "abc"]
    for queue in queues:
        channel.queue_declare(queue)
        channel.queue_bind(queue, exchange, "ignored")
    channel.queue_bind(queues[0], exchange, "once more")  # It still gets one copy.
    channel.basic_publish(exchange, "any", b"news")
    for queue in queues:
        equal(bodies(drain(channel, queue)), ["news"])


def topic(channel):
    exchange, queue = unique_exchange("topic"), unique_queue("topic")
    channel.exchange_declare(exchange, "topic")
    channel.queue_declare(queue)
    keys = ["a", "a.b", "a.b.c", "a.c", "", "a..c", ".", "b.a"]
    for binding_key, expected in {
        "a.b.c": ["a.b.c"],
        "a.*.c": ["a.b.c", "a..c"],
        "a.#": ["a", "a.b", "a.b.c", "a.c", "a..c"],
        "#": keys,
        "*": ["a"],
        "#.c": ["a.b.c", "a.c", "a..c"],
        "*.*": ["a.b", "a.c", ".", "b.a"],
        "a#": [],
    }.items():
        channel.queue_bind(queue, exchange, binding_key)
        equal(routed(channel, exchange, queue, keys), expected, f"binding key {binding_key!r}")
        channel.queue_unbind(queue, exchange, binding_key)


def headers(channel):
    exchange, queue = unique_exchange("headers"), unique_queue("headers")
    channel.exchange_declare(exchange, "headers")
    channel.queue_declare(queue)
    messages = {
        "both": {"format": "pdf", "pages": 2},
        "format": {"format": "pdf", "pages": 3},
        "pages": {"format": "zip", "pages": 2},
        "neither": {"format": "zip"},
        "typed": {"format": "pdf", "pages": "2"},
        "none": None,
    }
    for arguments, expected in (
        ({"x-match": "all", "format": "pdf", "pages": 2}, ["both"]),
        ({"format": "pdf", "pages": 2}, ["both"]),
        ({"x-match": "any", "format": "pdf", "pages": 2}, ["both", "format", "pages", "typed"]),
        ({"x-match": "all", "pages": None}, ["both", "format", "pages", "typed"]),
        ({"x-match": "all"}, list(messages)),
        ({"x-match": "any"}, []),
    ):
        channel.queue_bind(queue, exchange, routing_key="", arguments=arguments)
        for name, fields in messages.items():
            channel.basic_publish(exchange, "", name, pika.BasicProperties(headers=fields))
        equal(bodies(drain(channel, queue)), expected, arguments)
        channel.queue_unbind(queue, exchange, routing_key="", arguments=arguments)


def exchange_to_exchange(channel):
    entry, end = unique_exchange("e2e-entry"), unique_exchange("e2e-end")
    queue = unique_queue("e2e")
    channel.exchange_declare(entry, "topic")
    channel.exchange_declare(end, "fanout", internal=True)
    channel.queue_declare(queue)
    channel.exchange_bind(end, entry, "order.*")
    channel.queue_bind(queue, end)
    equal(routed(channel, entry, queue, ["order.created", "invoice.created"]), ["order.created"])
    channel.exchange_unbind(end, entry, "order.*")
    equal(routed(channel, entry, queue, ["order.created"]), [])


def deletion_and_refusals(channel):
    connection = channel.connection
    exchange, missing, queue = unique_exchange("refusals"), unique_exchange("missing"), unique_queue("refusals")
    channel.exchange_declare(exchange, "direct", durable=True)
    channel.queue_declare(queue)
    channel.queue_bind(queue, exchange, "key")
    with refused(connection, 406, "in use") as other:
        other.exchange_delete(exchange, if_unused=True)
    with refused(connection, 406, "PRECONDITION_FAILED - inequivalent arg 'type' for exchange") as other:
        other.exchange_declare(exchange, "fanout", durable=True)
    with refused(connection, 403, "ACCESS_REFUSED - exchange name 'amq.compat' contains reserved prefix") as other:
        other.exchange_declare("amq.compat", "direct")
    with refused(connection, 404, "NOT_FOUND - no exchange") as other:
        other.exchange_declare(missing, passive=True)
    with refused(connection, 404, "NOT_FOUND - no exchange") as other:
        other.queue_bind(queue, missing, "key")
    with refused(connection, 404, "NOT_FOUND - no exchange") as other:
        other.basic_publish(missing, "key", b"x")
        other.queue_declare(queue, passive=True)  # A publish has no reply, so the next method tells.
    with refused(connection, 403, "ACCESS_REFUSED - operation not permitted on the default exchange") as other:
        other.queue_bind(queue, "", "key")
    channel.queue_unbind(queue, exchange, "key")
    channel.exchange_delete(exchange, if_unused=True)
    channel.exchange_delete(exchange)  # It is gone already: fine.


def main():
    connection = connect()
    for flow in (direct, fanout, topic, headers, exchange_to_exchange, deletion_and_refusals):
        channel = connection.channel()
        flow(channel)
        channel.close()
    connection.close()


run(main)
