"""Quorum queues: Celery finds out by itself, prefetches for each consumer, and delays with its exchanges and queues for that."""

import os
import time

os.environ["COMPAT_CELERY_QUORUM"] = "1"

import kombu
from celery import chord  # The queues' type is chosen before the application is made.

from support import URL, Worker, application, equal, notes, run, wait_until

LEVELS = 28


def delete_delayed_delivery():
    """What Celery keeps of its delayed delivery is for the whole vhost, and stays."""
    with kombu.Connection(URL) as connection:
        channel = connection.channel()
        channel.exchange_delete("celery_delayed_delivery")
        for level in range(LEVELS):
            channel.queue_delete(f"celery_delayed_{level}")
            channel.exchange_delete(f"celery_delayed_{level}")


def main():
    tasks = application()
    worker = Worker("-Q", tasks.PREFIX)
    worker.wait_until_ready()
    try:
        equal(tasks.app.control.inspect(timeout=1).stats()[worker.name]["prefetch_count"] > 0, True)
        equal(tasks.add.delay(2, 3).get(timeout=20), 5)
        many = [tasks.add.delay(number, 1) for number in range(50)]
        equal([result.get(timeout=20) for result in many], list(range(1, 51)))
        equal(chord(tasks.add.s(number, 1) for number in range(5))(tasks.total.s()).get(timeout=20), 15)

        # 5 s: through the levels of 4 s and of 1 s.
        began = time.time()
        waited = tasks.when.apply_async(countdown=5).get(timeout=20) - began
        equal(4 < waited < 10, True, f"done after {waited} s")
        equal(tasks.unsteady.delay(1).get(timeout=20), 1)
        equal(tasks.killed_once.delay().get(timeout=20), True, "redelivered")
        wait_until("both deliveries", lambda: "killed_once True" in notes())
        worker.stop()
    finally:
        worker.kill()
        delete_delayed_delivery()


run(main)
