"""kombu: connecting with its options, topology, confirms and returns, consumers, dead letters, time to live, priorities."""

import datetime
import decimal
import os
import random
import socket
import ssl
import time
from queue import Empty

import amqp
import kombu
from kombu.common import Broadcast, maybe_declare
from kombu.pools import connections, producers

from support import URL, equal, run, unique_exchange, unique_queue, wait_until

LARGE = int(os.environ.get("COMPAT_LARGE_BYTES", 64 << 20))


class Inbox:
    """A consumer of queues: the messages it was given, in order."""

    def __init__(self, channel, queues, **options):
        self.messages = []
        self._connection = channel.connection.client
        self.consumer = kombu.Consumer(channel, queues, callbacks=[lambda body, message: self.messages.append((body, message))], **options)
        self.consumer.consume()

    def next(self):
        while not self.messages:
            self._connection.drain_events(timeout=20)
        return self.messages.pop(0)

    def take(self, count):
        return [self.next() for _ in range(count)]


def refused(kind, text, action):
    try:
        action()
    except kind as error:
        equal(text in str(error), True, error)
    else:
        raise AssertionError(f"expected {text}, but the broker agreed")


def fetch(queue, **options):
    """The queue's next message. A broker may answer before it has worked off what was published without a confirm."""
    found = []
    wait_until("a message", lambda: found.append(queue.get(no_ack=True, **options)) or found[-1])
    return found[-1]


def connecting(_):
    refused(amqp.AccessRefused, "ACCESS_REFUSED - Login was refused", kombu.Connection(URL, password="not the password").connect)
    refused(amqp.NotAllowed, "vhost no-such-vhost not found", kombu.Connection(URL, virtual_host="no-such-vhost").connect)
    refused(ConnectionError, "refused", kombu.Connection("amqp://127.0.0.1:1", connect_timeout=2).connect)
    options = {"client_properties": {"connection_name": "compat"}, "read_timeout": 20, "write_timeout": 20, "socket_settings": {socket.TCP_NODELAY: 1}}
    for login_method in ("PLAIN", "AMQPLAIN"):
        with kombu.Connection(URL, login_method=login_method, transport_options=options, connect_timeout=5) as connection:
            connection.connect()
            equal(connection.connected, True)
            server = connection.connection.server_properties
            equal(server["capabilities"]["publisher_confirms"], True)
    # The first address does not answer: on to the next.
    with kombu.Connection(["amqp://127.0.0.1:1", URL], failover_strategy="round-robin") as connection:
        connection.ensure_connection(max_retries=3, interval_start=0)
        equal(connection.connected, True)
    pool = connections[kombu.Connection(URL)]
    with pool.acquire(block=True) as one, pool.acquire(block=True) as other:
        equal(one is other, False)
    pool.force_close_all()


def tls(_):
    directory, url = os.environ.get("AMQP_TLS_DIR"), os.environ.get("AMQPS_URL")
    if url is None:
        print("this broker has no TLS listener to test")
        return
    options = {"ca_certs": f"{directory}/ca.pem", "cert_reqs": ssl.CERT_REQUIRED}
    own = {"certfile": f"{directory}/guest.pem", "keyfile": f"{directory}/guest.key"}
    address = url.replace("amqps://", "amqp://")
    for more, login_method in (({}, "PLAIN"), (own, "EXTERNAL")):
        with kombu.Connection(address, ssl=options | more, login_method=login_method) as connection:
            name = unique_queue("tls")
            queue = kombu.Queue(name, channel=connection.channel())
            queue.declare()
            connection.Producer().publish({"over": "TLS"}, routing_key=name)
            equal(fetch(queue).payload, {"over": "TLS"})


def heartbeats(_):
    with kombu.Connection(URL, heartbeat=2) as connection:
        connection.connect()
        equal(connection.get_heartbeat_interval(), 2)
        equal(connection.supports_heartbeats, True)
        for _ in range(10):  # Either side would have given up by then without the other's heartbeats.
            time.sleep(0.5)
            connection.heartbeat_check(rate=4)
            try:
                connection.drain_events(timeout=0.01)
            except socket.timeout:
                pass
        connection.channel().close()


def topology(connection):
    channel = connection.channel()
    exchanges = {kind: kombu.Exchange(unique_exchange(kind), kind, durable=True) for kind in ("direct", "topic", "fanout", "headers")}
    names = {kind: unique_queue(kind) for kind in exchanges}
    bindings = {"direct": ("key", None), "topic": ("a.*.#", None), "fanout": ("", None), "headers": ("", {"x-match": "all", "type": "report"})}
    queues = {}
    for kind, (key, arguments) in bindings.items():
        queues[kind] = kombu.Queue(names[kind], exchanges[kind], routing_key=key, binding_arguments=arguments, channel=channel)
        maybe_declare(queues[kind], channel)
    producer = connection.Producer()
    for kind, right, wrong in (("direct", "key", "other"), ("topic", "a.b.c.d", "b.a")):
        for key in (right, wrong):
            producer.publish(key, exchange=exchanges[kind], routing_key=key)
        equal(fetch(queues[kind]).payload, right)
        equal(queues[kind].get(no_ack=True), None)
    producer.publish("all", exchange=exchanges["fanout"])
    equal(fetch(queues["fanout"]).payload, "all")
    for name in ("report", "note"):
        producer.publish(name, exchange=exchanges["headers"], headers={"type": name})
    equal(fetch(queues["headers"]).payload, "report")
    equal(queues["headers"].get(no_ack=True), None)

    # An exchange bound to another one, and without the binding again.
    exchanges["fanout"](channel).bind_to(exchanges["direct"], routing_key="both")
    producer.publish("both", exchange=exchanges["direct"], routing_key="both")
    equal(fetch(queues["fanout"]).payload, "both")
    exchanges["fanout"](channel).unbind_from(exchanges["direct"], routing_key="both")
    producer.publish("both", exchange=exchanges["direct"], routing_key="both")
    equal(queues["fanout"].get(no_ack=True), None)

    queue = kombu.Queue(unique_queue("arguments"), durable=True, expires=60, message_ttl=30, max_length=10, max_length_bytes=10_000, channel=channel)
    queue.declare()
    again = kombu.Queue(queue.name, durable=True, expires=60, message_ttl=31, max_length=10, max_length_bytes=10_000)
    refused(amqp.PreconditionFailed, "inequivalent arg 'x-message-ttl'", lambda: again(connection.channel()).declare())
    passive = kombu.Queue(unique_queue("missing"), channel=connection.channel())
    refused(amqp.NotFound, "no queue", lambda: passive.queue_declare(passive=True))
    for _ in range(12):
        producer.publish("x", routing_key=queue.name)
    wait_until("the queue is as long as it may be", lambda: queue(connection.channel()).queue_declare(passive=True).message_count == 10)
    equal(queue.purge(), 10)
    equal(queue.delete(if_unused=True, if_empty=True), 0)


def publishing(connection):
    channel = connection.channel()
    queue = kombu.Queue(unique_queue("publish"), channel=channel)
    queue.declare()
    with kombu.Connection(URL, transport_options={"confirm_publish": True}) as confirming:
        producer = confirming.Producer()
        for number in range(500):
            producer.publish(number, routing_key=queue.name)
        equal(queue.queue_declare(passive=True).message_count, 500, "what is confirmed is in the queue")
        equal([queue.get(no_ack=True).payload for _ in range(500)], list(range(500)))

        returned = []
        producer = confirming.Producer(on_return=lambda error, exchange, key, message: returned.append((error, exchange, key, message)))
        producer.publish("lost", routing_key=unique_queue("nowhere"), mandatory=True)
        wait_until("the return", lambda: returned)
        equal((returned[0][0].reply_code, returned[0][0].reply_text), (312, "NO_ROUTE"))

        full = kombu.Queue(unique_queue("full"), queue_arguments={"x-max-length": 1, "x-overflow": "reject-publish"}, channel=channel)
        full.declare()
        producer.publish("1", routing_key=full.name)
        refused(amqp.exceptions.MessageNacked, "", lambda: producer.publish("2", routing_key=full.name))

    # From a pool, with retries and a declaration on the way.
    with producers[connection].acquire(block=True) as pooled:
        fresh = kombu.Queue(unique_queue("fresh"), kombu.Exchange(unique_exchange("fresh"), "topic"), routing_key="#")
        pooled.publish({"retry": True}, exchange=fresh.exchange, routing_key="any", declare=[fresh], retry=True, retry_policy={"max_retries": 3})
    equal(fetch(fresh(connection.channel())).payload, {"retry": True})

    for serializer, compression in (("json", None), ("pickle", "zlib"), ("json", "bzip2"), ("raw", None)):
        body = b"raw octets \xff" if serializer == "raw" else {"list": [1, 2.5, None, "ü"]}
        connection.Producer().publish(body, routing_key=queue.name, serializer=serializer if serializer != "raw" else None, compression=compression)
        message = fetch(kombu.Queue(queue.name, channel=channel), accept=["json", "pickle"])
        equal(message.body if serializer == "raw" else message.payload, body, serializer)


def contents(connection):
    channel = connection.channel()
    queue = kombu.Queue(unique_queue("contents"), channel=channel)
    queue.declare()
    producer = connection.Producer()
    for size in (0, 1, 131_063, 131_064, 131_065, 1 << 20, LARGE):
        body = random.randbytes(size)
        producer.publish(body, routing_key=queue.name)
        message = fetch(queue)
        equal((message.body or b"") == body, True, f"{size} octets come out as they went in")
    sent = {
        "string": "Häsin 兎",
        "empty": "",
        "long": "x" * 10_000,
        "true": True,
        "false": False,
        "int": 2**31 - 1,
        "long int": -(2**63),
        "float": 0.1,
        "decimal": decimal.Decimal("123.45"),
        "timestamp": datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc),
        "void": None,
        "list": ["a", 1, True, None, [2, [3]], {"deep": ["er"]}],
        "table": {"a": {"b": {"c": 1}}},
        "empty table": {},
    }
    producer.publish("x", routing_key=queue.name, headers=sent)
    received = fetch(queue).headers
    died = received["timestamp"]
    received["timestamp"] = died.replace(tzinfo=datetime.timezone.utc) if died.tzinfo is None else died
    equal(received, sent)
    properties = {"correlation_id": "c", "reply_to": "r", "message_id": "m", "type": "t", "app_id": "a", "user_id": kombu.Connection(URL).userid or "guest", "expiration": 600, "priority": 7, "timestamp": 1_700_000_000}
    producer.publish("x", routing_key=queue.name, delivery_mode="transient", **properties)
    message = fetch(queue)
    expected = properties | {"expiration": "600000", "delivery_mode": 1}
    equal({name: message.properties.get(name) for name in expected}, expected)


def consuming(connection):
    queue = kombu.Queue(unique_queue("consume"))
    queue(connection.channel()).declare()
    producer = connection.Producer()
    for number in range(6):
        producer.publish(number, routing_key=queue.name)
    channel = connection.channel()
    inbox = Inbox(channel, [queue], prefetch_count=3)
    taken = inbox.take(3)
    try:
        connection.drain_events(timeout=0.3)
    except socket.timeout:
        pass
    equal((len(inbox.messages), [body for body, _ in taken]), (0, [0, 1, 2]))
    taken[0][1].ack()
    taken[1][1].reject()
    taken[2][1].requeue()
    rest = inbox.take(3)
    equal([(body, message.delivery_info["redelivered"]) for body, message in rest], [(3, False), (4, False), (2, True)])
    inbox.consumer.qos(prefetch_count=10)
    rest[-1][1].ack(multiple=True)
    inbox.next()[1].ack()
    inbox.consumer.recover(requeue=True)
    inbox.consumer.cancel()
    equal(queue(connection.channel()).queue_declare(passive=True).message_count, 0)

    # The queue goes: its consumer is told.
    cancelled = []
    other = connection.channel()
    tag = other.basic_consume(queue.name, callback=lambda message: None, on_cancel=cancelled.append)
    connection.channel().queue_delete(queue.name)
    wait_until("the cancel", lambda: cancelled or drain(connection))
    equal(cancelled, [tag if isinstance(tag, str) else tag.consumer_tag])

    queue = kombu.Queue(unique_queue("exclusive"))
    queue(connection.channel()).declare()
    connection.channel().basic_consume(queue.name, exclusive=True)
    refused(amqp.AccessRefused, "exclusive use", lambda: connection.channel().basic_consume(queue.name))


def drain(connection):
    try:
        connection.drain_events(timeout=0.1)
    except socket.timeout:
        pass


def dead_letters(connection):
    channel = connection.channel()
    dead = kombu.Queue(unique_queue("dead"), kombu.Exchange(unique_exchange("dead"), "fanout"), channel=channel)
    dead.declare()
    to_dead = {"x-dead-letter-exchange": dead.exchange.name, "x-dead-letter-routing-key": "died"}
    short = kombu.Queue(unique_queue("short"), message_ttl=0.1, queue_arguments=to_dead, channel=channel)
    work = kombu.Queue(unique_queue("work"), queue_arguments=to_dead, channel=channel)
    short.declare()
    work.declare()
    producer = connection.Producer()

    def letter():
        found = []
        wait_until("the dead letter", lambda: found.append(dead.get(no_ack=True)) or found[-1])
        death = found[-1].headers["x-death"][0]
        return found[-1].payload, found[-1].delivery_info["routing_key"], death["reason"], death["queue"], death["count"]

    producer.publish("by the queue", routing_key=short.name)
    equal(letter(), ("by the queue", "died", "expired", short.name, 1))
    producer.publish("by itself", routing_key=work.name, expiration=0.1)
    equal(letter(), ("by itself", "died", "expired", work.name, 1))
    producer.publish("rejected", routing_key=work.name)
    wait_until("the job", lambda: (message := work.get()) and (message.reject() or True))
    equal(letter(), ("rejected", "died", "rejected", work.name, 1))

    ordered = kombu.Queue(unique_queue("ordered"), max_priority=5, channel=channel)
    ordered.declare()
    for number, priority in enumerate((0, 5, 2, 5, 1)):
        producer.publish(number, routing_key=ordered.name, priority=priority)
    wait_until("all are there", lambda: ordered.queue_declare(passive=True).message_count == 5)
    equal([ordered.get(no_ack=True).payload for _ in range(5)], [1, 3, 2, 4, 0])


def requests(connection):
    """RPC with direct reply-to, and kombu's SimpleQueue and Broadcast."""
    server = connection.channel()
    jobs = kombu.Queue(unique_queue("jobs"))
    jobs(server).declare()
    producer = kombu.Producer(server)

    def serve(body, message):
        producer.publish(body * 2, routing_key=message.properties["reply_to"], correlation_id=message.properties["correlation_id"])
        message.ack()

    kombu.Consumer(server, [jobs], callbacks=[serve]).consume()
    client = connection.channel()
    answers = Inbox(client, [kombu.Queue("amq.rabbitmq.reply-to", no_declare=True, no_ack=True)], no_ack=True)
    for number in range(20):
        kombu.Producer(client).publish(number, routing_key=jobs.name, reply_to="amq.rabbitmq.reply-to", correlation_id=str(number))
        body, message = answers.next()
        equal((body, message.properties["correlation_id"]), (number * 2, str(number)))

    simple = connection.SimpleQueue(unique_queue("simple"))
    unique_exchange("simple")  # It has an exchange of the same name.
    simple.put({"simple": True}, serializer="json", compression="zlib")
    message = simple.get(block=True, timeout=10)
    equal(message.payload, {"simple": True})
    message.ack()
    try:
        simple.get(block=False)
    except Empty:
        pass
    else:
        raise AssertionError("the queue had one message")
    simple.close()

    name = unique_exchange("broadcast")
    inboxes = [Inbox(connection.channel(), [Broadcast(name=name, queue=unique_queue(f"broadcast-{number}"), exchange=kombu.Exchange(name, "fanout"))]) for number in range(3)]
    connection.Producer().publish("to all", exchange=name)
    equal([inbox.next()[0] for inbox in inboxes], ["to all"] * 3)


def main():
    for flow in (connecting, tls, heartbeats, topology, publishing, contents, consuming, dead_letters, requests):
        started = time.monotonic()
        with kombu.Connection(URL) as connection:
            flow(connection)
        print(f"{flow.__name__}: {time.monotonic() - started:.1f} s")


run(main)
