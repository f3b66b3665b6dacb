"""The Celery application that the programs call and whose workers they start: `celery -A application worker`.

Each run has names, and a directory for results, of its own. They come with the environment, because the workers need the same.
"""

import os
import signal
import time
from pathlib import Path

from celery import Celery
from kombu import Exchange, Queue

SUFFIX = os.environ["COMPAT_CELERY_SUFFIX"]
DIRECTORY = Path(os.environ["COMPAT_CELERY_DIRECTORY"])
QUORUM = os.environ.get("COMPAT_CELERY_QUORUM") == "1"
PREFIX = f"compat.celery.{SUFFIX}"

app = Celery("compat", broker=os.environ.get("AMQP_URL", "amqp://localhost"))
app.conf.update(
    # Chords need results that several processes share, which a reply queue is not.
    result_backend=os.environ.get("COMPAT_CELERY_BACKEND", f"file://{DIRECTORY}"),
    result_chord_retry_interval=0.2,
    result_expires=300,
    broker_connection_retry_on_startup=True,
    broker_heartbeat=2,
    broker_transport_options={"confirm_publish": True},
    task_default_queue=PREFIX,
    task_default_exchange=PREFIX,
    task_default_exchange_type="topic" if QUORUM else "direct",
    task_default_routing_key=PREFIX,
    task_default_queue_type="quorum" if QUORUM else "classic",
    worker_detect_quorum_queues=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    task_send_sent_event=True,
    task_track_started=True,
    worker_cancel_long_running_tasks_on_connection_loss=True,
)
# Its own names for what belongs to all workers of a broker, so that programs do not meet in them.
app.conf.control_exchange = f"{PREFIX}.control"
app.conf.event_exchange = f"{PREFIX}.events"
app.conf.event_queue_prefix = f"{PREFIX}.events"

PRIORITY_QUEUE = f"{PREFIX}.priority"
REJECTED_QUEUE = f"{PREFIX}.rejected"
if not QUORUM:
    exchange = Exchange(PREFIX, "direct")
    app.conf.task_queues = [
        Queue(PREFIX, exchange, routing_key=PREFIX, queue_arguments={"x-dead-letter-exchange": f"{PREFIX}.dead"}),
        Queue(PRIORITY_QUEUE, exchange, routing_key=PRIORITY_QUEUE, max_priority=10),
    ]


def note(text):
    """Writes a line that the program can read, whatever becomes of the worker."""
    with open(DIRECTORY / "notes", "a", encoding="utf-8") as notes:
        notes.write(f"{text}\n")


@app.task
def add(one, other):
    return one + other


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def echo(value):
    return value


@app.task
def when():
    return time.time()


@app.task
def size(blob):
    return len(blob)


@app.task
def fail(text):
    raise ValueError(text)


@app.task(bind=True, autoretry_for=(ConnectionError,), retry_backoff=1, retry_backoff_max=2, retry_jitter=False, max_retries=3)
def unsteady(self, failures):
    """Fails so many times before it succeeds; says when it was tried."""
    note(f"try {self.request.retries} {time.time()}")
    if self.request.retries < failures:
        raise ConnectionError("not yet")
    return self.request.retries


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def killed_once(self):
    """Kills its own process on its first delivery, before the message is acknowledged."""
    redelivered = bool(self.request.delivery_info["redelivered"])
    note(f"killed_once {redelivered}")
    if not redelivered:
        os.kill(os.getpid(), signal.SIGKILL)
    return redelivered


@app.task(bind=True, acks_late=True)
def refuse(self):
    from celery.exceptions import Reject

    raise Reject("of no use", requeue=False)


@app.task
def log(text):
    note(text)
    return text


@app.task(acks_late=True)
def slow_log(text, seconds):
    note(f"begin {text}")
    time.sleep(seconds)
    note(f"end {text}")
    return text
