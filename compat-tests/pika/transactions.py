"""Transactions: what is published and acknowledged counts from the commit on, and not at all after a rollback."""

from support import bodies, connect, drain, equal, run, unique_queue


def main():
    connection = connect()
    channel, watching = connection.channel(), connection.channel()
    queue = unique_queue("transactions")
    channel.queue_declare(queue, durable=True)

    def ready():
        return watching.queue_declare(queue, passive=True).method.message_count

    channel.tx_select()
    channel.basic_publish("", queue, b"rolled back")
    channel.tx_rollback()
    channel.basic_publish("", queue, b"1")
    channel.basic_publish("", queue, b"2")
    equal(ready(), 0, "nothing before the commit")
    channel.tx_commit()
    equal(ready(), 2)

    method, _, body = channel.basic_get(queue)
    equal(body, b"1")
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    channel.close()
    messages = drain(watching, queue)
    equal(bodies(messages), ["1", "2"], "the acknowledgement was rolled back")
    equal(messages[0].method.redelivered, True)
    connection.close()


run(main)
