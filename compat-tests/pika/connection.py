"""Connections: login, tuning, many channels, closing."""

from decimal import Decimal
from urllib.parse import quote, urlencode

import pika
from pika.exceptions import (
    AMQPConnectionError,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

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


def options():
    """Every option that pika has: as parameters, in an address, and of the socket."""
    address = pika.URLParameters(URL)
    properties = {
        "connection_name": "compat",
        "product": "compat",
        "nested": {"list": [1, "two", True, None, Decimal("1.5")], "table": {}},
    }
    parameters = pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=address.virtual_host,
        credentials=pika.PlainCredentials(address.credentials.username, address.credentials.password, erase_on_connect=True),
        channel_max=3,
        frame_max=16_384,
        heartbeat=lambda _connection, offered: min(30, offered),
        connection_attempts=2,
        retry_delay=0.1,
        socket_timeout=10,
        stack_timeout=15,
        locale="en_US",
        blocked_connection_timeout=60,
        client_properties=properties,
        tcp_options={"TCP_KEEPIDLE": 60, "TCP_USER_TIMEOUT": 10_000},
    )
    connection = pika.BlockingConnection(parameters)
    agreed = connection._impl.params
    equal((agreed.channel_max, agreed.frame_max, agreed.heartbeat), (3, 16_384, 30), "agreed")
    for capability in ("basic_nack", "consumer_cancel_notify", "exchange_exchange_bindings", "publisher_confirms"):
        equal(getattr(connection, f"{capability}_supported"), True, capability)
    channels = [connection.channel() for _ in range(3)]
    equal([channel.channel_number for channel in channels], [1, 2, 3])
    check_alive(channels[0])
    connection.update_secret(address.credentials.password, "nothing to renew")
    connection.close()

    # The same in the address; the default vhost's slash is encoded there.
    options = {
        "heartbeat": 7,
        "frame_max": 8192,
        "channel_max": 5,
        "connection_attempts": 2,
        "retry_delay": 0.5,
        "socket_timeout": 10,
        "stack_timeout": 15,
        "locale": "en_US",
        "blocked_connection_timeout": 60,
        "client_properties": {"connection_name": "compat"},
        "tcp_options": {"TCP_KEEPIDLE": 60},
    }
    login = f"{quote(address.credentials.username, '')}:{quote(address.credentials.password, '')}"
    there = f"amqp://{login}@{address.host}:{address.port}/{quote(address.virtual_host, '')}?{urlencode(options)}"
    connection = pika.BlockingConnection(pika.URLParameters(there))
    agreed = connection._impl.params
    equal((agreed.channel_max, agreed.frame_max, agreed.heartbeat), (5, 8192, 7), "agreed by the address")
    check_alive(connection.channel())
    connection.close()

    # Without heartbeats, and without limits, as far as the broker agrees.
    connection = pika.BlockingConnection(changed(heartbeat=0, channel_max=65_535, frame_max=131_072))
    equal(connection._impl.params.heartbeat, 0)
    check_alive(connection.channel())
    connection.close()

    # Several hosts: the first that answers.
    connection = pika.BlockingConnection([changed(port=1), changed(host="127.0.0.1", port=2), changed()])
    equal(connection._impl.params.port, address.port)
    connection.close()

    # Without a certificate there is nobody whom EXTERNAL could log in.
    try:
        pika.BlockingConnection(changed(credentials=pika.credentials.ExternalCredentials()))
    except AMQPConnectionError:
        pass
    else:
        raise AssertionError("logged in without a certificate")


def check_alive(channel):
    queue = unique_queue("alive")
    channel.queue_declare(queue)
    channel.basic_publish("", queue, b"alive")
    (message,) = drain(channel, queue)
    equal(message.body, b"alive")


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
    options()
    tuning()
    many_channels()
    connection_exception()


run(main)
