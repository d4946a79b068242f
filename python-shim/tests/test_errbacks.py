"""The task dfws.errback, and what is published about it. Beside a real worker it is compared with Celery in test_errback_worker."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, signature
from django.test import override_settings

from dfws import apps, background, errbacks, registry
from tests.conftest import entry_of, wait_until
from tests.shop import tasks


def call(app: Celery, links: list[Any], **changes: Any) -> None:
    """Run dfws.errback here, as a worker does."""
    values = {
        "request": {"id": "failed", "root_id": "root", "task": "go.task"},
        "exception": {"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"},
        "traceback": None,
        "errbacks": links,
        **changes,
    }
    app.tasks[errbacks.TASK].apply(kwargs=json.loads(json.dumps(values)), throw=True)


def sent(redis: Any) -> list[tuple[str, Any, Any, Any]]:
    found = []
    for text in reversed(redis.lrange("celery", 0, -1)):
        message = json.loads(text)
        headers = message["headers"]
        found.append((headers["task"], json.loads(base64.b64decode(message["body"]))[0], headers["parent_id"], headers["root_id"]))
    return found


def test_task_that_is_not_known_is_sent_on(app: Celery, redis: Any) -> None:
    call(app, [signature("elsewhere.errback", args=(7,), options={"ignore_result": True})])
    assert sent(redis) == [("elsewhere.errback", ["failed", 7], "failed", "root")]


def test_errback_that_raises_stops_nobody(app: Celery, redis: Any, journal: Any, caplog: pytest.LogCaptureFixture) -> None:
    call(app, [tasks.raises.s(), tasks.new_style.s(), tasks.task_id.s()])
    assert [entry["name"] for entry in journal(2)] == ["raises", "new_style"]
    assert [name for name, *_ in sent(redis)] == ["shop.task_id"]
    assert "shop.raises of task failed raised" in caplog.text


def test_request_has_what_it_was_given(app: Celery, journal: Any) -> None:
    call(app, [tasks.new_style.s()], request={"id": "failed", "delivery_info": None, "timelimit": [3, None]})
    (entry,) = journal(1)
    assert (entry["request"]["delivery_info"], entry["request"]["timelimit"]) == ({}, [3, None])
    assert entry["traceback"] is None


@pytest.mark.parametrize(
    ("exception", "expected"),
    [
        ({"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}, ["builtins.ValueError", ["no"]]),
        ({"exc_type": "Strange", "exc_message": ["no"], "exc_module": "go.errors"}, ["celery.exceptions.Strange", ["no"]]),
        ({"exc_type": "Strange", "exc_message": "no", "exc_module": None}, ["celery.backends.base.Strange", ["no"]]),
        ({}, ["builtins.Exception", []]),
        ({"exc_message": "no"}, ["builtins.ValueError", ["Exception information must include the exception type"]]),
    ],
)
def test_exceptions(app: Celery, exception: dict[str, Any], expected: list[Any]) -> None:
    found = errbacks.rebuild(app, exception)
    assert [f"{type(found).__module__}.{type(found).__name__}", list(found.args)] == expected


def test_exception_that_would_run_something(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    found = errbacks.rebuild(app, {"exc_type": "system", "exc_message": "true", "exc_module": "os"})
    assert type(found).__name__ == "SecurityError"
    assert "cannot be rebuilt" in caplog.text


def test_request_without_id_is_refused(app: Celery) -> None:
    with pytest.raises(ValueError, match="no id"):
        call(app, [], request={})


# --- registry --------------------------------------------------------------------------------------------------------


def test_names(app: Celery) -> None:
    names = errbacks.names_taking_task_id(app)
    assert {"shop.task_id", "shop.bound", "celery.group"} <= set(names)
    assert not {"shop.new_style", "shop.any_arguments", "shop.sends", "shop.partly_given"} & set(names)


def test_queue(app: Celery) -> None:
    assert errbacks.queue(app) == "celery"
    other = Celery("site", set_as_current=False)
    other.conf.task_routes = {"dfws.*": "python-only"}
    assert errbacks.queue(other) == "python-only"


def test_queue_where_the_routers_fail(app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def route(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(app.amqp.router, "route", route)
    assert errbacks.queue(app) == "celery"
    assert "the default queue is used" in caplog.text


def test_only_a_worker_says_how_errbacks_are_called(app: Celery, redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.publish()
    assert entry_of(redis)["errbacks"] is None

    registry.this_is_a_worker(app)
    assert registry.publish()
    published = entry_of(redis)["errbacks"]
    assert (published["task"], published["queue"]) == ("dfws.errback", "celery")
    assert "shop.task_id" in published["old_style"]

    # A process that serves pages leaves it as it is, also where it has other signals to publish.
    registry._process.errbacks = None
    assert not registry.publish()
    monkeypatch.setattr(registry, "site_module", lambda: "other")
    assert registry.publish()
    assert entry_of(redis)["errbacks"] == published

    # Another worker knows better.
    monkeypatch.setattr(errbacks, "queue", lambda app: "other")
    registry.this_is_a_worker(app)
    assert registry.publish()
    assert entry_of(redis)["errbacks"]["queue"] == "other"


ANSWER = {"task": "dfws.errback", "queue": "of the worker", "old_style": []}


def test_two_processes_at_the_same_moment(app: Celery, redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker publishes between another's reading and writing is not lost."""
    parse = registry._parse
    published: list[bool] = []

    def parse_late(text: Any) -> Any:
        if not published:
            published.append(True)
            redis.hset("dfws:registry", "python", json.dumps({"errbacks": ANSWER}))
        return parse(text)

    monkeypatch.setattr(registry, "_parse", parse_late)
    registry.publish()
    assert entry_of(redis)["errbacks"] == ANSWER


@pytest.mark.parametrize(
    "malformed", [5, {}, {**ANSWER, "task": None}, {**ANSWER, "queue": ""}, {**ANSWER, "old_style": "x"}, {**ANSWER, "old_style": [1]}]
)
def test_malformed_answers_are_not_passed_on(redis: Any, malformed: Any) -> None:
    redis.hset("dfws:registry", "python", json.dumps({"errbacks": malformed}))
    registry.publish()
    assert entry_of(redis)["errbacks"] is None


def test_a_worker_repairs_the_registry(app: Celery, redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.this_is_a_worker(app)
    registry.check_now_and_then()
    assert not redis.exists("dfws:registry")  # not so often
    monkeypatch.setattr(registry, "CHECK_PERIOD", 0.0)
    registry.check_now_and_then()
    wait_until(lambda: redis.hexists("dfws:registry", "python"))
    assert entry_of(redis)["errbacks"]["task"] == "dfws.errback"


def test_worker_whose_tasks_cannot_be_asked_starts(app: Celery, redis: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(errbacks, "names_taking_task_id", lambda app: 1 / 0)
    apps._working(sender=SimpleNamespace(app=app))
    wait_until(lambda: redis.hexists("dfws:registry", "python"))
    assert entry_of(redis)["errbacks"] is None
    assert "how errbacks are to be called is not published" in caplog.text


def test_nothing_is_published_when_inactive(app: Celery, redis: Any) -> None:
    with override_settings(DFWS_ENABLED=None):
        apps._working(sender=SimpleNamespace(app=app))
        apps._living()
    assert background.pending() == 0
    assert registry._process.errbacks is None
