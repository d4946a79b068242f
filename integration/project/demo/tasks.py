"""Celery tasks of the site."""

from __future__ import annotations

import time
from typing import Any

from celery import shared_task
from df_websockets.tasks import trigger_signal
from df_websockets.window_info import WindowInfo

from demo import payloads, targets
from demo.journal import note


@shared_task
def add(x: Any, y: Any) -> Any:
    return x + y


@shared_task
def identity(value: Any) -> Any:
    return value


@shared_task
def measure(value: Any) -> Any:
    """Gives a value back, and what Python takes its members for."""
    return {"value": value, "measured": payloads.for_worker(value)}


@shared_task
def fail(text: str) -> None:
    raise ValueError(text)


@shared_task(name="matrix.sleep")
def matrix_sleep(mark: str, seconds: float) -> str:
    """A task that both languages have, for tests that kill the worker which runs it."""
    note("matrix.sleep:start", None, {"mark": mark})
    time.sleep(seconds)
    note("matrix.sleep:end", None, {"mark": mark})
    return "slept"


@shared_task
def trigger_from_task(
    signal: str,
    to: list[str],
    arguments: dict[str, Any],
    window_info: dict[str, Any] | None = None,
    payload: str | None = None,
) -> None:
    """Triggers a signal the way any task of a site does."""
    if payload is not None:
        arguments = {**arguments, "payload": payloads.BY_NAME[payload]}
    window = None if window_info is None else WindowInfo.from_dict(window_info)
    trigger_signal(window, signal, to=targets.targets(to), kwargs=arguments)
