"""What the programs here share: the broker's address, a time limit, names that nobody else uses, clean-up."""

import contextlib
import os
import secrets
import signal
import time
from collections import deque
from typing import NamedTuple

import pika
from pika.exceptions import ChannelClosedByBroker

URL = os.environ.get("AMQP_URL", "amqp://localhost")
TIME_LIMIT_SECONDS = 60

_suffix = secrets.token_hex(6)
_made_queues = []
_made_exchanges = []


def unique_queue(name):
    """A queue name of this run alone; the queue is deleted when the program ends."""
    queue = f"compat.pika.{name}.{_suffix}"
    _made_queues.append(queue)
    return queue


def unique_exchange(name):
    """An exchange name of this run alone; the exchange is deleted when the program ends."""
    exchange = f"compat.pika.{name}.{_suffix}"
    _made_exchanges.append(exchange)
    return exchange


def connect():
    return pika.BlockingConnection(pika.URLParameters(URL))


def run(main):
    """Runs a program within the time limit; whatever it raises becomes exit status 1."""

    def give_up(_signal, _frame):
        raise TimeoutError(f"still running after {TIME_LIMIT_SECONDS} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TIME_LIMIT_SECONDS)
    try:
        main()
    finally:
        _delete_what_was_made()


def _delete_what_was_made():
    connection = connect()
    channel = connection.channel()
    for queue in _made_queues:
        channel.queue_delete(queue)
    for exchange in _made_exchanges:
        channel.exchange_delete(exchange)
    connection.close()


def equal(actual, expected, what=""):
    if actual != expected:
        raise AssertionError(f"{what or 'mismatch'}\n  expected: {expected!r}\n  actual:   {actual!r}")


class Message(NamedTuple):
    method: pika.amqp_object.Method
    properties: pika.BasicProperties
    body: bytes

    @property
    def tag(self):
        return self.method.delivery_tag


class Inbox:
    """A consumer of a queue: the messages it was given, in order."""

    def __init__(self, channel, queue, **options):
        self._connection = channel.connection
        self._messages = deque()
        self.consumer_tag = channel.basic_consume(queue, self._on_message, **options)

    def _on_message(self, _channel, method, properties, body):
        self._messages.append(Message(method, properties, body))

    def __len__(self):
        return len(self._messages)

    def next(self):
        while not self._messages:
            self._connection.process_data_events(time_limit=1)
        return self._messages.popleft()

    def take(self, count):
        return [self.next() for _ in range(count)]


def bodies(messages):
    return [message.body.decode() for message in messages]


def drain(channel, queue):
    """Takes everything out of a queue with basic.get."""
    messages = []
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return messages
        messages.append(Message(method, properties, body))


def wait_for_ready(channel, queue, count):
    """Waits until so many messages are ready in the queue.

    A broker may count before it has worked off what was published without a confirm, so one look is not enough.
    """
    deadline = time.monotonic() + 10
    while True:
        ready = channel.queue_declare(queue, passive=True).method.message_count
        if ready == count:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{queue} holds {ready} ready messages instead of {count}")
        time.sleep(0.02)


@contextlib.contextmanager
def refused(connection, code, text):
    """Gives a channel to a block in which the broker must close that channel, with this code and a text that contains this.

    Whoever goes on using the connection's other channels shows that only this one was closed.
    """
    channel = connection.channel()
    try:
        yield channel
    except ChannelClosedByBroker as closed:
        equal(closed.reply_code, code, closed.reply_text)
        if text not in closed.reply_text:
            raise AssertionError(f"expected {text!r}, got {closed.reply_text!r}") from closed
        equal(channel.is_closed, True)
    else:
        raise AssertionError(f"expected {code} {text}, but the broker agreed")


class Survivors:
    """What survive_publish.py leaves with the broker and survive_check.py finds there again."""

    EXCHANGE = "compat.pika.survivors"
    QUEUE = "compat.pika.survivors"
    TRANSIENT_QUEUE = "compat.pika.transient"
    ARGUMENTS = {"x-max-length": 1_000_000, "x-dead-letter-exchange": "amq.direct"}

    @staticmethod
    def body(number):
        return f"{number} {'x' * (number * 37 % 3000)}".encode()

    @staticmethod
    def properties(number):
        return pika.BasicProperties(
            delivery_mode=2,
            message_id=f"survivor-{number}",
            headers={"number": number, "nested": {"list": [number, None, "ü"]}},
        )
