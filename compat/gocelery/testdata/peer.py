"""Real Celery as the other side of a test: one JSON object per line on standard output.

    python peer.py client|worker <broker URL> <result backend URL>
"""

from __future__ import annotations

import json
import sys

from celery import Celery, group, signals

TIMEOUT = 30


def say(**fields: object) -> None:
    print(json.dumps(fields), file=sys.__stdout__, flush=True)  # a worker takes sys.stdout for its log


def make_app() -> Celery:
    app = Celery("peer", broker=sys.argv[2], backend=sys.argv[3], set_as_current=True)
    app.conf.update(broker_connection_retry_on_startup=True)
    return app


def outcome(call) -> dict:
    """What a caller sees of a task."""
    result = call()
    try:
        return {"value": result.get(timeout=TIMEOUT)}
    except Exception as error:  # noqa: BLE001
        return {"class": type(error).__name__, "text": str(error), "traceback": result.traceback}


def client(app: Celery) -> None:
    send = app.send_task
    for protocol in (2, 1):
        app.conf.task_protocol = protocol
        say(
            protocol=protocol,
            add=outcome(lambda: send("worker.add", (5456, 2878))),
            whole=outcome(lambda: send("worker.add", (5.0, 2.9))),
            half=outcome(lambda: send("worker.half", (5,))),
            text=outcome(lambda: send("worker.echo", ("ü <&> \U0001f600",))),
            nested=outcome(lambda: send("worker.echo", ([1, None, {"a": [True, 0.5]}],))),
            nan=outcome(lambda: send("worker.isnan", (float("nan"),))),
            kwargs=outcome(lambda: send("worker.kwargs", kwargs={"a": 3, "b": "x"})),
            nothing=outcome(lambda: send("worker.nothing")),
            fails=outcome(lambda: send("worker.fails", ("no luck",))),
            panics=outcome(lambda: send("worker.panics")),
            few=outcome(lambda: send("worker.add", (1,))),
            expired=outcome(lambda: send("worker.add", (1, 2), expires=-10)),
            group=outcome(lambda: group(app.signature("worker.add", (i, i)) for i in range(3)).apply_async()),
        )
    app.conf.task_protocol = 2
    add = app.signature("worker.add", (1, 2))
    say(
        chain=outcome(lambda: (add | app.signature("worker.add", (10,))).apply_async()),
        chord=outcome(lambda: (group([add, add]) | app.signature("worker.count")).apply_async()),
    )


def worker(app: Celery) -> None:
    @app.task(name="peer.add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="peer.fails")
    def fails() -> None:
        raise KeyError("no luck")

    @signals.worker_ready.connect
    def ready(**_: object) -> None:
        say(ready=True)

    app.worker_main(["--quiet", "worker", "-P", "solo", "-n", "py@test", "-l", "WARNING"])


if __name__ == "__main__":
    {"client": client, "worker": worker}[sys.argv[1]](make_app())
