"""The node and its totals; every listing answers; columns and sorting."""

import os
import tempfile
import json

from support import admin, eventually, expect, row, rows

overview = rows("show", "overview")[0]
for key in ["rabbitmq_version", "cluster_name", "node", "object_totals", "queue_totals", "message_stats", "listeners",
            "exchange_types", "rates_mode", "management_version"]:
    assert key in overview, f"{key} is missing in {sorted(overview)}"
assert {listener["protocol"] for listener in overview["listeners"]} >= {"amqp", "http"}, overview["listeners"]
node = rows("list", "nodes")[0]
expect((node["running"], node["mem_alarm"], node["disk_free_alarm"], node["partitions"]), (True, False, False, []))
assert node["mem_used"] > 0 and node["fd_total"] >= node["fd_used"] > 0 and node["uptime"] > 0, node

for kind in ["users", "vhosts", "connections", "exchanges", "bindings", "permissions", "channels", "consumers",
             "queues", "policies", "operator_policies", "nodes", "parameters", "vhost_limits"]:
    assert isinstance(rows("list", kind), list), kind

for name in ["compat.b", "compat.a", "compat.c"]:
    admin("declare", "queue", f"name={name}")
try:
    listed = [r["name"] for r in rows("--sort", "name", "--sort-reverse", "list", "queues", "name")]
    expect([name for name in listed if name.startswith("compat.")], ["compat.c", "compat.b", "compat.a"])
    eventually(lambda: "| compat.a | 0" in admin("list", "queues", "name", "messages"), True, "a table")
    assert "compat.b\t0" in admin("--format", "tsv", "list", "queues", "name", "messages")

    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "definitions.json")
        admin("export", path)
        with open(path) as file:
            definitions = json.load(file)
        row(definitions["queues"], "compat.a")
        admin("delete", "queue", "name=compat.a")
        admin("import", path)
    row(rows("list", "queues", "name"), "compat.a")
finally:
    for name in ["compat.b", "compat.a", "compat.c"]:
        admin("delete", "queue", f"name={name}")
