"""A Celery application whose tasks end in every way there is; main.go has the same tasks.

RELIABILITY_CONF is a JSON object of Celery's settings, RELIABILITY_JOURNAL the URL of the Redis whose list "runs" notes each
run: one JSON object at its start and one at its end.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import redis
from celery import Celery, Task
from celery.exceptions import Ignore, Reject

JOURNAL = redis.Redis.from_url(os.environ["RELIABILITY_JOURNAL"])

app = Celery("reliability", set_as_current=True)
app.conf.update(json.loads(os.environ["RELIABILITY_CONF"]))

# The tasks differ in their options only.
OPTIONS: dict[str, dict[str, Any]] = {
    "rel.early": {},
    "rel.late": {"acks_late": True},
    "rel.strict": {"acks_late": True, "acks_on_failure": False, "acks_on_timeout": False},
    "rel.early_strict": {"acks_on_failure": False, "acks_on_timeout": False, "reject_on_worker_lost": True},
    "rel.lost": {"acks_late": True, "reject_on_worker_lost": True},
    "rel.limited": {"acks_late": True, "rate_limit": "15/m"},
}


def note(task: Task, event: str, mark: str) -> None:
    request = task.request
    JOURNAL.rpush(
        "runs",
        json.dumps(
            {
                "task": task.name,
                "id": request.id,
                "by": "python",
                "event": event,
                "mark": mark,
                "redelivered": bool((request.delivery_info or {}).get("redelivered")),
                "retries": request.retries,
                "at": time.time(),
            }
        ),
    )


def run(self: Task, mark: str, seconds: float = 0, first: str = "") -> str:
    """Sleeps and returns; the first run of a task does what `first` says instead of returning."""
    note(self, "start", mark)
    time.sleep(seconds)
    again = self.request.retries or (self.request.delivery_info or {}).get("redelivered")
    if first and not again:
        end(self, first)
    note(self, "end", mark)
    return f"{mark} done"


def end(task: Task, how: str) -> None:
    if how == "raise":
        raise ValueError("on purpose")
    if how == "reject":
        raise Reject("on purpose", requeue=False)
    if how == "requeue":
        raise Reject("on purpose", requeue=True)
    if how == "ignore":
        raise Ignore()
    if how == "retry":
        raise task.retry(exc=ValueError("on purpose"), countdown=0.1)
    if how == "hang":
        time.sleep(3600)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError(f"no such end: {how}")


for name, options in OPTIONS.items():
    app.task(run, name=name, bind=True, max_retries=3, **options)
