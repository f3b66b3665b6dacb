#!/usr/bin/env python3
"""Fills a fresh broker with a little of everything that a store can hold.

    leveret server --listen 127.0.0.1:PORT --management-listen none --prometheus-listen none --data-dir DIR &
    fill.py PORT LEVERET DIR/control.sock

Needs pika. Once it says "ready", stop the broker (or kill it) while this still holds deliveries that it does not ack, then
end this. `gzip -9` of `DIR/leveret.redb` is `format-N-clean.redb.gz` or `format-N-killed.redb.gz`, that of
`DIR/leveret.journal` `format-N-killed.journal.gz`; what must be found in it
stands in the text file of that name, which `LEVERET_WRITE_EXPECTED=1 cargo test --test stores` writes: read it.
"""
import subprocess
import sys
import time

import pika

PORT, LEVERET, SOCKET = int(sys.argv[1]), sys.argv[2], sys.argv[3]
FAR = 9 * 365 * 24 * 3600 * 1000


def ctl(*arguments):
    subprocess.run([LEVERET, "ctl", "-q", *arguments], check=True, env={"LEVERET_CONTROL_SOCKET": SOCKET})


def persistent(**more):
    return pika.BasicProperties(delivery_mode=2, **more)


ctl("await_startup")
ctl("add_vhost", "orders")
ctl("add_user", "alice", "a secret")
ctl("set_user_tags", "alice", "monitoring")
ctl("set_permissions", "-p", "orders", "alice", "^a", ".*", "b$")
ctl("set_topic_permissions", "-p", "orders", "alice", "topics", "^a", ".*")
ctl("set_policy", "-p", "orders", "long", "^classic", '{"max-length":100000}', "--priority", "7", "--apply-to", "queues")
ctl("set_operator_policy", "-p", "orders", "cap", ".*", '{"max-length-bytes":100000000}', "--apply-to", "queues")
ctl("set_vhost_limits", "-p", "orders", '{"max-queues":100}')
ctl("set_global_parameter", "cluster_name", '"fixture"')

parameters = pika.ConnectionParameters("127.0.0.1", PORT, "/", pika.PlainCredentials("guest", "guest"))
ctl("set_permissions", "-p", "orders", "guest", ".*", ".*", ".*")
parameters.virtual_host = "orders"
connection = pika.BlockingConnection(parameters)
channel = connection.channel()
channel.confirm_delivery()

channel.exchange_declare("direct", "direct", durable=True)
channel.exchange_declare("topics", "topic", durable=True, arguments={"alternate-exchange": "direct"})
channel.exchange_declare("inner", "fanout", durable=True, internal=True, auto_delete=True)
channel.exchange_declare("headers", "headers", durable=True)
channel.exchange_declare("later", "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
channel.queue_declare("classic", durable=True)
channel.queue_declare("priorities", durable=True, arguments={"x-max-priority": 3})
channel.queue_declare("quorum", durable=True, arguments={"x-queue-type": "quorum"})
channel.queue_declare("stream", durable=True, arguments={"x-queue-type": "stream"})
channel.queue_declare("large", durable=True)
channel.queue_declare("expiring", durable=True)
channel.queue_declare("empty", durable=True, arguments={"x-expires": 4294967295, "x-dead-letter-exchange": "direct"})
channel.queue_bind("classic", "direct", "c")
channel.queue_bind("classic", "topics", "a.#", arguments={"note": "kept"})
channel.queue_bind("priorities", "headers", "", arguments={"x-match": "all", "kind": 5})
channel.queue_bind("classic", "later", "c")
channel.exchange_bind("inner", "topics", "b.*")

for nth in range(10):
    channel.basic_publish("direct", "c", b"classic %d" % nth, persistent(content_type="text/plain", headers={"nth": nth}))
for nth in range(8):
    channel.basic_publish("", "priorities", b"priorities %d" % nth, persistent(priority=nth % 4))
for nth in range(5):
    channel.basic_publish("", "quorum", b"quorum %d" % nth, persistent())
for nth in range(20):
    channel.basic_publish("", "stream", b"stream %d" % nth, persistent())
channel.basic_publish("", "large", b"x" * 100_000, persistent())
channel.basic_publish("", "large", b"large 1", persistent())
channel.basic_publish("", "expiring", b"expiring 0", persistent(expiration="4294967295"))
channel.basic_publish("later", "c", b"later 0", persistent(headers={"x-delay": FAR}))

# Seven are delivered, four of them acked: from the front, and out of order.
tags = [channel.basic_get("classic")[0].delivery_tag for _ in range(7)]
for nth in (0, 1, 3, 5):
    channel.basic_ack(tags[nth])
# The second comes back twice, which a quorum queue counts.
first = channel.basic_get("quorum")[0].delivery_tag
for _ in range(2):
    channel.basic_nack(channel.basic_get("quorum")[0].delivery_tag, requeue=True)
channel.basic_ack(first)
# Everything of before is on disk when this is confirmed.
channel.basic_publish("", "large", b"large 2", persistent())
time.sleep(0.3)
print("ready", flush=True)
sys.stdin.read()
