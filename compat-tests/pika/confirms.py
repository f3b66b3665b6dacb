"""Publisher confirms: with BlockingConnection each publish waits for its own, and a refusal or a return is an exception."""

import pika
from pika.exceptions import NackError, UnroutableError

from support import bodies, connect, drain, equal, run, unique_exchange, unique_queue


def main():
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    persistent = pika.BasicProperties(delivery_mode=2)

    count = 1000
    queue = unique_queue("confirms")
    channel.queue_declare(queue, durable=True)
    for number in range(1, count + 1):
        channel.basic_publish("", queue, str(number), persistent)
    equal(channel.queue_declare(queue, passive=True).method.message_count, count, "what is confirmed is in the queue")
    equal(bodies(drain(channel, queue)), [str(number) for number in range(1, count + 1)])

    # Nobody wants it: confirmed nevertheless, unless it is mandatory.
    channel.basic_publish("amq.direct", "no such key", b"dropped", persistent)
    exchange = unique_exchange("confirms")
    channel.exchange_declare(exchange, "direct")
    properties = pika.BasicProperties(message_id="r-1", headers={"reason": "test"})
    for body in (b"lost", b""):
        try:
            channel.basic_publish(exchange, "unknown", body, properties, mandatory=True)
        except UnroutableError as error:
            (returned,) = error.messages
            equal(returned.body, body)
            equal((returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"))
            equal((returned.method.exchange, returned.method.routing_key), (exchange, "unknown"))
            equal((returned.properties.message_id, returned.properties.headers), ("r-1", {"reason": "test"}))
        else:
            raise AssertionError("a mandatory message without a queue did not come back")
    channel.basic_publish("", queue, b"routed", mandatory=True)
    equal(bodies(drain(channel, queue)), ["routed"])

    # A full queue that refuses.
    full = unique_queue("confirms-full")
    channel.queue_declare(full, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    channel.basic_publish("", full, b"1")
    channel.basic_publish("", full, b"2")
    try:
        channel.basic_publish("", full, b"3")
    except NackError:
        pass
    else:
        raise AssertionError("the full queue took a message")
    equal(bodies(drain(channel, full)), ["1", "2"])
    channel.basic_publish("", full, b"4")
    connection.close()


run(main)
