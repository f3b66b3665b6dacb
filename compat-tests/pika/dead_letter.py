"""Dead letters instead of endless requeueing: rejected, expired and pushed out of a full queue, and a retry loop."""

import datetime

import pika

from support import Inbox, connect, equal, run, unique_exchange, unique_queue, wait_for_ready


def check_death(entry, **expected):
    """Checks the fields of one entry of x-death; its time must be about now."""
    entry = dict(entry)
    died = entry.pop("time")
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    if died.tzinfo is None:
        died = died.replace(tzinfo=datetime.timezone.utc)
    if abs(now - died) > datetime.timedelta(minutes=1):
        raise AssertionError(f"died at {died}")
    equal(entry, {key.replace("_", "-"): value for key, value in expected.items()})


def rejected(channel):
    exchange = unique_exchange("rejected-dlx")
    work, dead = unique_queue("rejected-work"), unique_queue("rejected-dead")
    channel.exchange_declare(exchange, "direct", durable=True)
    channel.queue_declare(dead, durable=True)
    channel.queue_bind(dead, exchange, "order.failed")
    arguments = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": "order.failed"}
    channel.queue_declare(work, durable=True, arguments=arguments)

    properties = pika.BasicProperties(delivery_mode=2, message_id="m-1", headers={"attempt": 1})
    channel.basic_publish("", work, b"unreadable", properties)
    channel.basic_publish("", work, b"rejected")
    jobs = Inbox(channel, work)
    channel.basic_nack(jobs.next().tag, requeue=False)
    channel.basic_reject(jobs.next().tag, requeue=False)

    letters = Inbox(channel, dead)
    letter = letters.next()
    equal(letter.body, b"unreadable")
    equal((letter.method.exchange, letter.method.routing_key), (exchange, "order.failed"))
    equal(letter.method.redelivered, False)
    equal((letter.properties.message_id, letter.properties.delivery_mode), ("m-1", 2))
    headers = letter.properties.headers
    equal(headers["attempt"], 1)
    equal(headers["x-first-death-reason"], "rejected")
    equal(headers["x-first-death-queue"], work)
    equal(headers["x-first-death-exchange"], "")
    equal(len(headers["x-death"]), 1)
    check_death(headers["x-death"][0], count=1, reason="rejected", queue=work, exchange="", routing_keys=[work])
    equal(letters.next().body, b"rejected")
    wait_for_ready(channel, work, 0)


def expired(channel):
    exchange = unique_exchange("expired-dlx")
    by_queue, by_message = unique_queue("expired-by-queue"), unique_queue("expired-by-message")
    dead = unique_queue("expired-dead")
    channel.exchange_declare(exchange, "fanout")
    channel.queue_declare(dead)
    channel.queue_bind(dead, exchange)
    channel.queue_declare(by_queue, arguments={"x-message-ttl": 100, "x-dead-letter-exchange": exchange})
    channel.queue_declare(by_message, arguments={"x-dead-letter-exchange": exchange})
    letters = Inbox(channel, dead, auto_ack=True)

    channel.basic_publish("", by_queue, b"by the queue's time to live")
    letter = letters.next()
    equal(letter.body, b"by the queue's time to live")
    equal(letter.method.routing_key, by_queue, "without a dead-letter routing key the message keeps its own")
    death = letter.properties.headers["x-death"][0]
    check_death(death, count=1, reason="expired", queue=by_queue, exchange="", routing_keys=[by_queue])

    channel.basic_publish("", by_message, b"by its own expiration", pika.BasicProperties(expiration="100"))
    letter = letters.next()
    equal(letter.body, b"by its own expiration")
    equal(letter.properties.expiration, None, "it must not expire again")
    check_death(
        letter.properties.headers["x-death"][0],
        count=1,
        reason="expired",
        queue=by_message,
        exchange="",
        routing_keys=[by_message],
        original_expiration="100",
    )


def pushed_out(channel):
    work, dead = unique_queue("maxlen-work"), unique_queue("maxlen-dead")
    channel.queue_declare(dead)
    arguments = {"x-max-length": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    channel.queue_declare(work, arguments=arguments)
    letters = Inbox(channel, dead, auto_ack=True)
    for body in ("1", "2", "3", "4"):
        channel.basic_publish("", work, body)
    for body in (b"1", b"2"):
        letter = letters.next()
        equal(letter.body, body, "the oldest goes first")
        death = letter.properties.headers["x-death"][0]
        check_death(death, count=1, reason="maxlen", queue=work, exchange="", routing_keys=[work])
    wait_for_ready(channel, work, 2)


def retry_loop(channel):
    """work -(rejected)-> wait -(expired)-> work, until x-death says that it was tried often enough."""
    orders, retries = unique_exchange("retry-orders"), unique_exchange("retry-wait")
    work, wait = unique_queue("retry-work"), unique_queue("retry-wait")
    channel.exchange_declare(orders, "topic")
    channel.exchange_declare(retries, "topic")
    channel.queue_declare(work, arguments={"x-dead-letter-exchange": retries})
    channel.queue_declare(wait, arguments={"x-message-ttl": 50, "x-dead-letter-exchange": orders})
    channel.queue_bind(work, orders, "order.#")
    channel.queue_bind(wait, retries, "#")

    jobs = Inbox(channel, work)
    channel.basic_publish(orders, "order.created", b"stubborn")
    for attempt in range(4):
        job = jobs.next()
        equal((job.method.exchange, job.method.routing_key), (orders, "order.created"))
        deaths = (job.properties.headers or {}).get("x-death", [])
        if attempt == 0:
            equal(deaths, [])
        else:
            equal(len(deaths), 2, "one entry for a pair of queue and reason")
            common = {"count": attempt, "routing_keys": ["order.created"]}
            check_death(deaths[0], reason="expired", queue=wait, exchange=retries, **common)
            check_death(deaths[1], reason="rejected", queue=work, exchange=orders, **common)
        if attempt < 3:
            channel.basic_nack(job.tag, requeue=False)
        else:
            channel.basic_ack(job.tag)
    wait_for_ready(channel, work, 0)
    wait_for_ready(channel, wait, 0)


def main():
    connection = connect()
    for flow in (rejected, expired, pushed_out, retry_loop):
        channel = connection.channel()
        flow(channel)
        channel.close()
    connection.close()


run(main)
