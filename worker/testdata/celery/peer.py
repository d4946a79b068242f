"""Real Celery as the other side of a test: one JSON object per line on standard output.

    python peer.py <what> <broker URL> <result backend URL> [argument …]

What is "cli": runs the command line `celery` for each JSON array of arguments on standard input; "worker": a Celery worker;
"events": what `celery events --dump` does.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time

from celery import Celery, signals
from celery.bin.celery import celery as command_line

app = Celery("peer", broker=sys.argv[2], backend=sys.argv[3], set_as_current=True)
app.conf.update(broker_connection_retry_on_startup=True, task_send_sent_event=True)


def say(**fields: object) -> None:
    print(json.dumps(fields), file=sys.__stdout__, flush=True)


@app.task(name="py.add")
def add(x: int, y: int) -> int:
    return x + y


@app.task(name="py.fail")
def fail(text: str) -> None:
    raise ValueError(text)


@app.task(name="py.sleep")
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@app.task(name="py.progress", bind=True)
def progress(self: object, n: int) -> int:
    self.update_state(state="PROGRESS", meta={"at": n})
    time.sleep(0.5)
    return n


@app.task(name="py.spawn")
def spawn() -> str:
    add.delay(1, 1)
    return "spawned"


def cli() -> None:
    for line in sys.stdin:
        out, code = io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                command_line.main(["--no-color", "-A", "peer.app", *json.loads(line)], prog_name="celery")
            except SystemExit as stop:
                code = stop.code or 0
        say(exit=code, out=out.getvalue())


def worker() -> None:
    @signals.worker_ready.connect
    def ready(**_: object) -> None:
        say(ready=True)

    @signals.task_prerun.connect
    def begun(task_id: str, task: object, **_: object) -> None:
        say(begun=task_id, name=task.name)

    app.worker_main(["--quiet", "worker", "-l", "INFO", *sys.argv[4:]])


def events() -> None:
    say(ready=True)
    command_line.main(["--no-color", "-A", "peer.app", "events", "--dump"], prog_name="celery")


if __name__ == "__main__":
    sys.modules["peer"] = sys.modules["__main__"]
    {"cli": cli, "worker": worker, "events": events}[sys.argv[1]]()
