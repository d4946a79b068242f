"""Tasks of the shop: one that fails, and errbacks of both kinds. Each writes down what it was called with."""

from __future__ import annotations

import json
from typing import Any

from celery import shared_task
from redis import Redis

from tests import settings

JOURNAL = "shop:journal"


def note(name: str, **values: Any) -> None:
    with Redis(port=settings.REDIS_PORT, db=4) as connection:
        connection.rpush(JOURNAL, json.dumps({"name": name, **values}))


def family(task: Any) -> dict[str, Any]:
    return {name: getattr(task.request, name) for name in ("args", "parent_id", "root_id")} | {"grouped": bool(task.request.group)}


class OutOfStock(Exception):
    """What the tasks fail with."""


@shared_task(name="shop.fail", ignore_result=True)
def fail(*args: Any, **kwargs: Any) -> None:
    raise OutOfStock("tea", 3)


@shared_task(name="shop.new_style", ignore_result=True)
def new_style(request: Any, exc: BaseException, traceback: str) -> None:
    note(
        "new_style",
        request={name: value for name, value in vars(request).items() if not name.startswith("_")},
        exc=[f"{type(exc).__module__}.{type(exc).__name__}", list(exc.args)],
        traceback=traceback,
    )


@shared_task(name="shop.raises", ignore_result=True)
def raises(request: Any, exc: BaseException, traceback: str) -> None:
    note("raises")
    raise exc


@shared_task(name="shop.sends", ignore_result=True)
def sends(request: Any, exc: BaseException, traceback: str, more: str = "") -> None:
    note("sends", more=more)
    child.delay(1)


@shared_task(name="shop.child", ignore_result=True, bind=True)
def child(self: Any, number: int) -> None:
    note("child", **family(self))


@shared_task(name="shop.any_arguments", ignore_result=True)
def any_arguments(*args: Any) -> None:
    note("any_arguments", count=len(args), first=[type(argument).__name__ for argument in args[:1]])


@shared_task(name="shop.partly_given", ignore_result=True)
def partly_given(first: Any, second: Any = None) -> None:
    note("partly_given", first=type(first).__name__, second=type(second).__name__)


@shared_task(name="shop.task_id", ignore_result=True)
def task_id(failed: str) -> None:
    note("task_id", failed=failed, **family(task_id))


@shared_task(name="shop.bound", ignore_result=True, bind=True)
def bound(self: Any, failed: str, more: str = "") -> None:
    note("bound", failed=failed, more=more, **family(self))
