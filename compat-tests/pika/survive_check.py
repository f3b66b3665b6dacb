"""Checks that exactly the COUNT messages of survive_publish.py are there, in order, and that the durable topology works.

    python survive_check.py COUNT
"""

import sys

from support import Inbox, Survivors, connect, equal, refused, run


def main():
    count = int(sys.argv[1])
    connection = connect()
    channel = connection.channel()
    channel.confirm_delivery()
    channel.exchange_declare(Survivors.EXCHANGE, "topic", durable=True)
    declared = channel.queue_declare(Survivors.QUEUE, durable=True, arguments=Survivors.ARGUMENTS)
    equal(declared.method.message_count, count, "messages in the queue after the restart")
    with refused(connection, 404, "NOT_FOUND - no queue") as other:
        other.queue_declare(Survivors.TRANSIENT_QUEUE, passive=True)

    channel.basic_qos(prefetch_count=100)
    inbox = Inbox(channel, Survivors.QUEUE)
    for number in range(1, count + 1):
        message = inbox.next()
        equal(message.properties, Survivors.properties(number), "in order")
        equal(message.body, Survivors.body(number))
        equal((message.method.exchange, message.method.routing_key), (Survivors.EXCHANGE, f"survivor.{number}"))
        channel.basic_ack(message.tag)

    # The binding is there too.
    channel.basic_publish(Survivors.EXCHANGE, "survivor.new", b"new", mandatory=True)
    last = inbox.next()
    equal((last.body, last.method.redelivered), (b"new", False))
    channel.basic_ack(last.tag)

    channel.basic_cancel(inbox.consumer_tag)
    equal(channel.queue_delete(Survivors.QUEUE).method.message_count, 0)
    channel.exchange_delete(Survivors.EXCHANGE, if_unused=True)
    connection.close()


run(main)
