"""Celery tasks of the site."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from df_websockets.tasks import trigger_signal
from df_websockets.window_info import WindowInfo

from demo import payloads, targets


@shared_task
def add(x: Any, y: Any) -> Any:
    return x + y


@shared_task
def identity(value: Any) -> Any:
    """Gives a value back, and what Python takes it for."""
    return {"value": value, "ascii": ascii(value)}


@shared_task
def fail(text: str) -> None:
    raise ValueError(text)


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
