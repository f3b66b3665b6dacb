"""Publishes COUNT persistent messages with confirms. The broker is killed after that, and survive_check.py looks for them.

    python survive_publish.py COUNT
"""

import sys

from support import Survivors, connect, run


def main():
    count = int(sys.argv[1])
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.exchange_declare(Survivors.EXCHANGE, "topic", durable=True)
    channel.queue_declare(Survivors.QUEUE, durable=True, arguments=Survivors.ARGUMENTS)
    channel.queue_declare(Survivors.TRANSIENT_QUEUE, durable=False)
    channel.queue_bind(Survivors.QUEUE, Survivors.EXCHANGE, "survivor.#")
    for number in range(1, count + 1):
        body, properties = Survivors.body(number), Survivors.properties(number)
        channel.basic_publish(Survivors.EXCHANGE, f"survivor.{number}", body, properties)
    print(f"{count} messages confirmed")
    connection.close()


run(main)
