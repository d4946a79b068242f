"""Work that nobody waits for and that must happen in the end: retried by one thread until Redis took it."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

logger = logging.getLogger("dfws")

FIRST_PAUSE: Final = 0.5
LAST_PAUSE: Final = 30.0
# Revocations waiting for Redis; beyond that the oldest are lost, with an error in the log.
MOST_JOBS: Final = 10_000


class _Queue:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.jobs: OrderedDict[str, Callable[[], object]] = OrderedDict()
        self.running = False
        self.stopped = threading.Event()


_queue = _Queue()


def _forget_parent() -> None:
    global _queue
    _queue = _Queue()


os.register_at_fork(after_in_child=_forget_parent)


def submit(name: str, job: Callable[[], object]) -> None:
    """Run a job soon in this process' own thread, again and again until it raises no error of Redis. A newer job replaces its namesake.

    The thread exists only while there are jobs, and does not keep the process alive: what is left at the end is lost.
    """
    queue = _queue
    with queue.lock:
        queue.jobs.pop(name, None)
        queue.jobs[name] = job
        if len(queue.jobs) > MOST_JOBS:
            lost, _ = queue.jobs.popitem(last=False)
            logger.error("too much is waiting for Redis: %s is lost", lost.partition(":")[0])
        if queue.running:
            return
        queue.running = True
    threading.Thread(target=_work, args=(queue,), name="dfws", daemon=True).start()


def pending() -> int:
    """Return how many jobs wait or run."""
    with _queue.lock:
        return len(_queue.jobs)


def _work(queue: _Queue) -> None:
    pause = FIRST_PAUSE
    while True:
        with queue.lock:
            if not queue.jobs:
                queue.running = False
                return
            name, job = next(iter(queue.jobs.items()))
        try:
            job()
        except (RedisError, OSError) as error:
            if pause == FIRST_PAUSE:
                logger.warning("%s waits for Redis: %s", name.partition(":")[0], type(error).__name__)
            queue.stopped.wait(pause)
            pause = min(2 * pause, LAST_PAUSE)
            continue
        except Exception:
            # A defect or a malformed setting, which time does not heal: it must neither end the thread nor be tried for ever.
            logger.exception("%s failed", name.partition(":")[0])
        pause = FIRST_PAUSE
        with queue.lock:
            if queue.jobs.get(name) is job:
                del queue.jobs[name]
