"""Exchanges, queues and bindings: declared, listed, refused, deleted."""

from support import admin, expect, refused, row, rows

admin("declare", "exchange", "name=compat.events", "type=topic", "durable=true")
admin("declare", "exchange", "name=compat.copy", "type=fanout", "durable=false", "auto_delete=false")
admin("declare", "queue", "name=compat.orders", "durable=true",
      'arguments={"x-max-length":5,"x-dead-letter-exchange":"compat.copy","x-message-ttl":60000}')
admin("declare", "queue", "name=compat.quorum", "durable=true", "queue_type=quorum")
admin("declare", "binding", "source=compat.events", "destination=compat.orders", "destination_type=queue",
      "routing_key=order.*", 'arguments={"x-note":"a \u00fc/%"}')
admin("declare", "binding", "source=compat.events", "destination=compat.copy", "destination_type=exchange",
      "routing_key=#")

exchange = row(rows("list", "exchanges", "name", "type", "durable", "auto_delete", "internal"), "compat.events")
expect(exchange, {"name": "compat.events", "type": "topic", "durable": True, "auto_delete": False, "internal": False})
queue = row(rows("list", "queues", "name", "durable", "arguments", "type", "vhost", "state", "messages"), "compat.orders")
expect(queue["arguments"],
       {"x-max-length": 5, "x-dead-letter-exchange": "compat.copy", "x-message-ttl": 60000}, "numbers stay numbers")
expect((queue["type"], queue["vhost"], queue["state"]), ("classic", "/", "running"))
expect(row(rows("list", "queues", "name", "type"), "compat.quorum")["type"], "quorum")

bindings = [binding for binding in rows("list", "bindings") if binding["source"] == "compat.events"]
expect(sorted((binding["destination_type"], binding["routing_key"]) for binding in bindings),
       [("exchange", "#"), ("queue", "order.*")])
to_queue = next(binding for binding in bindings if binding["destination_type"] == "queue")
expect(to_queue["arguments"], {"x-note": "a \u00fc/%"})
assert to_queue["properties_key"].startswith("order.%2A~") or to_queue["properties_key"].startswith("order.*~"), to_queue

refused("inequivalent arg", "declare", "queue", "name=compat.orders", "durable=true")
refused("unknown exchange type", "declare", "exchange", "name=compat.none", "type=no-such-type")
refused("Not found", "delete", "queue", "name=compat.absent")

admin("delete", "binding", "source=compat.events", "destination_type=queue", "destination=compat.orders",
      f"properties_key={to_queue['properties_key']}")
expect([b["destination"] for b in rows("list", "bindings") if b["source"] == "compat.events"], ["compat.copy"])
for kind, name in [("queue", "compat.orders"), ("queue", "compat.quorum"), ("exchange", "compat.events"),
                   ("exchange", "compat.copy")]:
    admin("delete", kind, f"name={name}")
    expect([r for r in rows("list", f"{kind}s", "name") if r["name"] == name], [], f"{kind} {name} is gone")
