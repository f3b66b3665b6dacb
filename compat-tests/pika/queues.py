"""Queues: declaring, looking up, naming, exclusive, auto-delete and expiring ones, deletion, and what is refused."""

from support import Inbox, bodies, connect, drain, equal, refused, run, unique_queue, wait_for_ready


def declaring(channel):
    connection = channel.connection
    queue = unique_queue("declare")
    arguments = {"x-message-ttl": 60_000, "x-max-length": 100}
    declared = channel.queue_declare(queue, durable=True, arguments=arguments).method
    equal((declared.queue, declared.message_count, declared.consumer_count), (queue, 0, 0))
    channel.basic_publish("", queue, b"1")
    wait_for_ready(channel, queue, 1)
    Inbox(channel, queue).next()
    equal(channel.queue_declare(queue, passive=True).method.consumer_count, 1)
    channel.queue_declare(queue, durable=True, arguments=arguments)

    with refused(connection, 406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue") as other:
        other.queue_declare(queue, arguments=arguments)
    with refused(connection, 406, "received '1000' but current is '60000'") as other:
        other.queue_declare(queue, durable=True, arguments=arguments | {"x-message-ttl": 1000})
    with refused(connection, 404, "NOT_FOUND - no queue") as other:
        other.queue_declare(unique_queue("missing"), passive=True)
    with refused(connection, 403, "ACCESS_REFUSED - queue name 'amq.compat' contains reserved prefix") as other:
        other.queue_declare("amq.compat")
    channel.queue_declare(queue, passive=True)  # This channel lives.


def server_named(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    equal(queue.startswith("amq.gen-"), True, queue)
    channel.basic_publish("", queue, b"hello")
    equal(bodies(drain(channel, queue)), ["hello"])


def exclusive(channel):
    queue = unique_queue("exclusive")
    owner = connect()
    owned = owner.channel()
    owned.queue_declare(queue, exclusive=True)
    channel.basic_publish("", queue, b"anybody may publish")  # Nobody else may do more than that.
    locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue"
    with refused(channel.connection, 405, locked) as other:
        other.queue_declare(queue, passive=True)
    with refused(channel.connection, 405, locked) as other:
        other.basic_consume(queue, lambda *_: None)
    with refused(channel.connection, 405, locked) as other:
        other.queue_purge(queue)
    equal(Inbox(owned, queue).next().body, b"anybody may publish")
    owner.close()
    with refused(channel.connection, 404, "NOT_FOUND - no queue") as other:
        other.queue_declare(queue, passive=True)


def going_away(channel):
    # An auto-delete queue goes with its last consumer.
    queue = unique_queue("auto-delete")
    channel.queue_declare(queue, auto_delete=True)
    inbox = Inbox(channel, queue)
    channel.basic_cancel(inbox.consumer_tag)
    with refused(channel.connection, 404, "NOT_FOUND - no queue") as other:
        other.queue_declare(queue, passive=True)

    # A queue that nobody uses expires.
    queue = unique_queue("expires")
    channel.queue_declare(queue, arguments={"x-expires": 200})
    channel.connection.sleep(1.5)
    with refused(channel.connection, 404, "NOT_FOUND - no queue") as other:
        other.queue_declare(queue, passive=True)


def deletion(channel):
    queue = unique_queue("deletion")
    channel.queue_declare(queue)
    channel.basic_publish("", queue, b"1")
    wait_for_ready(channel, queue, 1)
    with refused(channel.connection, 406, "not empty") as other:
        other.queue_delete(queue, if_empty=True)
    inbox = Inbox(channel, queue, auto_ack=True)
    inbox.next()
    with refused(channel.connection, 406, "in use") as other:
        other.queue_delete(queue, if_unused=True)
    channel.basic_cancel(inbox.consumer_tag)
    channel.basic_publish("", queue, b"2")
    equal(channel.queue_delete(queue, if_unused=True).method.message_count, 1)
    equal(channel.queue_delete(queue).method.message_count, 0, "it is gone already: fine")


def main():
    connection = connect()
    for flow in (declaring, server_named, exclusive, going_away, deletion):
        channel = connection.channel()
        flow(channel)
        channel.close()
    connection.close()


run(main)
