"""A broker that is short of memory, one that restarts, requests with direct reply-to, and a very large body."""

import functools
import os
import random
import subprocess
import time

import pika
from pika.exceptions import AMQPConnectionError, ConnectionBlockedTimeout

from support import URL, Inbox, connect, drain, equal, run, unique_queue, wait_for_ready

LARGE = int(os.environ.get("COMPAT_LARGE_BYTES", 64 << 20))


def from_runner(variable, *arguments):
    """Runs a command that the runner gives in the environment; false if it gives none."""
    command = os.environ.get(variable, "").split()
    if command:
        subprocess.run([*command, *arguments], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return bool(command)


def large_body():
    connection = connect()
    channel = connection.channel()
    queue = unique_queue("large")
    channel.queue_declare(queue)
    body = random.randbytes(LARGE)
    channel.basic_publish("", queue, body)
    equal(Inbox(channel, queue, auto_ack=True).next().body == body, True, "it comes out as it went in")
    connection.close()


def requests():
    connection = connect()
    server, client = connection.channel(), connection.channel()
    jobs = unique_queue("jobs")
    server.queue_declare(jobs)

    def serve(channel, method, properties, body):
        answer = pika.BasicProperties(correlation_id=properties.correlation_id)
        channel.basic_publish("", properties.reply_to, b"re: " + body, answer)
        channel.basic_ack(method.delivery_tag)

    server.basic_consume(jobs, serve)
    answers = Inbox(client, "amq.rabbitmq.reply-to", auto_ack=True)
    for number in range(50):
        properties = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=str(number))
        client.basic_publish("", jobs, str(number), properties)
        answer = answers.next()
        equal((answer.properties.correlation_id, answer.body), (str(number), f"re: {number}".encode()))
    connection.close()


def blocked():
    connection = connect()
    told = []
    connection.add_on_connection_blocked_callback(lambda _connection, frame: told.append(frame.method.reason))
    connection.add_on_connection_unblocked_callback(lambda _connection, _frame: told.append(None))
    channel = connection.channel()
    queue = unique_queue("blocked")
    channel.queue_declare(queue)
    if not from_runner("BROKER_CTL", "set_vm_memory_high_watermark", "absolute", "1000000"):
        print("this broker cannot be made short of memory from here")
        return
    try:
        channel.basic_publish("", queue, b"held back")
        while not told:
            connection.process_data_events(time_limit=1)
        equal(told, ["low on memory"])
        watching = connect()
        equal(drain(watching.channel(), queue), [], "nothing is taken meanwhile, and who only consumes is served")
        watching.close()
        # Who does not want to wait for the end of it.
        parameters = pika.URLParameters(URL)
        parameters.blocked_connection_timeout = 1
        impatient = pika.BlockingConnection(parameters)
        impatient.channel().basic_publish("", "no such queue", b"not waited for")
        try:
            while True:
                impatient.process_data_events(time_limit=1)
        except ConnectionBlockedTimeout:
            pass
    finally:
        from_runner("BROKER_CTL", "set_vm_memory_high_watermark", "0.6")
    while len(told) < 2:
        connection.process_data_events(time_limit=1)
    wait_for_ready(channel, queue, 1)
    connection.close()


def restarted():
    """pika leaves reconnecting to its user: what its documentation shows for that."""
    queue = unique_queue("restart")
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True)
    channel.basic_publish("", queue, b"before", pika.BasicProperties(delivery_mode=2))
    equal(Inbox(channel, queue).next().body, b"before")
    if not from_runner("BROKER_RESTART"):
        print("this broker cannot be restarted from here")
        return
    try:
        while True:
            connection.process_data_events(time_limit=1)
    except AMQPConnectionError:
        pass
    parameters = pika.URLParameters(URL)
    parameters.connection_attempts, parameters.retry_delay = 100, 0.2
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    message = Inbox(channel, queue).next()
    equal((message.body, message.method.redelivered), (b"before", True), "what was confirmed outlives the restart")
    channel.basic_ack(message.tag)
    # Another thread's work gets in by a callback.
    done = []
    connection.add_callback_threadsafe(functools.partial(done.append, True))
    connection.call_later(0.1, lambda: done.append(True))
    while len(done) < 2:
        connection.process_data_events(time_limit=1)
    connection.close()


def main():
    for flow in (large_body, requests, blocked, restarted):
        started = time.monotonic()
        flow()
        print(f"{flow.__name__}: {time.monotonic() - started:.1f} s")


run(main)
