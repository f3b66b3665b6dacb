"""Results over the broker: the backend rpc:// has a reply queue for each client."""

import os

os.environ["COMPAT_CELERY_BACKEND"] = "rpc://"

from celery import group  # The backend is chosen before the application is made.

from support import Worker, application, equal, run


def main():
    tasks = application()
    worker = Worker("-Q", tasks.PREFIX)
    worker.wait_until_ready()
    equal(tasks.add.delay(2, 3).get(timeout=20), 5)
    many = [tasks.add.delay(number, 1) for number in range(200)]
    equal([result.get(timeout=20) for result in many], list(range(1, 201)))
    equal(group(tasks.add.s(number, number) for number in range(10))().get(timeout=20), list(range(0, 20, 2)))
    failed = tasks.fail.delay("on purpose")
    try:
        failed.get(timeout=20)
    except ValueError as error:
        equal(str(error), "on purpose")
    else:
        raise AssertionError("the task's exception was lost")
    worker.stop()


run(main)
