"""Connections: login, tuning, many channels, closing."""

import pika
from pika.exceptions import ConnectionClosedByBroker, ProbableAccessDeniedError, ProbableAuthenticationError

from support import URL, connect, drain, equal, run, unique_queue


def changed(**values):
    parameters = pika.URLParameters(URL)
    for name, value in values.items():
        setattr(parameters, name, value)
    return parameters


def login():
    try:
        pika.BlockingConnection(changed(credentials=pika.PlainCredentials("guest", "not the password")))
    except ProbableAuthenticationError as error:
        equal("ACCESS_REFUSED - Login was refused" in str(error), True, error)
    else:
        raise AssertionError("logged in with a wrong password")
    try:
        pika.BlockingConnection(changed(virtual_host="no-such-vhost"))
    except ProbableAccessDeniedError as error:
        equal("(530) 'NOT_ALLOWED - vhost no-such-vhost not found'" in str(error), True, error)
    else:
        raise AssertionError("opened a vhost that does not exist")


def tuning():
    connection = pika.BlockingConnection(changed(heartbeat=1, channel_max=10, frame_max=8192))
    connection.sleep(3.5)  # Either side would have given up by now without the other's heartbeats.
    channel = connection.channel()
    queue = unique_queue("tuning")
    channel.queue_declare(queue)
    body = b"x" * 1_000_000
    channel.basic_publish("", queue, body)
    (message,) = drain(channel, queue)
    equal(message.body == body, True, "a large body comes in small frames")
    connection.close()


def many_channels():
    connection = connect()
    channels = [connection.channel() for _ in range(200)]
    queue = unique_queue("many-channels")
    channels[0].queue_declare(queue)
    for channel in channels:
        channel.basic_publish("", queue, b"x")
        channel.close()
    equal(len(drain(connection.channel(), queue)), 200)
    connection.close()  # With a channel still open.


def connection_exception():
    """An error that is not one channel's closes the connection: here a consumer tag that is taken."""
    connection = connect()
    queue = unique_queue("connection-exception")
    first = connection.channel()
    first.queue_declare(queue)
    first.basic_consume(queue, lambda *_: None, consumer_tag="taken")
    # pika itself refuses to use the tag twice, so the request is sent below its blocking adapter.
    request = pika.spec.Basic.Consume(queue=queue, consumer_tag="taken")
    first._impl._send_method(request)
    try:
        while connection.is_open:
            connection.process_data_events(time_limit=1)
    except ConnectionClosedByBroker as error:
        equal(error.reply_code, 530)
        equal("NOT_ALLOWED - attempt to reuse consumer tag 'taken'" in error.reply_text, True, error.reply_text)
    else:
        raise AssertionError("the connection was closed without a reason")


def main():
    login()
    tuning()
    many_channels()
    connection_exception()


run(main)
