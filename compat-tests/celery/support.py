"""What the programs here share: a worker of their own, a time limit, names that nobody else uses, clean-up."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

URL = os.environ.get("AMQP_URL", "amqp://localhost")
TIME_LIMIT_SECONDS = 60

_made_queues = []
_made_exchanges = []
_workers = []
_directory = Path(tempfile.mkdtemp(prefix="compat-celery-"))

os.environ.setdefault("COMPAT_CELERY_SUFFIX", secrets.token_hex(6))
os.environ["COMPAT_CELERY_DIRECTORY"] = str(_directory)


def unique_queue(name):
    """A queue name of this run alone; the queue is deleted when the program ends."""
    queue = f"compat.celery.{name}.{os.environ['COMPAT_CELERY_SUFFIX']}"
    _made_queues.append(queue)
    return queue


def unique_exchange(name):
    """An exchange name of this run alone; the exchange is deleted when the program ends."""
    exchange = f"compat.celery.{name}.{os.environ['COMPAT_CELERY_SUFFIX']}"
    _made_exchanges.append(exchange)
    return exchange


def application():
    """The Celery application; what it makes with the broker is deleted when the program ends."""
    import application

    conf = application.app.conf
    _made_queues.extend((application.PREFIX, application.PRIORITY_QUEUE, application.REJECTED_QUEUE))
    _made_exchanges.extend(
        (
            application.PREFIX,
            f"{application.PREFIX}.dead",
            conf.event_exchange,
            f"{conf.control_exchange}.pidbox",
            f"reply.{conf.control_exchange}.pidbox",
        )
    )
    return application


class Worker:
    """A worker with a pool of processes, as its own process group."""

    def __init__(self, *options, name="one", concurrency=2):
        self.name = f"{name}-{os.environ['COMPAT_CELERY_SUFFIX']}@localhost"
        self._log = open(_directory / f"{name}.log", "ab")
        command = [sys.executable, "-m", "celery", "-A", "application", "worker", "--pool", "prefork", "--loglevel", "INFO"]
        command += ["--concurrency", str(concurrency), "--hostname", self.name, "--without-mingle", "--without-gossip"]
        self._process = subprocess.Popen(
            [*command, *options],
            cwd=Path(__file__).parent,
            env=os.environ | {"C_FORCE_ROOT": "1"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _workers.append(self)

    def log(self):
        return (_directory / f"{self.name.split('-')[0]}.log").read_text(errors="replace")

    @property
    def runs(self):
        return self._process.poll() is None

    def wait_until_ready(self):
        wait_until("the worker is ready", lambda: " ready." in self.log() or not self.runs)
        equal(self.runs, True, f"the worker ended:\n{self.log()}")

    def wait_for_end(self, seconds=20):
        return self._process.wait(seconds)

    def stop(self):
        """A warm shutdown: it ends by itself once its tasks are done."""
        self._process.send_signal(signal.SIGTERM)
        equal(self.wait_for_end(), 0, "the worker's exit status")

    def kill(self):
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._log.close()


def notes():
    """What tasks wrote with `note`."""
    path = _directory / "notes"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def restart_broker():
    """Has the broker restarted in good order, by what the runner gives for that."""
    subprocess.run([os.environ["BROKER_RESTART"]], check=True, stdin=subprocess.DEVNULL)


def can_restart_broker():
    return "BROKER_RESTART" in os.environ


def run(main):
    """Runs a program within the time limit; whatever it raises becomes exit status 1."""

    def give_up(_signal, _frame):
        raise TimeoutError(f"still running after {TIME_LIMIT_SECONDS} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TIME_LIMIT_SECONDS)
    try:
        main()
    except BaseException:
        for worker in _workers:
            print(f"--- the log of {worker.name}\n{worker.log()}", file=sys.stderr)
        raise
    finally:
        for worker in _workers:
            worker.kill()
        _delete_what_was_made()
        shutil.rmtree(_directory)


def _delete_what_was_made():
    import kombu

    with kombu.Connection(URL) as connection:
        channel = connection.channel()
        for queue in _made_queues:
            channel.queue_delete(queue)
        for exchange in _made_exchanges:
            channel.exchange_delete(exchange)


def equal(actual, expected, what=""):
    if actual != expected:
        raise AssertionError(f"{what or 'mismatch'}\n  expected: {expected!r}\n  actual:   {actual!r}")


def wait_until(what, condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.05)
