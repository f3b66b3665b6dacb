"""Remote control of workers (their own exchanges, reply queues that expire) and the events that they send."""

import threading
import time

from support import Worker, application, equal, notes, run, unique_queue, wait_until

PATIENCE = 20


class Monitor:
    """What a monitor sees of the workers' events."""

    def __init__(self, app):
        self._app, self.events, self._stop = app, [], False
        self.state = app.events.State()
        self._thread = threading.Thread(target=self._capture, daemon=True)
        self._thread.start()

    def _capture(self):
        def on_event(event):
            self.state.event(event)
            self.events.append(event)

        with self._app.connection_for_read() as connection:
            receiver = self._app.events.Receiver(connection, handlers={"*": on_event})
            while not self._stop:
                try:
                    receiver.capture(limit=None, timeout=0.5, wakeup=False)
                except TimeoutError:
                    pass

    def kinds(self, uuid=None):
        return [event["type"] for event in list(self.events) if uuid is None or event.get("uuid") == uuid]

    def stop(self):
        self._stop = True
        self._thread.join()


def pinging(tasks, worker):
    inspect = tasks.app.control.inspect(timeout=1)
    equal(inspect.ping(), {worker.name: {"ok": "pong"}})
    # The same with a destination, and to nobody.
    equal(tasks.app.control.inspect(destination=[worker.name], timeout=1).ping(), {worker.name: {"ok": "pong"}})
    equal(tasks.app.control.inspect(destination=["nobody@localhost"], timeout=0.5).ping(), None)
    equal(tasks.app.control.ping(timeout=1), [{worker.name: {"ok": "pong"}}])


def inspecting(tasks, worker):
    inspect = tasks.app.control.inspect(timeout=1)
    equal("application.add" in inspect.registered()[worker.name], True)
    equal([queue["name"] for queue in inspect.active_queues()[worker.name]], [tasks.PREFIX])
    stats = inspect.stats()[worker.name]
    equal(stats["pool"]["max-concurrency"], 2)
    equal(stats["broker"]["transport"], "amqp")

    running = tasks.slow_log.delay("inspected", 3)
    wait_until("the task began", lambda: "begin inspected" in notes())
    equal([task["id"] for task in inspect.active()[worker.name]], [running.id])
    later = tasks.log.apply_async(("never",), countdown=60)
    wait_until("the task is scheduled", lambda: inspect.scheduled()[worker.name])
    equal([task["request"]["id"] for task in inspect.scheduled()[worker.name]], [later.id])
    tasks.app.control.revoke(later.id)
    wait_until("the task is revoked", lambda: later.id in (inspect.revoked() or {}).get(worker.name, []))
    equal(running.get(timeout=PATIENCE), "inspected")


def commanding(tasks, worker):
    control = tasks.app.control
    equal(control.rate_limit("application.log", "100/s", reply=True, timeout=1), [{worker.name: {"ok": "new rate limit set successfully"}}])
    equal(control.pool_grow(1, reply=True, timeout=2), [{worker.name: {"ok": "pool will grow"}}])
    processes = lambda: control.inspect(timeout=1).stats()[worker.name]["pool"]["processes"]
    wait_until("the pool has grown", lambda: len(processes()) == 3)

    # One more queue, while the worker runs, and without it again.
    extra = unique_queue("extra")
    control.add_consumer(extra, reply=True, timeout=1)
    equal(tasks.log.apply_async(("by the extra queue",), queue=extra).get(timeout=PATIENCE), "by the extra queue")
    control.cancel_consumer(extra, reply=True, timeout=1)
    tasks.log.apply_async(("too late",), queue=extra)

    # A task that runs is ended, its process with it.
    endless = tasks.slow_log.delay("endless", 1000)
    wait_until("the task began", lambda: "begin endless" in notes())
    control.revoke(endless.id, terminate=True, signal="SIGKILL")
    wait_until("it is ended", lambda: endless.state == "REVOKED")
    equal(tasks.add.delay(1, 1).get(timeout=PATIENCE), 2, "the pool works on")
    equal("too late" in notes(), False)


def events(tasks, worker):
    monitor = Monitor(tasks.app)
    tasks.app.control.enable_events()
    wait_until("a heartbeat", lambda: "worker-heartbeat" in monitor.kinds(), 15)
    done, failed = tasks.add.delay(1, 2), tasks.fail.delay("seen by the monitor")
    for result, end in ((done, "task-succeeded"), (failed, "task-failed")):
        wait_until(end, lambda: end in monitor.kinds(result.id))
        # What the program sends and what the worker sends come over different connections.
        equal(sorted(monitor.kinds(result.id)), sorted(["task-sent", "task-received", "task-started", end]))
    equal(monitor.state.tasks.get(done.id).state, "SUCCESS")
    equal(monitor.state.workers[worker.name].alive, True)
    tasks.app.control.shutdown(destination=[worker.name])
    wait_until("worker-offline", lambda: "worker-offline" in monitor.kinds())
    equal(worker.wait_for_end(), 0)
    monitor.stop()


def main():
    tasks = application()
    worker = Worker("-Q", tasks.PREFIX)
    worker.wait_until_ready()
    for flow in (pinging, inspecting, commanding, events):
        started = time.monotonic()
        flow(tasks, worker)
        print(f"{flow.__name__}: {time.monotonic() - started:.1f} s")


run(main)
