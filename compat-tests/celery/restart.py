"""A worker survives a restart of the broker: it reconnects, works off what waited, and its remote control works again."""

from support import Worker, application, can_restart_broker, equal, notes, restart_broker, run, wait_until


def main():
    if not can_restart_broker():
        print("this broker cannot be restarted from here")
        return
    tasks = application()
    worker = Worker("-Q", tasks.PREFIX, concurrency=1)
    worker.wait_until_ready()
    # One that runs while the broker goes, and two that wait for it: all are persistent.
    tasks.slow_log.delay("interrupted", 2)
    wait_until("the task began", lambda: "begin interrupted" in notes())
    for text in ("waiting one", "waiting two"):
        tasks.log.delay(text)
    restart_broker()
    wait_until("what waited is done", lambda: {"waiting one", "waiting two", "end interrupted"} <= set(notes()), 45)
    equal(tasks.add.delay(1, 2).get(timeout=20), 3, "the producer has reconnected as well")
    equal(tasks.app.control.inspect(timeout=2).ping(), {worker.name: {"ok": "pong"}})
    worker.stop()


run(main)
