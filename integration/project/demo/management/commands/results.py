"""What a Python client gets from the result backend and what is in its tables, for tests of results in the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from celery import chord, group, signature
from celery.result import AsyncResult, GroupResult
from df_websockets.celery import app
from django.core.management.base import BaseCommand
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import ChordCounter, TaskResult

GO_QUEUE = "go-matrix"
TIMEOUT = 20


def go(task: str, *args: Any, **options: Any) -> Any:
    """Signature of a task that Go runs."""
    return signature(task, args=args, queue=GO_QUEUE, app=app, **options)


def python(task: str, *args: Any, **options: Any) -> Any:
    """Signature of a task that Python runs."""
    return signature(f"demo.tasks.{task}", args=args, app=app, **options)


def got(result: Any) -> Any:
    """A result's value, or what it raises."""
    try:
        return result.get(timeout=TIMEOUT, interval=0.05)
    except Exception as error:  # noqa: BLE001 - the test wants to see whatever Python raises
        return f"{type(error).__module__}.{type(error).__qualname__}{error.args!r}"


class Command(BaseCommand):
    help = "Prints as JSON what the action gives: calls, rows or periodic."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("action", choices=["calls", "rows", "periodic"])
        parser.add_argument("argument", nargs="*")

    def handle(self, *args: Any, action: str, argument: list[str], **options: Any) -> None:
        actions: dict[str, Callable[..., Any]] = {"calls": self.calls, "rows": self.rows, "periodic": self.periodic}
        self.stdout.write(json.dumps(actions[action](*argument)))

    def calls(self) -> dict[str, Any]:
        """Calls tasks of both languages, alone and together."""
        saved = group(go("matrix.identity", i) if i % 2 else python("identity", i) for i in range(4)).apply_async()
        saved.save()
        restored = GroupResult.restore(saved.id, app=app)
        failed = go("matrix.fail", "boom").apply_async()
        headers = [[go("matrix.raise", "no"), python("identity", 2)], [go("matrix.identity", 1), python("fail", "no")]]
        # Of the results the ID alone: else their parents raise.
        failed_chords = [chord(header, go("matrix.identity"))().id for header in headers]
        mixed = [python("identity", 1), go("matrix.identity", 2), python("identity", 3)]
        answers = {
            "identity": got(go("matrix.identity", {"é": [1, None]}).apply_async()),
            "raise": got(go("matrix.raise", "no").apply_async()),
            "fail": got(failed),
            "traceback": AsyncResult(failed.id, app=app).traceback,
            "group": got(restored),
            "chord in Go": got(chord(mixed, go("matrix.identity"))()),
            "chord in Python": got(chord(mixed, python("identity"))()),
            "failed chord": [got(AsyncResult(body, app=app)) for body in failed_chords],
            "chain": got((python("add", 1, 2) | go("matrix.add", 3) | python("add", 4)).apply_async()),
        }
        forgotten = go("matrix.add", 1, 2).apply_async()
        answers["forgotten"] = [got(forgotten), forgotten.forget(), len(self.rows("task_id", forgotten.id))]
        for name in ["go", "python"]:
            task = signature("matrix.sleep", args=("mark", 0.01), kwargs={}, app=app)
            if name == "go":
                task.set(queue=GO_QUEUE)
            answers[f"same task in {name}"] = task.apply_async(headers={"periodic_task_name": "é"}).id
        for name in ["go", "python"]:
            answers[f"slept in {name}"] = got(AsyncResult(answers[f"same task in {name}"], app=app))
        answers["chords left"] = ChordCounter.objects.count()
        return answers

    def rows(self, column: str, value: str) -> list[dict[str, Any]]:
        """The rows of results with a value in a column; times as texts."""
        rows = TaskResult.objects.filter(**{column: value}).values()
        return [{k: v if v is None or isinstance(v, (int, str)) else str(v) for k, v in row.items()} for row in rows]

    def periodic(self, name: str, task: str, args: str) -> int:
        """Has a task run every second in Go."""
        every, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
        return PeriodicTask.objects.create(name=name, interval=every, task=task, args=args, queue=GO_QUEUE).pk
