"""A Celery application and its worker: results, chains, groups, chords, delays, retries, late acks, rejects, priorities."""

import datetime
import time

from celery import chain, chord, group
from celery.result import allow_join_result

from support import Worker, application, equal, notes, run, unique_queue, wait_until

PATIENCE = 20


def get(result):
    with allow_join_result():
        return result.get(timeout=PATIENCE, interval=0.05)


def results(tasks):
    equal(get(tasks.add.delay(2, 3)), 5)
    for value in ({"nested": [1, None, "ü", {"deep": True}]}, "", [], None):
        equal(get(tasks.echo.delay(value)), value)
    failed = tasks.fail.delay("on purpose")
    try:
        get(failed)
    except ValueError as error:
        equal(str(error), "on purpose")
    else:
        raise AssertionError("the task's exception was lost")
    equal(failed.state, "FAILURE")
    equal(get(tasks.size.apply_async(("x" * 4_000_000,), compression="zlib")), 4_000_000, "compressed arguments")
    equal(get(tasks.size.delay("x" * 4_000_000)), 4_000_000, "large arguments")
    many = [tasks.add.delay(number, 1) for number in range(100)]
    equal([get(result) for result in many], list(range(1, 101)))


def canvas(tasks):
    equal(get(chain(tasks.add.s(1, 2), tasks.add.s(3), tasks.add.s(4))()), 10, "chain")
    equal(get(group(tasks.add.s(number, number) for number in range(10))()), list(range(0, 20, 2)), "group")
    equal(get(chord(tasks.add.s(number, 1) for number in range(10))(tasks.total.s())), 55, "chord")
    equal(get((group(tasks.add.s(1, 1), tasks.add.s(2, 2)) | tasks.total.s() | tasks.add.s(10)).apply_async()), 16)
    equal(get(tasks.add.chunks(zip(range(20), range(20)), 5).group()()), [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18], [20, 22, 24, 26, 28], [30, 32, 34, 36, 38]])
    equal(sorted(get(tasks.add.starmap([(1, 1), (2, 2)]).delay())), [2, 4])


def delays(tasks):
    began = time.time()
    eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=2)
    at, after = tasks.when.apply_async(eta=eta), tasks.when.apply_async(countdown=1)
    for result, due in ((after, began + 1), (at, eta.timestamp())):
        late = get(result) - due
        equal(-0.05 <= late < 5, True, f"done {late} s after it was due")
    expired = tasks.log.apply_async(("expired",), expires=0.5, countdown=1)
    wait_until("the expired task is revoked", lambda: expired.state == "REVOKED")
    equal("expired" in notes(), False)


def retries(tasks):
    equal(get(tasks.unsteady.delay(2)), 2)
    times = [float(line.split()[2]) for line in notes() if line.startswith("try")]
    waits = [later - earlier for earlier, later in zip(times, times[1:])]
    equal(len(waits), 2)
    equal((0.9 <= waits[0] < 6, 1.9 <= waits[1] < 7), (True, True), f"backs off: {waits}")


def late_acks(tasks):
    """What a process of the pool took with it when it was killed is delivered again."""
    equal(get(tasks.killed_once.delay()), True, "redelivered")
    equal([line for line in notes() if line.startswith("killed_once")], ["killed_once False", "killed_once True"])


def rejects(tasks):
    """Reject(requeue=False) dead-letters the task."""
    dead = tasks.REJECTED_QUEUE
    with tasks.app.connection_for_write() as connection:
        channel = connection.channel()
        channel.exchange_declare(f"{tasks.PREFIX}.dead", "fanout", durable=True, auto_delete=False)
        channel.queue_declare(dead, durable=True, auto_delete=False)
        channel.queue_bind(dead, f"{tasks.PREFIX}.dead")
        sent = tasks.refuse.delay()
        letters = []
        wait_until("the dead letter", lambda: letters.append(channel.basic_get(dead, no_ack=True)) or letters[-1])
        headers = letters[-1].headers
        equal((headers["id"], headers["task"]), (sent.id, "application.refuse"))
        equal(headers["x-death"][0]["reason"], "rejected")
        equal(headers["x-death"][0]["queue"], tasks.PREFIX)


def priorities(tasks):
    """What waits in a queue with priorities comes in their order, once a worker with one process consumes it."""
    for number, priority in enumerate((1, 9, 5, 9, 0, 3)):
        tasks.log.apply_async((f"priority {priority} {number}",), queue=tasks.PRIORITY_QUEUE, priority=priority)
    worker = Worker("-Q", tasks.PRIORITY_QUEUE, name="alone", concurrency=1)
    expected = ["priority 9 1", "priority 9 3", "priority 5 2", "priority 3 5", "priority 1 0", "priority 0 4"]
    seen = lambda: [line for line in notes() if line.startswith("priority")]
    wait_until("all priorities", lambda: len(seen()) == len(expected))
    equal(seen(), expected)
    worker.stop()


def main():
    tasks = application()
    worker = Worker("-Q", tasks.PREFIX)
    worker.wait_until_ready()
    for flow in (results, canvas, delays, retries, late_acks, rejects, priorities):
        started = time.monotonic()
        flow(tasks)
        print(f"{flow.__name__}: {time.monotonic() - started:.1f} s")
    worker.stop()


run(main)
