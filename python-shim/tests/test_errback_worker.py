"""What dfws.errback does for a task that failed elsewhere is what Celery does for one that fails in its own worker."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, group, signature
from celery.backends.base import Backend
from redis import Redis

from dfws import errbacks
from tests import settings
from tests.conftest import ROOT, Server, entry_of, wait_until
from tests.shop import tasks

# Before Celery 5.7, an errback that raised kept the others from being called, and arguments in a signature did not count.
CATCHES = hasattr(Backend, "_errback_arity_greater")
HOST = "worker@shop"


@pytest.fixture(scope="module")
def worker(redis_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real worker; gives what it has published."""
    folder = tmp_path_factory.mktemp("worker")
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT)}
    environment["DFWS_TEST_DATABASE"] = str(folder / "db.sqlite3")
    arguments = [sys.executable, "-m", "django", "worker", "-Q", "celery", "-c", "1", "--pool", "prefork", "-l", "WARNING", "-n", HOST]
    connection: Any = Redis(port=settings.REDIS_PORT, decode_responses=True)
    connection.flushall()
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            wait_until(lambda: connection.hexists("dfws:registry", "python"), 60)
            yield entry_of(connection)
        finally:
            connection.close()
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def failed_request(message: dict[str, Any]) -> dict[str, Any]:
    """Make what a Go worker knows about a task that it ran, from the task's message."""
    args, kwargs, embed = json.loads(base64.b64decode(message["body"]))
    properties = message["properties"]
    return {
        **message["headers"],
        **embed,
        "args": args,
        "kwargs": kwargs,
        "properties": properties,
        "reply_to": properties["reply_to"],
        "correlation_id": properties["correlation_id"],
        "hostname": HOST,
        "delivery_info": {**properties["delivery_info"], "priority": properties["priority"], "redelivered": False},
        "is_eager": False,
    }


def in_both(app: Celery, redis: Any, journal: Any, links: list[Any], entries: int) -> tuple[list[Any], list[Any]]:
    """Let a task fail in the Python worker, and as if in a Go worker; return what its errbacks wrote down."""
    tasks.fail.apply_async(args=(1,), kwargs={"a": 2}, link_error=links, queue="elsewhere", priority=3, headers={"site": "x"})
    (text,) = redis.lrange("elsewhere\x06\x163", 0, -1)
    message = json.loads(text)
    redis.rpush("celery", text.replace('"elsewhere"', '"celery"'))
    python = journal(entries)
    request = failed_request(json.loads(text.replace('"elsewhere"', '"celery"')))
    app.send_task(
        errbacks.TASK,
        kwargs={
            "request": request,
            "exception": {"exc_type": "OutOfStock", "exc_message": ["tea", 3], "exc_module": "tests.shop.tasks"},
            "traceback": "Traceback (most recent call last): …",
            "errbacks": request["errbacks"],
        },
        root_id=request["root_id"],
        parent_id=request["id"],
        ignore_result=True,
    )
    assert message["headers"]["id"] == request["id"]
    return python, journal(entries)


def same(entries: list[Any]) -> list[Any]:
    """Make two runs comparable: their tracebacks differ, and tasks run in any order."""
    for entry in entries:
        if "traceback" in entry:
            assert entry["traceback"].startswith("Traceback (most recent call last):")
            del entry["traceback"]
    return sorted(entries, key=lambda entry: json.dumps(entry, sort_keys=True))


def test_as_where_the_task_fails_in_python(app: Celery, redis: Any, journal: Any, worker: Any) -> None:
    links = [
        tasks.new_style.s(),
        *([tasks.raises.s()] if CATCHES else []),
        tasks.task_id.s(),
        signature("shop.sends", args=("request", "exc", "traceback"), kwargs={"more": "given"}, immutable=True),
        tasks.sends.s(),
        tasks.bound.s(more="x"),
        tasks.any_arguments.s(),
    ]
    python, go = in_both(app, redis, journal, links, 8 + CATCHES)
    assert same(go) == same(python)
    names = [entry["name"] for entry in python if entry["name"] != "raises"]
    assert sorted(names) == ["any_arguments", "bound", "child", "child", "new_style", "sends", "sends", "task_id"]
    failed = next(entry for entry in go if entry["name"] == "new_style")
    assert failed["exc"] == ["tests.shop.tasks.OutOfStock", ["tea", 3]]
    assert (failed["request"]["args"], failed["request"]["kwargs"]) == ([1], {"a": 2})
    # What an errback sends, and errbacks that are tasks, belong to the task that failed.
    relatives = [entry for entry in go if entry["name"] in ("child", "bound", "task_id")]
    assert {(entry["parent_id"], entry["root_id"]) for entry in relatives} == {(failed["request"]["id"],) * 2}


@pytest.mark.parametrize(
    "link",
    [
        signature("shop.partly_given", args=(5,)),
        signature("shop.partly_given", kwargs={"second": 5}),
        signature("shop.any_arguments", args=(1, 2)),
        group(signature("shop.task_id"), signature("shop.bound")),
    ],
)
def test_kinds(app: Celery, redis: Any, journal: Any, worker: Any, link: Any) -> None:
    """Which kind an errback is, also where it has arguments already, is decided as the installed Celery does."""
    if link.task == "shop.partly_given" and not errbacks.takes_task_id(app, link):
        assert not CATCHES
        pytest.skip("this Celery calls it with too many arguments")
    entries = 2 if link.task == "celery.group" else 1
    python, go = in_both(app, redis, journal, [link], entries)
    assert same(go) == same(python)


def test_worker_publishes(worker: Any) -> None:
    published = worker["errbacks"]
    assert (published["task"], published["queue"]) == ("dfws.errback", "celery")
    assert {"shop.bound", "shop.task_id"} <= set(published["old_style"])
    assert "shop.new_style" not in published["old_style"]
