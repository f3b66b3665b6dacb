"""kombu's ConsumerMixin and retrying producers over a restart of the broker, and connections blocked by the memory alarm."""

import os
import subprocess
import threading
import time

import kombu
from kombu.mixins import ConsumerProducerMixin

from support import URL, can_restart_broker, equal, restart_broker, run, unique_exchange, unique_queue, wait_until


class Service(ConsumerProducerMixin):
    """Answers each request, as a user would write it with kombu's mixin, and reconnects by itself."""

    def __init__(self, connection, queue):
        self.connection, self.queue = connection, queue
        self.seen, self.errors = [], []

    def get_consumers(self, consumer_class, channel):
        return [consumer_class([self.queue], callbacks=[self.on_request], prefetch_count=1)]

    def on_request(self, body, message):
        self.seen.append(body)
        message.ack()

    def on_connection_error(self, error, interval):
        self.errors.append(error)
        super().on_connection_error(error, interval)


def ctl(*command):
    subprocess.run([*os.environ["BROKER_CTL"].split(), *command], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def restarting():
    queue = kombu.Queue(unique_queue("mixin"), kombu.Exchange(unique_exchange("mixin"), "topic"), routing_key="job.#")
    service = Service(kombu.Connection(URL), queue)
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    policy = {"max_retries": 60, "interval_start": 0.2, "interval_step": 0.1, "interval_max": 0.5}
    options = {"confirm_publish": True}
    with kombu.Connection(URL, transport_options=options) as connection:
        producer = connection.Producer()
        publish = lambda body: producer.publish(body, exchange=queue.exchange, routing_key="job.any", declare=[queue], retry=True, retry_policy=policy)
        for number in range(10):
            publish(number)
        wait_until("the first jobs", lambda: len(service.seen) == 10)
        restart_broker()
        for number in range(10, 20):
            publish(number)
        # What is sent again may come twice.
        wait_until("the jobs after the restart", lambda: set(service.seen) == set(range(20)), 40)
    service.should_stop = True
    thread.join(10)


def blocked():
    """The broker tells who publishes that it is short of memory, takes no more until it has enough again, and says so."""
    queue = unique_queue("blocked")
    told = []
    options = {"on_blocked": lambda reason: told.append(reason), "on_unblocked": lambda: told.append(None)}
    with kombu.Connection(URL, transport_options=options) as connection:
        kombu.Queue(queue, channel=connection.channel()).declare()
        ctl("set_vm_memory_high_watermark", "absolute", "1000000")
        try:
            connection.Producer().publish("held back", routing_key=queue)
            while not told:
                connection.drain_events(timeout=20)
            equal(isinstance(told[0], str), True, told)  # A text of the client, not the reason that the broker gives.
            with kombu.Connection(URL) as other:
                equal(kombu.Queue(queue, channel=other.channel()).get(), None, "who publishes nothing is not blocked")
        finally:
            ctl("set_vm_memory_high_watermark", "0.6")
        while len(told) < 2:
            connection.drain_events(timeout=20)
        equal(told[1], None)
        found = []
        got = kombu.Queue(queue, channel=connection.channel())
        wait_until("the message", lambda: found.append(got.get(no_ack=True)) or found[-1])
        equal(found[-1].payload, "held back")


def main():
    if not can_restart_broker() or "BROKER_CTL" not in os.environ:
        print("this broker cannot be restarted or short of memory from here")
        return
    for flow in (blocked, restarting):
        started = time.monotonic()
        flow()
        print(f"{flow.__name__}: {time.monotonic() - started:.1f} s")


run(main)
