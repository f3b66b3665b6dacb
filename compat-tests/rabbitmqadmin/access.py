"""Vhosts, users, rights, policies, limits, parameters; and who may do what."""

from support import admin, eventually, expect, refused, row, rows

admin("declare", "vhost", "name=compat/shop")
try:
    admin("declare", "user", "name=compat-anna", "password=secret \u00fc", "tags=management")
    admin("declare", "user", "name=compat-mona", "password=m", "tags=monitoring,policymaker")
    admin("declare", "permission", "vhost=compat/shop", "user=compat-anna", "configure=^anna", "write=.*", "read=.*")
    expect(sorted(row(rows("list", "users"), "compat-mona")["tags"]), ["monitoring", "policymaker"])
    rights = [right for right in rows("list", "permissions") if right["user"] == "compat-anna"]
    expect(rights, [{"user": "compat-anna", "vhost": "compat/shop", "configure": "^anna", "write": ".*", "read": ".*"}])

    anna = {"user": "compat-anna", "password": "secret \u00fc", "vhost": "compat/shop"}
    admin("declare", "queue", "name=anna.queue", **anna)
    refused("Access refused", "declare", "queue", "name=other.queue", **anna)
    expect([queue["name"] for queue in rows("list", "queues", "name", **anna)], ["anna.queue"])
    expect([vhost["name"] for vhost in rows("list", "vhosts", "name", **anna)], ["compat/shop"], "anna's own vhosts")
    refused("Access refused", "list", "users", **anna)
    refused("Access refused", "list", "queues", user="compat-anna", password="wrong")
    mona = {"user": "compat-mona", "password": "m"}
    assert len(rows("list", "nodes", **mona)) == 1
    refused("Access refused", "declare", "vhost", "name=compat-mona", **mona)

    admin("declare", "policy", "name=compat-ttl", "pattern=^anna", 'definition={"message-ttl":1000,"max-length":3}',
          "priority=7", "apply-to=queues", vhost="compat/shop")
    policy = row(rows("list", "policies"), "compat-ttl")
    expect(policy, {"vhost": "compat/shop", "name": "compat-ttl", "pattern": "^anna", "apply-to": "queues",
                    "definition": {"message-ttl": 1000, "max-length": 3}, "priority": 7})
    eventually(lambda: rows("list", "queues", "name", "policy", **anna),
               [{"name": "anna.queue", "policy": "compat-ttl"}])
    admin("declare", "operator_policy", "name=compat-op", "pattern=.*", 'definition={"expires":3600000}',
          "apply-to=queues", vhost="compat/shop")
    expect(row(rows("list", "operator_policies"), "compat-op")["definition"], {"expires": 3600000})
    refused("Validation failed", "declare", "policy", "name=compat-bad", "pattern=.*", 'definition={"no-such-key":1}')

    admin("declare", "vhost_limit", "vhost=compat/shop", "name=max-queues", "value=1")
    expect([limit["value"] for limit in rows("list", "vhost_limits") if limit["vhost"] == "compat/shop"],
           [{"max-queues": 1}])
    refused("limit", "declare", "queue", "name=anna.second", **anna)
    admin("delete", "vhost_limit", "vhost=compat/shop", "name=max-queues")
    admin("declare", "queue", "name=anna.second", **anna)

    admin("delete", "policy", "name=compat-ttl", vhost="compat/shop")
    admin("delete", "operator_policy", "name=compat-op", vhost="compat/shop")
    admin("delete", "permission", "vhost=compat/shop", "user=compat-anna")
    refused("Access refused", "list", "queues", **anna)
finally:
    for user in ["compat-anna", "compat-mona"]:
        admin("delete", "user", f"name={user}")
    admin("delete", "vhost", "name=compat/shop")
expect([vhost for vhost in rows("list", "vhosts", "name") if vhost["name"].startswith("compat")], [])
