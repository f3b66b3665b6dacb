"""Calls rabbitmqadmin, the Python script that comes with RabbitMQ's management plugin, as a user would."""

import json
import os
import subprocess
import sys
import time
import urllib.parse

TOOL = os.environ.get("RABBITMQADMIN", "rabbitmqadmin")
URL = urllib.parse.urlsplit(os.environ.get("MANAGEMENT_URL", "http://guest:guest@localhost:15672"))


class Failed(Exception):
    """The tool ended with a status other than 0; its text says why."""


def admin(*arguments, user=None, password=None, vhost=None, input=None):
    """Runs the tool and returns what it prints."""
    command = [sys.executable, TOOL, "--host", URL.hostname, "--port", str(URL.port)]
    command += ["--username", user or URL.username, "--password", password or URL.password]
    if vhost is not None:
        command += ["--vhost", vhost]
    done = subprocess.run(command + list(arguments), capture_output=True, text=True, timeout=30, input=input)
    if done.returncode != 0:
        raise Failed((done.stdout + done.stderr).strip())
    return done.stdout.strip()


def rows(*arguments, **options):
    """What a listing has, as dictionaries."""
    return json.loads(admin("--format", "raw_json", *arguments, **options))


def row(rows, name):
    """The one with this name."""
    found = [row for row in rows if row["name"] == name]
    assert len(found) == 1, f"{name}: {found}"
    return found[0]


def expect(found, expected, what=""):
    assert found == expected, f"{what}: expected {expected!r}, found {found!r}"


def refused(text, *arguments, **options):
    """The tool fails, and says something with this text, as RabbitMQ 3 or 4 writes it: NOT_FOUND or Not found."""
    try:
        done = admin(*arguments, **options)
    except Failed as failed:
        assert text.lower() in str(failed).lower().replace("_", " "), f"expected {text!r} in {failed}"
    else:
        raise AssertionError(f"{arguments} should fail with {text!r}, and says {done!r}")


def eventually(found, expected, what=""):
    """RabbitMQ shows some figures only after its next look, five seconds later at most."""
    last = None
    for _ in range(100):
        last = found()
        if last == expected:
            return
        time.sleep(0.1)
    expect(last, expected, what)
