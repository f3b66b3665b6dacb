"""Messages: published, looked at, taken, purged."""

import base64
import json

from support import admin, expect, refused, rows

admin("declare", "queue", "name=compat.messages", "durable=true")
try:
    said = admin("publish", "exchange=amq.default", "routing_key=compat.messages", "payload=first \u00fc",
                 'properties={"delivery_mode":2,"content_type":"text/plain","priority":3,"headers":{"n":7,"ok":true}}')
    expect(said, "Message published")
    admin("publish", "routing_key=compat.messages", input="from standard input")
    octets = base64.b64encode(bytes(range(256))).decode()
    admin("publish", "routing_key=compat.messages", f"payload={octets}", "payload_encoding=base64")
    said = admin("publish", "routing_key=compat.nowhere", "payload=x")
    expect(said, "Message published but NOT routed")

    first = json.loads(admin("--format", "raw_json", "get", "queue=compat.messages"))[0]
    expect((first["payload"], first["payload_bytes"], first["redelivered"], first["message_count"]),
           ("first \u00fc", 8, False, 2))
    expect(first["properties"], {"delivery_mode": 2, "content_type": "text/plain", "priority": 3,
                                 "headers": {"n": 7, "ok": True}})
    expect((first["exchange"], first["routing_key"], first["payload_encoding"]), ("", "compat.messages", "string"))

    taken = json.loads(admin("--format", "raw_json", "get", "queue=compat.messages", "count=3",
                             "ackmode=ack_requeue_false"))
    expect([message["redelivered"] for message in taken], [True, False, False], "the first was looked at before")
    expect(taken[1]["payload"], "from standard input")
    expect((taken[2]["payload_encoding"], taken[2]["payload"]), ("base64", octets))
    expect(json.loads(admin("--format", "raw_json", "get", "queue=compat.messages")), [])

    for number in range(10):
        admin("publish", "routing_key=compat.messages", f"payload={number}")
    cut = json.loads(admin("--format", "raw_json", "get", "queue=compat.messages", "count=1",
                           "ackmode=reject_requeue_true"))
    expect(cut[0]["payload"], "0")
    admin("purge", "queue", "name=compat.messages")
    expect(json.loads(admin("--format", "raw_json", "get", "queue=compat.messages", "count=5")), [])
    refused("not found", "get", "queue=compat.absent")
    refused("not found", "publish", "exchange=compat.absent", "routing_key=x", "payload=x")
finally:
    admin("delete", "queue", "name=compat.messages")
expect([r for r in rows("list", "queues", "name") if r["name"] == "compat.messages"], [])
