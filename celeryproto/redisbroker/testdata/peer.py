"""Real Celery as the other side of a test: one JSON object per line on standard output.

    python peer.py <what> <broker URL> <broker_transport_options as JSON>
"""

from __future__ import annotations

import json
import socket
import sys
import time

socket.gethostname = lambda: "peer"

from celery import Celery, signals


def say(**fields: object) -> None:
    print(json.dumps(fields), file=sys.__stdout__, flush=True)  # a worker takes sys.stdout for its log


def make_app() -> Celery:
    app = Celery("peer", broker=sys.argv[2], set_as_current=True)
    app.conf.update(broker_transport_options=json.loads(sys.argv[3]), broker_connection_retry_on_startup=True)

    @app.task(name="peer.add")
    def add(x: int, y: int) -> int:
        return x + y

    return app


def inspect(app: Celery) -> None:
    """Asks the nodes of the test, in all the ways of choosing them."""
    timeout = 0.5
    say(
        all=app.control.inspect(timeout=timeout).ping(),
        destination=app.control.inspect(destination=["go@test"], timeout=5).ping(),
        nobody=app.control.inspect(destination=["other@test"], timeout=timeout).ping(),
        glob=app.control.inspect(pattern="go@t*", matcher="glob", limit=1, timeout=5).ping(),
        pcre=app.control.inspect(pattern="^g[a-z]@", matcher="pcre", limit=1, timeout=5).ping(),
        unmatched=app.control.inspect(pattern="x*", matcher="glob", timeout=timeout).ping(),
        arguments=app.control.broadcast("echo", arguments={"x": [1, None, "ü"]}, destination=["go@test"], reply=True, timeout=5),
        clock=app.control.mailbox.clock.value,
    )


def worker(app: Celery) -> None:
    @signals.worker_ready.connect
    def ready(**_: object) -> None:
        say(ready=True)

    app.worker_main(["--quiet", "worker", "-P", "solo", "-n", "py@test", "-l", "WARNING", "-E"])


def receive_events(app: Celery) -> None:
    """Prints each event that comes, until one of the type test-end."""
    with app.connection_for_read() as connection:

        def on_event(event: dict) -> None:
            say(event=event)
            if event["type"] == "test-end":
                receiver.should_stop = True

        receiver = app.events.Receiver(connection, handlers={"*": on_event})
        receiver.capture(limit=None, timeout=None, wakeup=False)


def send_events(app: Celery) -> None:
    with app.connection_for_write() as connection, app.events.Dispatcher(
        connection, hostname="py@test", buffer_group=frozenset(["task"])
    ) as dispatcher:
        dispatcher.send("worker-heartbeat", freq=2.0, active=1, processed=2, loadavg=[0.1, 0.2, 0.3], sw_ident="x", sw_ver="1", sw_sys="y")
        dispatcher.send("task-started", uuid="a")
        dispatcher.send("task-succeeded", uuid="a", result="'ü'", runtime=0.5)
        dispatcher.flush()
        dispatcher.send("custom-thing", n=10**30, blind=True)
    say(sent=time.time())


if __name__ == "__main__":
    {"inspect": inspect, "worker": worker, "receive-events": receive_events, "send-events": send_events}[sys.argv[1]](make_app())
