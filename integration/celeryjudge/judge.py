"""What a worker of Celery's does with messages, without Redis: one JSON object per message on standard output.

    python judge.py

Each line of standard input is an element of a queue in base64. It goes the way of a real worker's message: kombu's envelope, its
entry in the unacked hash, Celery's consumer and strategy, the arguments pickled for a child process, and the task in the child.
The answer has "fate": "die" (the worker exits, or is stuck), "drop" (logged, no result) or "run", "why", and for "run" the state
of the task, null when none could be stored.
"""

from __future__ import annotations

import base64
import json
import logging
import pickle
import sys
import warnings
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from celery import Celery
from celery.app.trace import build_tracer, trace_task_ret
from celery.exceptions import TaskRevokedError
from celery.worker.consumer import Consumer
from kombu.serialization import prepare_accept_content
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from redis._parsers.encoders import Encoder

logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
app = Celery("judge", broker="memory://", backend="cache+memory://", set_as_current=True)
# What stands on the stack of a worker that pickles: its command line, boot steps and event loop.
FRAMES = 80


@app.task(name="py.echo")
def echo(*args: Any, **kwargs: Any) -> int:
    return len(args) + len(kwargs)


class Dropped(Exception):
    """The consumer has logged a message and gone on."""


def dropped(*args: Any, **_: Any) -> None:
    raise Dropped(repr(args[-1])[:200])


def at_depth(frames: int, call: Any) -> Any:
    return at_depth(frames - 1, call) if frames else call()


class Pool:
    """A pool whose one process is this one."""

    is_green = False

    def apply_async(self, target: Any, args: tuple[Any, ...], **options: Any) -> None:
        for limit in (options["soft_timeout"], options["timeout"]):
            if limit is not None:
                float(limit)
        self.job = at_depth(FRAMES, lambda: pickle.dumps(args))

    def run(self) -> None:
        trace_task_ret(*pickle.loads(self.job), app=app)


class Judge:
    def __init__(self) -> None:
        self.connection = app.connection()
        self.channel = self.connection.channel()
        self.accept = prepare_accept_content(app.conf.accept_content)
        self.pool = Pool()
        self.requests: list[Any] = []
        controller = MagicMock()
        controller.state.revoked = set()
        timer = SimpleNamespace(call_at=lambda at, call, args, **_: call(*args))
        self.consumer = Consumer(
            self.requests.append, init_callback=lambda *_: None, pool=self.pool, app=app, timer=timer, controller=controller,
            hub=None, disable_rate_limits=True,
        )
        self.consumer.event_dispatcher = None
        self.consumer.qos = SimpleNamespace(increment_eventually=lambda: None)
        self.consumer.apply_eta_task = self.requests.append
        self.consumer.call_soon_ack = lambda call, *_: None
        self.consumer.on_unknown_message = self.consumer.on_decode_error = self.consumer.on_invalid_task = dropped
        self.consumer.on_unknown_task = self.unknown
        self.consumer.update_strategies()
        self.handle = self.consumer.create_task_handler()

    def unknown(self, _: Any, message: Any, error: Exception) -> None:
        """What celery.worker.consumer's on_unknown_task needs of a message."""
        self.unknown_task = message.headers["id"], message.headers["task"]

    def judge(self, element: bytes) -> dict[str, Any]:
        self.requests.clear()
        self.unknown_task = None
        try:
            raw = loads(bytes_to_str(element))
            message = self.channel.message_to_python(raw)
            message.accept = self.accept
            info = message.delivery_info
            dumps([message._raw, info["exchange"], info["routing_key"]])
            Encoder("utf-8", "strict", False).encode(message.delivery_tag)
            if message.errors:
                message._reraise_error(dropped)
            self.handle(message)
            for request in self.requests:
                request.execute_using_pool(self.pool)
        except TaskRevokedError:  # celery.worker's _process_task goes on
            return {"fate": "run", "why": "revoked", "state": None}
        except Dropped as why:
            return {"fate": "drop", "why": str(why)}
        except Exception as why:  # noqa: BLE001 - any is the end of a worker
            return {"fate": "die", "why": repr(why)[:200]}
        if self.unknown_task:
            return {"fate": "run", "why": "not registered", "state": None}
        if not self.requests:
            return {"fate": "run", "why": "expired", "state": None}
        try:
            self.pool.run()
            state = app.AsyncResult(self.requests[0].id).state
        except Exception as why:  # noqa: BLE001 - any is the end of a task
            return {"fate": "run", "why": repr(why)[:200], "state": None}
        return {"fate": "run", "why": "", "state": state}


def main() -> None:
    judge = Judge()
    echo.__trace__ = build_tracer(echo.name, echo, app=app)
    for line in sys.stdin:
        print(json.dumps(judge.judge(base64.b64decode(line))), flush=True)


if __name__ == "__main__":
    main()
