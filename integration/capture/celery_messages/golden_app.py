"""The Celery application under observation: tasks for client and worker processes."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import time

from celery import Celery, signals
from celery.exceptions import Ignore, Reject
from kombu import Exchange, Queue
from kombu.common import Broadcast

HOST = "127.0.0.1"


class CustomError(Exception):
    def __init__(self, code, detail):
        super().__init__(code, detail)


class Outer:
    class NestedError(Exception):
        pass


class Opaque:
    def __repr__(self):
        return "<Opaque thing>"


def make_app(port, **conf):
    url = "redis://%s:%d/0" % (HOST, port)
    app = Celery("golden", broker=url, backend=url, set_as_current=True)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
        broker_connection_timeout=4,
    )
    app.conf.update(conf)

    @app.task(name="demo.add")
    def add(x, y):
        return x + y

    @app.task(name="demo.mul")
    def mul(x, y):
        return x * y

    @app.task(name="demo.xsum")
    def xsum(numbers):
        return sum(numbers)

    @app.task(name="demo.echo")
    def echo(*args, **kwargs):
        return {"args": args, "kwargs": kwargs}

    @app.task(name="demo.nothing", ignore_result=True)
    def nothing():
        return "never stored"

    @app.task(name="demo.fail_value")
    def fail_value(message="boom"):
        raise ValueError(message)

    @app.task(name="demo.fail_custom")
    def fail_custom():
        raise CustomError(42, {"why": "because"})

    @app.task(name="demo.fail_nested")
    def fail_nested():
        raise Outer.NestedError("inner class")

    @app.task(name="demo.fail_opaque")
    def fail_opaque():
        raise RuntimeError(Opaque(), "plain")

    @app.task(name="demo.fail_noargs")
    def fail_noargs():
        raise KeyError()

    @app.task(name="demo.retry_me", bind=True, max_retries=3)
    def retry_me(self, x, y=2):
        raise self.retry(exc=ValueError("try again"), countdown=3600)

    @app.task(name="demo.retry_max", bind=True, max_retries=0)
    def retry_max(self):
        raise self.retry(countdown=1)

    @app.task(name="demo.slow")
    def slow(seconds):
        time.sleep(seconds)
        return seconds

    @app.task(name="demo.late", acks_late=True)
    def late(seconds):
        time.sleep(seconds)
        return seconds

    @app.task(name="demo.progress", bind=True)
    def progress(self):
        self.update_state(state="PROGRESS", meta={"done": 3, "total": 7})
        time.sleep(1.5)
        return "ok"

    @app.task(name="demo.parent", bind=True)
    def parent(self):
        add.delay(1, 1)
        return "parent"

    @app.task(name="demo.replace_me", bind=True)
    def replace_me(self, x):
        raise self.replace(add.s(x, 1000))

    @app.task(name="demo.reject_me", bind=True, acks_late=True)
    def reject_me(self, requeue=False):
        raise Reject("not wanted", requeue=requeue)

    @app.task(name="demo.ignore_me", bind=True)
    def ignore_me(self):
        raise Ignore()

    @app.task(name="demo.on_error_new")
    def on_error_new(request, exc, tb):
        return [request.id, repr(exc)]

    @app.task(name="demo.on_error_old")
    def on_error_old(task_id):
        return task_id

    @app.task(name="demo.limited", rate_limit="2/m")
    def limited():
        return "limited"

    @app.task(name="demo.timed", time_limit=30, soft_time_limit=20)
    def timed():
        return "timed"

    @app.task(name="demo.hard", time_limit=1)
    def hard():
        time.sleep(30)

    @app.task(name="demo.suicide")
    def suicide():
        os._exit(3)

    @app.task(name="demo.ret_types")
    def ret_types():
        return {
            "when": dt.datetime(2024, 2, 29, 12, 30, 45, 123456, tzinfo=dt.timezone.utc),
            "price": decimal.Decimal("1.10"),
            "raw": b"\xff\x00",
        }

    return app


def run_worker(port, spec):
    """Body of a worker process. ``spec``: {'conf': {...}, 'argv': [...]}"""
    app = make_app(port, **spec.get("conf", {}))
    if spec.get("bcast"):
        app.conf.task_queues = (
            Queue("celery", Exchange("celery"), routing_key="celery"),
            Broadcast("bcast_ex", queue="bcast_q"),
        )

    @signals.worker_ready.connect
    def ready(**_):
        print("CAPTURE-READY", flush=True)

    app.worker_main(["--quiet", "worker"] + spec["argv"])
