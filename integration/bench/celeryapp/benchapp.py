"""The Celery application of ``make bench-worker``: one task that does nothing, and the loop that fills its queue.

``celery -A benchapp worker`` runs it; ``python benchapp.py FIRST N`` puts N calls into the queue and prints how
many seconds that took.
"""

import argparse
import os
import time

from celery import Celery
from celery.signals import worker_ready

app = Celery("benchapp", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"])
app.conf.update(
    task_default_queue="bench",
    task_acks_late=os.environ.get("BENCH_ACKS_LATE") == "1",
    broker_connection_retry_on_startup=True,
)


@app.task(name="bench.noop")
def noop(x: int, y: int) -> int:
    return x


@worker_ready.connect
def tell_ready(**_: object) -> None:
    print("bench is ready.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("first", type=int)
    parser.add_argument("n", type=int)
    args = parser.parse_args()
    noop.delay(args.first, 2)  # connects
    start = time.perf_counter()
    for i in range(args.first + 1, args.first + args.n):
        noop.delay(i, 2)
    print((time.perf_counter() - start) / max(args.n - 1, 1) * args.n)


if __name__ == "__main__":
    main()
