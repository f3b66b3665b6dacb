"""Runs the README's two programs against each other, as a user would in two terminals."""

import os
import pathlib
import subprocess
import sys

from support import connect, equal, run, wait_for_ready

HERE = pathlib.Path(__file__).parent


def produce(order_id):
    command = [sys.executable, HERE / "order_producer.py", order_id]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=30).stdout
    equal(output, f"order {order_id} sent\n")


def start_consumer(**environment):
    command = [sys.executable, HERE / "order_consumer.py"]
    return subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)


def stop(consumer):
    consumer.terminate()
    equal(consumer.wait(timeout=10), 0, "the consumer cancels, closes its connection and ends")


def main():
    connection = connect()
    channel = connection.channel()
    channel.queue_delete("order.created")  # What an earlier run may have left.

    # The consumer waits before the order comes.
    with start_consumer() as consumer:
        try:
            equal(consumer.stdout.readline(), "waiting for orders\n")
            produce("1")
            equal(consumer.stdout.readline(), "order 1 of Ada over 42.5 processed\n")
            stop(consumer)
        finally:
            consumer.kill()

    # The orders wait for the consumer, which cannot process the first one at once.
    produce("2")
    produce("3")
    wait_for_ready(channel, "order.created", 2)
    with start_consumer(FAILURES="2") as consumer:
        try:
            lines = [consumer.stdout.readline().rstrip("\n") for _ in range(5)]
            expected = [
                "waiting for orders",
                "not processed (redelivered: False): the warehouse does not answer",
                "not processed (redelivered: True): the warehouse does not answer",
                "order 2 of Ada over 42.5 processed",
                "order 3 of Ada over 42.5 processed",
            ]
            equal(lines, expected)
            stop(consumer)
        finally:
            consumer.kill()
    wait_for_ready(channel, "order.created", 0)

    channel.queue_delete("order.created")
    connection.close()


run(main)
