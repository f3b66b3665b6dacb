"""Consumers: prefetch for a consumer and for a channel, settling, cancelling, get, purge, recover, and what is refused."""

from support import Inbox, bodies, connect, drain, equal, refused, run, unique_queue, wait_for_ready


def queue_with(channel, name, count):
    """A new queue that holds the numbers from 1 to count."""
    queue = unique_queue(name)
    channel.queue_declare(queue)
    for number in range(1, count + 1):
        channel.basic_publish("", queue, str(number))
    wait_for_ready(channel, queue, count)
    return queue


def prefetch_per_consumer(channel):
    queue = queue_with(channel, "prefetch", 10)
    channel.basic_qos(prefetch_count=2)
    first = Inbox(channel, queue)
    channel.basic_qos(prefetch_count=3)
    second = Inbox(channel, queue)  # The first one keeps its limit.
    early, others = first.take(2), second.take(3)
    wait_for_ready(channel, queue, 5)
    equal((bodies(early), bodies(others)), (["1", "2"], ["3", "4", "5"]))
    channel.basic_ack(early[1].tag)
    equal(first.next().body, b"6")
    channel.basic_ack(others[2].tag, multiple=True)  # All up to this one, of both consumers.
    first.next()
    second.take(3)
    wait_for_ready(channel, queue, 0)


def prefetch_per_channel(channel):
    queue = queue_with(channel, "prefetch-global", 6)
    shared = channel.connection.channel()
    shared.basic_qos(prefetch_count=3, global_qos=True)
    inboxes = [Inbox(shared, queue), Inbox(shared, queue)]
    wait_for_ready(channel, queue, 3)  # The two consumers share the limit.
    while sum(map(len, inboxes)) < 3:
        channel.connection.process_data_events(time_limit=1)
    inbox = max(inboxes, key=len)
    shared.basic_ack(inbox.next().tag)
    wait_for_ready(channel, queue, 2)
    shared.close()
    wait_for_ready(channel, queue, 5)  # What was not acknowledged is back.
    equal(len(drain(channel, queue)), 5)


def settling(channel):
    queue = queue_with(channel, "settling", 6)
    other = channel.connection.channel()
    inbox = Inbox(other, queue)
    messages = inbox.take(6)
    equal([message.tag for message in messages], [1, 2, 3, 4, 5, 6])
    other.basic_ack(messages[1].tag)  # In any order.
    other.basic_reject(messages[0].tag, requeue=False)
    other.basic_reject(messages[3].tag, requeue=True)
    again = inbox.next()
    equal((again.body, again.method.redelivered, again.tag), (b"4", True, 7))
    other.basic_nack(messages[4].tag, multiple=True, requeue=True)  # 3 and 5
    equal(bodies(inbox.take(2)), ["3", "5"])

    # What a channel leaves behind goes to its old place.
    other.close()
    wait_for_ready(channel, queue, 4)
    returned = drain(channel, queue)
    equal(bodies(returned), ["3", "4", "5", "6"])
    equal([message.method.redelivered for message in returned], [True] * 4)


def recovering(channel):
    queue = queue_with(channel, "recover", 3)
    inbox = Inbox(channel, queue)
    messages = inbox.take(3)
    channel.basic_ack(messages[1].tag)
    channel.basic_recover(requeue=True)
    again = inbox.take(2)
    equal([(message.body, message.method.redelivered) for message in again], [(b"1", True), (b"3", True)])


def generator(channel):
    """pika's own loop over a queue; cancelling it puts back what it had fetched in advance."""
    queue = queue_with(channel, "generator", 5)
    channel.basic_qos(prefetch_count=5)
    seen = []
    for method, _, body in channel.consume(queue):
        seen.append(body)
        channel.basic_ack(method.delivery_tag)
        if len(seen) == 2:
            break
    channel.cancel()
    equal(seen, [b"1", b"2"])
    wait_for_ready(channel, queue, 3)
    equal(bodies(drain(channel, queue)), ["3", "4", "5"])


def cancelling(channel):
    queue = queue_with(channel, "cancel", 1)
    inbox = Inbox(channel, queue, consumer_tag="chosen by the client")
    equal(inbox.consumer_tag, "chosen by the client")
    message = inbox.next()
    channel.basic_cancel(inbox.consumer_tag)
    channel.basic_publish("", queue, b"2")
    wait_for_ready(channel, queue, 1)
    channel.basic_ack(message.tag)  # What was delivered before can still be settled.
    equal(bodies(drain(channel, queue)), ["2"])

    # The queue goes: its consumer is told.
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    orphan = Inbox(channel, queue)
    channel.connection.channel().queue_delete(queue)
    while not cancelled:
        channel.connection.process_data_events(time_limit=1)
    equal(cancelled, [orphan.consumer_tag])


def getting(channel):
    queue = queue_with(channel, "get", 3)
    other = channel.connection.channel()
    method, _, body = other.basic_get(queue)
    equal((body, method.delivery_tag, method.redelivered, method.message_count), (b"1", 1, False, 2))
    equal((method.exchange, method.routing_key), ("", queue))
    second, _, body = other.basic_get(queue, auto_ack=True)
    equal((body, second.message_count), (b"2", 1))
    other.basic_nack(method.delivery_tag, requeue=True)
    again, _, body = other.basic_get(queue)
    equal((body, again.redelivered), (b"1", True))
    equal(channel.queue_purge(queue).method.message_count, 1)
    equal(other.basic_get(queue), (None, None, None))
    other.close()
    wait_for_ready(channel, queue, 1)  # What was not acknowledged is back.


def refusals(channel):
    connection = channel.connection
    queue, missing = queue_with(channel, "refusals", 1), unique_queue("missing")
    with refused(connection, 404, "NOT_FOUND - no queue") as other:
        other.basic_consume(missing, lambda *_: None)
    with refused(connection, 404, "NOT_FOUND - no queue") as other:
        other.basic_get(missing)
    with refused(connection, 406, "PRECONDITION_FAILED - unknown delivery tag 17") as other:
        other.basic_ack(17)
        other.queue_declare(queue, passive=True)  # An acknowledgement has no reply, so the next method tells.
    alone = channel.basic_consume(queue, lambda *_: None, exclusive=True)
    with refused(connection, 403, "in exclusive use") as other:
        other.basic_consume(queue, lambda *_: None)
    channel.basic_cancel(alone)


def main():
    connection = connect()
    for flow in (
        prefetch_per_consumer,
        prefetch_per_channel,
        settling,
        recovering,
        generator,
        cancelling,
        getting,
        refusals,
    ):
        channel = connection.channel()
        flow(channel)
        channel.close()
    connection.close()


run(main)
